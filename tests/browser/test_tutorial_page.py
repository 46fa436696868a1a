"""Step 4 of the tutorial: its page in a real Chromium, and what that page is sent."""

import json
import re

import httpx

from tests.docs import test_tutorial
from tests.docs.test_tutorial import APP, FILES, OUTPUTS, WORKER, address

start = test_tutorial.start  # the tutorial's files, and its commands


async def test_tokens_in_the_browser(start, chromium_browser):
    """I press Ask, and the answer grows to its end; another reader leaves, and goes on where it was."""
    async with start(WORKER), start(APP, "--port", "0") as site, chromium_browser.tab() as page:
        url = await address(site)
        await page.open(url)
        await page.until("document.readyState === 'complete' && document.forms.length")
        await page.evaluate("document.forms[0].requestSubmit()")
        chat = await page.until("location.hash.slice(1)")
        async with httpx.AsyncClient(base_url=url, timeout=30) as reader:
            before, after = await read_twice(reader, f"/streams/v1/workflows/{chat}/events")
            document = (await reader.get("/")).text
            live = (await reader.get(f"/streams/live/{chat}")).status_code
        shown = await page.until(
            "document.querySelector('#answer').textContent.endsWith('(completed)') && "
            "document.querySelector('#answer').textContent"
        )
        await page.open("about:blank")

    assert shown.replace("(completed)", "\n-- completed --\n") == OUTPUTS[0]
    assert grown(before + after) + "\n-- completed --\n" == OUTPUTS[0]
    assert re.search(r'event: end\n(id: .+\n)?data: {"data":"completed"}', after)
    assert (document, live) == (FILES["page.html"], 200)


async def read_twice(reader, stream):
    """Read until a text grows and its place was sent; then, with that place, to the end."""
    before = ""
    async with reader.stream("GET", stream) as reply:
        async for piece in reply.aiter_text():
            before += piece
            if "event: grow\nid: " in before:
                break
    last = re.findall(r"^id: (.+)$", before, re.MULTILINE)[-1]
    return before, (await reader.get(stream, headers={"Last-Event-ID": last})).text


def grown(sent):
    """The texts of a stream: of the state that it began with, and what was added."""
    events = re.findall(r"^event: (\w+)\n(?:id: .+\n)?data: (.+)$", sent, re.MULTILINE)
    texts = []
    for name, data in ((name, json.loads(data)) for name, data in events):
        if name == "snapshot":
            texts += [item["text"] for item in data["items"]]
        if name == "grow":
            texts.append(data["data"])
    return "".join(texts)
