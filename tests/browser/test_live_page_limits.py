"""The live page with what no honest run has: hostile text, ten thousand items, a model that says nothing."""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from temporal_token_interceptor import (
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    StreamEnded,
    TokenEvent,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from tests.support.frames import an_origin
from tests.support.gateway_site import fake, site

HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "[click](javascript:window.hacked=3) <a href='javascript:window.hacked=4'>a</a> "
    "</div></article><base href='//elsewhere'><style>*{display:none}</style>"
)
BIDI = "user\u202e\u2066nimda\u2069\u202c\u0007end"
SHOWN = "document.querySelector('#conversation').textContent"
MEGABYTES = 10
ITEMS = int(os.environ.get("TTI_TEST_LIVE_ITEMS", "2000"))


def calls(*texts, tool="search", activity="answer", node="agent"):
    """One attempt that calls a model for each text, and a tool once."""
    origin = an_origin(activity_type=activity, run_id="11111111-first")
    yield AttemptStarted(origin=origin)
    for ordinal, text in enumerate(texts):
        call = Call(
            ordinal=ordinal, id=f"1:{ordinal}", run_id=f"r{ordinal}", node_name=node, path=(), model=node
        )
        yield CallStarted(call=call, origin=origin)
        for index, piece in enumerate([text] if isinstance(text, str) else text):
            yield TokenEvent(piece, node, index, call=call, origin=origin)
        yield CallEnded(call=call, origin=origin)
    yield ToolStarted(name=tool, run_id="t", tool_call_id="tc", node_name=node, origin=origin)
    yield ToolEnded(name=tool, run_id="t", tool_call_id="tc", output=tool, node_name=node, origin=origin)


@asynccontextmanager
async def shown(tab, events, *, stays=False, workflow="a"):
    """The page with a run of these events; it goes on if it `stays`."""
    left = asyncio.Event()

    async def stream(workflow_id):
        for number, event in enumerate(events):
            yield replace(event, cursor=str(Cursor("11111111-first", f"{1_763_640_000_000 + number}-0", 2)))
        if stays:
            await left.wait()
        yield StreamEnded(status="completed", cursor=str(Cursor("11111111-first", "", 999_999_999)))

    async with site(fake(stream)) as served:
        try:
            await tab.open(f"{served.url}/live/{quote(workflow, safe='')}")
            yield served
        finally:
            left.set()
            await tab.open("about:blank")
            await served.quiet()


async def test_hostile_text_is_text(tab):
    """Markup, scripts, links and marks of a model, a tool, a node and an id: shown as they are, and inert."""
    made = calls(HOSTILE, BIDI, tool=HOSTILE, activity=HOSTILE, node=HOSTILE)

    async with shown(tab, made, workflow=HOSTILE):
        await tab.until(f"{SHOWN}.includes('end')")
        text = await tab.evaluate(SHOWN)
        elements = await tab.evaluate(
            "document.querySelectorAll('script:not([src]), img, base, style, [onerror], a[href^=javascript], "
            "main a').length"
        )

        assert HOSTILE in text
        assert "user\ufffd\ufffdnimda\ufffd\ufffd\ufffdend" in text
        assert elements == 0
        assert await tab.evaluate("typeof hacked") == "undefined"
        assert await tab.evaluate("noted") == []


UNSEEN = "ignore\U000e0049\U000e0047\u2062\ufff9\u202ewhat"  # marks, and letters that draw nothing
MARKS = r"/[\u202a-\u202e\u2060-\u206f\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/"


async def test_what_draws_nothing_is_shown(tab):
    """In texts, also in halves of characters, and in each name, tooltip and label of a model's choice."""
    halves = ["a\udb40", "\udc49b", "\ud83d", "\ude00"]

    async with shown(tab, calls(UNSEEN, halves, tool=UNSEEN, activity=UNSEEN, node=UNSEEN), stays=True):
        await tab.until(f"{SHOWN}.includes('😀')")
        await tab.until("document.querySelector('.bars i')?.title")
        texts = await tab.evaluate(
            "[document.title, document.body.textContent, ...[...document.querySelectorAll('*')].flatMap("
            "one => [one.title, one.getAttribute('aria-label')])].filter(Boolean)"
        )
        hidden = await tab.evaluate(f"{json.dumps(texts)}.filter(one => {MARKS}.test(one))")

    assert "ignore" + "\ufffd" * 5 + "what" in texts[1]
    assert "a\ufffdb😀" in texts[1]
    assert sum("ignore" in text for text in texts) >= 2
    assert hidden == []


