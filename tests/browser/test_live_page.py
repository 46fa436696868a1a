"""The live page in a real Chromium, on runs of a real Temporal and Redis."""

from contextlib import AsyncExitStack
from urllib.parse import quote

import httpx
import pytest

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway import connection
from temporal_token_interceptor.gateway.access import Deny
from temporal_token_interceptor.reader.temporal.run_list import RunList
from tests.support.gateway_site import site
from tests.support.live_runs import RIGHT, WRONG, running

SHOWN = "document.querySelector('#conversation').innerText"
STATUS = "document.querySelector('#status').innerText"
STANDING = (
    "[...document.querySelectorAll('#conversation section:not(.gone) .text > .written')]"
    ".map(e => e.textContent).join('')"
)


@pytest.fixture(scope="module")
async def subscriber(client, redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield TokenSubscriber(client, backend)


@pytest.fixture
async def runs(client, redis_url):
    async with running(client, redis_url) as started:
        yield started


@pytest.fixture(scope="module")
async def gateway(subscriber, client):
    async with site(subscriber, list_runs=RunList(client)) as served:
        yield served


@pytest.fixture
async def tab(chromium_browser, gateway):
    async with chromium_browser.tab() as tab:
        await tab.watch()
        yield tab
    await gateway.quiet()


def page_of(served, handle):
    return f"{served.url}/live/{quote(handle.id, safe='')}"


async def test_a_failed_attempt_is_struck_out_and_gone(gateway, runs, tab):
    """I see what the first attempt wrote, then that it is taken back; only the answer stays, once."""
    handle = await runs.start()
    await tab.open(page_of(gateway, handle))
    await tab.until(f"{SHOWN}.includes({WRONG!r})")
    await tab.evaluate(
        "window.struck = false; new MutationObserver(() => { struck ||= Boolean("
        "document.querySelector('#conversation .gone')?.innerText.includes('24 million')) })"
        ".observe(document.querySelector('#conversation'), {subtree: true, attributes: true})"
    )

    runs.release(handle)
    await tab.until(f"{STATUS} === 'completed' && !document.querySelector('.gone')")

    shown = await tab.evaluate(SHOWN)
    assert await tab.evaluate("struck")
    assert "24 million" not in await tab.evaluate("document.body.textContent")
    assert shown.count("Paris has 2.1 million") == 1
    assert "attempt 1 of answers was replaced by attempt 2: 20 characters taken back" in shown
    assert await tab.evaluate("noted") == []


async def test_a_reload_and_a_second_tab_show_the_same(gateway, runs, tab, chromium_browser):
    """In mid-sentence; both go on."""
    handle = await runs.start("counts")
    await tab.open(page_of(gateway, handle))
    await tab.until(f"{STANDING}.includes('7 ')")

    await tab.reload()
    async with chromium_browser.tab() as other:
        await other.open(page_of(gateway, handle))
        await other.until(f"{STANDING}.includes('7 ')")
        await tab.until(f"{STANDING}.includes('7 ')")
        runs.release(handle)
        texts = []
        for one in (tab, other):
            await one.until(f"{STATUS} === 'completed'")
            texts.append(await one.evaluate(STANDING))

    assert texts == [await handle.result()] * 2


async def test_pages_come_back_to_the_next_server(subscriber, runs, tab, chromium_browser, monkeypatch):
    """The server stops while five pages read; at the next they go on: nothing is lost, or comes twice."""
    monkeypatch.setattr(connection, "SPREAD", 200)
    handle = await runs.start("counts")
    async with AsyncExitStack() as stack:
        tabs = [tab, *[await stack.enter_async_context(chromium_browser.tab()) for _ in range(4)]]
        async with site(subscriber) as first:
            for one in tabs:
                await one.open(page_of(first, handle))
            for one in tabs:
                await one.until(f"{STANDING}.includes('7 ')")
        async with site(subscriber, int(first.url.rpartition(":")[2])) as second:
            for one in tabs:
                before = await one.evaluate(STANDING)
                await one.until(f"{STANDING}.length > {len(before) + 20}")
            runs.release(handle)
            for one in tabs:
                await one.until(f"{STATUS} === 'completed'")
            shown = [await one.evaluate(STANDING) for one in tabs]

    assert second.streams >= 5
    assert shown == [await handle.result()] * 5


async def test_stop_asks_temporal_and_shows_how_it_ended(subscriber, client, runs, tab):
    """The button is there because the gateway may cancel; the page shows what Temporal reports."""

    async def cancel(request, target):
        await client.get_workflow_handle(target.workflow_id).cancel()

    handle = await runs.start("counts", attempts=1)
    async with site(subscriber, cancel=cancel) as served:
        await tab.open(page_of(served, handle))
        await tab.until(f"{STANDING}.includes('2 ')")

        await tab.evaluate("document.querySelector('#stop').click()")
        await tab.until(f"{STATUS} === 'canceled'")

        assert await tab.evaluate("document.querySelector('#stop').hidden")
        await tab.open("about:blank")
        await served.quiet()
    runs.release(handle)


async def test_without_cancel_there_is_no_stop(gateway, runs, tab):
    handle = await runs.start()
    await tab.open(page_of(gateway, handle))
    await tab.until(f"{SHOWN}.includes({WRONG!r})")

    assert await tab.evaluate("document.querySelector('#stop').hidden")
    runs.release(handle)
    await handle.result()


async def test_twenty_runs_come_on_one_connection(subscriber, runs, tab):
    """A browser has six connections to a site; the page needs one, and shows each of the runs."""
    handles = [await runs.start() for _ in range(20)]
    rows = "[...document.querySelectorAll('#runs li')]"
    async with site(subscriber) as served:
        await tab.open(f"{served.url}/live?" + "&".join(f"workflow={quote(one.id)}" for one in handles))
        await tab.until(f"{SHOWN}.includes({WRONG!r})")
        for handle in handles:
            runs.release(handle)
        await tab.until(f"{rows}.filter(row => row.className === 'completed').length === 20")
        retried = await tab.evaluate(f"{rows}.filter(row => row.textContent.includes('attempt 2')).length")
        await tab.evaluate(f"{rows}[19].querySelector('a').click()")
        await tab.until(f"{STANDING} === {''.join(RIGHT)!r}")

    assert served.streams == 1
    assert retried == 20


async def test_the_list_has_the_runs_and_a_click_shows_one(gateway, runs, tab):
    """What Temporal lists is there without its address; keyboards reach it, because it is a link."""
    handle = await runs.start()
    link = f"[...document.querySelectorAll('#runs a')].find(a => a.dataset.workflow === {handle.id!r})"
    await tab.open(f"{gateway.url}/live")
    await tab.until(f"{link}?.innerText.includes({handle.id!r})")

    await tab.evaluate(f"{link}.focus()")
    await tab.evaluate(f"{link}.click()")
    await tab.until(f"{SHOWN}.includes({WRONG!r})")
    runs.release(handle)
    await tab.until(f"{link}.innerText.includes('completed')")

    assert await tab.evaluate("location.pathname") == f"/live/{quote(handle.id, safe='')}"
    assert await tab.evaluate("document.querySelector('[aria-current=page]').dataset.workflow") == handle.id


async def test_the_page_is_off_and_asks_who_may_see_it(subscriber):
    """Without `live` there is none; with it, `authorize` is asked for the run, and for the list."""
    asked = []

    async def nobody_may(request, target):
        asked.append((target.workflow_id, target.action))
        return Deny()

    async with (
        site(subscriber, live=False) as off,
        site(subscriber, authorize=nobody_may) as on,
        httpx.AsyncClient() as http,
    ):
        absent = await http.get(f"{off.url}/live")
        refused = [await http.get(f"{on.url}{path}") for path in ("/live", "/live/a%2Fb")]
        script = await http.get(f"{on.url}/live.files/live.js")
        elsewhere = await http.get(f"{on.url}/live.files/..%2fpage.py")

    assert absent.status_code == 404
    assert [answer.status_code for answer in refused] == [403, 403]
    assert asked == [("", "list"), ("a/b", "read")]
    assert (script.status_code, elsewhere.status_code) == (200, 404)
