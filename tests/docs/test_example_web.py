"""The FastAPI example over real HTTP: live, resumable, and closed with the tab."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import fastapi.routing
import httpx
import pytest
import uvicorn
from temporalio.client import Client, WorkflowExecutionStatus

from examples.web.app import app
from examples.web.worker import chat_worker
from tests.support.streams import unique

DEADLINE = 20


@dataclass
class Site:
    """The example's app, served on a port."""

    url: str
    server: uvicorn.Server
    temporal: Client

    @property
    def listeners(self) -> str:
        """What the one backend of all tabs says of its readers."""
        source = repr(self.server.lifespan.state["subscriber"]._source)
        [listeners] = re.findall(r"\d+ streams, \d+ listeners", source)
        return str(listeners)


@pytest.fixture
async def site(client, redis_url, monkeypatch):
    """The app and its worker, with the servers of these tests."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
    monkeypatch.setenv("REDIS_URL", redis_url)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    async with chat_worker(client):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or serving.done())
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", server, client)
        server.should_exit = True
        await serving


@pytest.fixture
async def browser(site):
    async with httpx.AsyncClient(base_url=site.url, timeout=DEADLINE) as browser:
        yield browser


async def ask(browser, text="When?"):
    reply = await browser.post("/chats", json={"text": text})
    assert reply.status_code == 201
    return reply.json()["id"]


@asynccontextmanager
async def tab(
    browser, chat, *, params=None, **headers
) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    """A tab of a browser: an iterator over ids and data."""
    async with (
        asyncio.timeout(DEADLINE),
        browser.stream("GET", f"/chats/{chat}/events", params=params, headers=headers) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        async with aclosing(events_of(reply)) as events:
            yield events


async def events_of(reply):
    data = identity = None
    async for line in reply.aiter_lines():
        match line.partition(": "):
            case ("data", _, text):
                data = json.loads(text)
            case ("id", _, identity):
                pass
            case ("", "", "") if data is not None:
                yield identity, data
                data = None


async def read_all(browser, chat, **headers) -> list[tuple[str, dict[str, Any]]]:
    async with tab(browser, chat, **headers) as events:
        return [event async for event in events]


def drawn(events) -> str:
    """The text that stands in a page that obeys what it is told."""
    attempts: dict[str, str] = {}
    for _, news in events:
        if news["kind"] == "take back":
            attempts.pop(news["attempt"], None)
        elif news["kind"] == "token":
            attempts[news["attempt"]] = attempts.get(news["attempt"], "") + news["text"]
    return "".join(attempts.values())


async def until(condition) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nothing tells when a connection is noticed to be gone
            await asyncio.sleep(0.01)


async def test_tokens_come_while_the_model_thinks(site, browser):
    """The first word is in my tab while the workflow runs, and the last event is how it ended."""
    chat = await ask(browser)

    async with tab(browser, chat) as events:
        seen = [await anext(events)]
        running = await site.temporal.get_workflow_handle(chat).describe()
        seen += [event async for event in events]

    assert seen[0][1]["kind"] == "token"
    assert running.status is WorkflowExecutionStatus.RUNNING
    assert seen[-1][1] == {"kind": "end", "status": "completed"}
    assert drawn(seen).endswith(await site.temporal.get_workflow_handle(chat).result())
    [call] = [news for _, news in seen if news["kind"] == "tool call"]
    [result] = [news for _, news in seen if news["kind"] == "tool result"]
    assert (call["name"], call["id"]) == ("timetable", result["id"])
    assert result["output"] == "Lisbon: 09:40, 14:10, 18:30"


async def test_a_reconnecting_browser_gets_exactly_the_rest(browser):
    """My connection breaks in mid-sentence; the last id is sent back. Nothing is lost, or comes twice."""
    chat = await ask(browser)

    async with tab(browser, chat) as events:
        before = [await anext(events) for _ in range(9)]
    after = await read_all(browser, chat, **{"Last-Event-ID": before[-1][0]})

    assert before + after == await read_all(browser, chat)


async def test_the_last_id_is_newer_than_a_cursor_in_the_address(browser):
    """A page that had to connect anew names its cursor in the address; later the browser knows better."""
    chat = await ask(browser)
    whole = await read_all(browser, chat)

    assert await read_all(browser, chat, params={"cursor": whole[4][0]}) == whole[5:]
    header = {"Last-Event-ID": whole[7][0]}
    assert await read_all(browser, chat, params={"cursor": whole[4][0]}, **header) == whole[8:]


async def test_a_retry_takes_its_words_back(site, browser):
    """The first attempt dies in mid-word. What it said is taken back, and the page has the answer once."""
    chat = await ask(browser, "Let the first attempt die")

    events = await read_all(browser, chat)

    kinds = [news["kind"] for _, news in events]
    assert kinds.index("attempt failed") < kinds.index("take back")
    assert "gone alr" in "".join(news.get("text", "") for _, news in events)
    assert "gone alr" not in drawn(events)
    assert drawn(events).endswith(await site.temporal.get_workflow_handle(chat).result())


async def test_tabs_share_one_subscriber_and_leave_nothing(site, browser):
    """Ten tabs of one chat are one stream of one reader; closed in mid-sentence, they are gone at once."""
    chat = await ask(browser)

    async with asyncio.TaskGroup() as tabs:
        opened = [asyncio.Event() for _ in range(10)]
        closing = asyncio.Event()

        async def look(opened: asyncio.Event) -> None:
            async with tab(browser, chat) as events:
                await anext(events)
                opened.set()
                await closing.wait()

        for event in opened:
            tabs.create_task(look(event))
        for event in opened:
            await event.wait()
        together = site.listeners
        closing.set()
    left = await site.temporal.get_workflow_handle(chat).describe()
    await until(lambda: site.listeners == "0 streams, 0 listeners")

    assert together == "1 streams, 10 listeners"
    assert left.status is WorkflowExecutionStatus.RUNNING, "the tabs were closed too late to prove anything"


async def test_a_closed_tab_is_not_a_stop(site, browser):
    """I close the tab; the agent works on. I press Stop; it does not, and the page says so."""
    chat = await ask(browser)
    async with tab(browser, chat) as events:
        await anext(events)

    async with tab(browser, chat) as events:
        await anext(events)
        assert (await browser.post(f"/chats/{chat}/stop")).status_code == 202
        rest = [event async for event in events]

    assert rest[-1][1] == {"kind": "end", "status": "canceled"}


async def test_what_cannot_be_streamed_is_said_before(browser):
    """An unknown chat and a foreign cursor are plain HTTP errors, and not streams that end at once."""
    chat = await ask(browser)

    unknown = await browser.get("/chats/nobody/events")
    foreign = await browser.get(f"/chats/{chat}/events", headers={"Last-Event-ID": "42"})

    assert (unknown.status_code, unknown.json()) == (404, {"detail": "there is no such chat"})
    assert foreign.status_code == 400
    assert "42" in foreign.json()["detail"]
    assert (await browser.get("/chats/nobody")).status_code == 404
    assert (await browser.post("/chats/nobody/stop")).status_code == 404


async def test_a_silent_stream_is_kept_alive(site, browser, monkeypatch):
    """While a model is silent, comments keep proxies from closing my stream; and none may buffer it."""
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.3)  # 15 s otherwise
    handle = await site.temporal.start_workflow("Chat", "?", id=unique("silent"), task_queue="nobody")

    async with browser.stream("GET", f"/chats/{handle.id}/events") as reply:
        first = await anext(reply.aiter_lines())
    await handle.terminate()

    assert first.startswith(":")
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["cache-control"] == "no-cache"


async def test_the_page_asks_for_nothing_from_elsewhere(browser):
    """The page is one file, and the question of a chat survives a reload."""
    page = await browser.get("/")
    chat = await ask(browser, "When does it leave?")

    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=(\S+)", page.text) == ['"data:,">']
    assert "://" not in page.text
    assert (await browser.get(f"/chats/{chat}")).json() == {"question": "When does it leave?"}