async def test_what_the_policy_refuses_is_refused(tab):
    """Were there a mistake in the page, a script in a text still would not run: the browser refuses it."""
    async with shown(tab, calls("text")):
        await tab.until(f"{SHOWN}.includes('text')")
        refused = await tab.evaluate(
            "(() => { try { document.body.innerHTML = '<img src=x onerror=hacked=1>'; return '' } "
            "catch (error) { return error.name } })()"
        )
        await tab.evaluate(
            "(() => { const link = document.createElement('a'); link.href = 'javascript:window.hacked=1';"
            " document.body.append(link); link.click() })()"
        )

        assert refused == "TypeError"
        assert await tab.until("noted.length") >= 2
        assert await tab.evaluate("typeof hacked") == "undefined"


async def test_ten_megabytes_are_shown_in_part(tab):
    """The page stays quick: it has the beginning of the text, and the rest on request."""
    piece = "0123456789" * 10_000
    async with shown(tab, calls([piece] * (10 * MEGABYTES))):
        await tab.until("document.querySelector('.more')?.textContent.includes('9,950,000 characters left')")
        begun = time.monotonic()
        await tab.evaluate("document.querySelector('.more').click()")
        await tab.until("document.querySelector('.more').textContent.includes('9,900,000')")

        assert time.monotonic() - begun < 2
        assert await tab.evaluate(f"{SHOWN}.length") < 200_000


async def test_many_items_stay_quick(tab):
    """All are there; a key moves through the tree within a moment, and no frame takes long.

    `make live-page` has ten thousand: 5,000 calls with a text each.
    """
    async with shown(tab, calls(*["a short answer"] * (ITEMS // 2)), stays=True):
        await tab.until(f"document.querySelectorAll('#tree li').length === {ITEMS // 2 + 2}")
        await tab.until(f"document.querySelectorAll('article').length === {ITEMS // 2}")
        longest = await tab.evaluate(
            "new Promise(done => { let last = performance.now(), longest = 0, frames = 0;"
            "const view = document.querySelector('#conversation');"
            "requestAnimationFrame(function frame(now) {"
            " longest = Math.max(longest, now - last); last = now; view.scrollTop = 5000 * (frames % 10);"
            " frames++ < 20 ? requestAnimationFrame(frame) : done(longest) }) })"
        )
        await tab.evaluate("document.querySelector('#tree li').focus()")
        begun = time.monotonic()
        await tab.press("End")
        await tab.until("document.activeElement === document.querySelector('#tree li:last-child')")

        print(f"{ITEMS} items: the longest frame took {longest:.0f} ms")  # noqa: T201 - `make live-page` shows it
        assert time.monotonic() - begun < 2
        assert longest < 1_000  # milliseconds; about 50 on a machine that has nothing else to do


async def test_keys_move_through_the_tree(tab):
    """Down, in, out, and Enter: the item is shown, focused, and in the address."""
    async with shown(tab, calls("one", "two"), stays=True):
        await tab.until("document.querySelectorAll('#tree li').length === 4")
        await tab.evaluate("document.querySelector('#tree li').focus()")

        names = []
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowUp", "Enter"):
            await tab.press(key)
            names.append(
                await tab.evaluate("document.activeElement.dataset.item ?? document.activeElement.id")
            )

        first, second = "m:00000000000000aa:0", "m:00000000000000aa:1"
        assert names == [first, second, "a:00000000000000aa", "t:00000000000000aa:tc", second, second]
        assert await tab.evaluate("document.activeElement.tagName") == "ARTICLE"
        assert await tab.evaluate("decodeURIComponent(location.hash)") == f"#{second}"


async def test_silence_is_shown(tab):
    """A model that says nothing any more: for how long, and in which attempt."""
    async with shown(tab, list(calls("one"))[:3], stays=True):
        shown_as = await tab.until("document.querySelector('#silence').textContent")

    assert shown_as.startswith("no token for ")
    assert shown_as.endswith("(attempt 1)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_less_motion_and_either_scheme(tab, scheme):
    """Both are the system's choice; nothing moves where none is wanted."""
    await tab.emulate(scheme=scheme, motion="reduce")
    async with shown(tab, list(calls("one"))[:3], stays=True):
        await tab.until(f"{SHOWN}.includes('one')")
        ground = await tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        moving = await tab.evaluate("document.getAnimations().length")

    light = sum(int(part) for part in ground.strip("rgb()").split(", ")) > 380
    assert light == (scheme == "light")
    assert moving == 0
