"""The FastAPI example over real HTTP: live, resumable, and closed with the tab."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from temporalio.client import Client, WorkflowExecutionStatus

from examples.web.app import app
from examples.web.chat import words
from examples.web.worker import chat_worker
from temporal_token_interceptor.views.changes import Change, View

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
async def tab(browser, chat, **headers) -> AsyncIterator[AsyncIterator[tuple[str, str, dict[str, Any]]]]:
    """A tab of a browser: an iterator over ids, names and data."""
    async with (
        asyncio.timeout(DEADLINE),
        browser.stream("GET", f"/streams/v1/workflows/{chat}/events", headers=headers) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        async with aclosing(events_of(reply)) as events:
            yield events


async def events_of(reply):
    data, name, identity = None, "", ""
    async for line in reply.aiter_lines():
        match line.partition(": "):
            case ("data", _, text):
                data = json.loads(text)
            case ("event", _, name):
                pass
            case ("id", _, identity):
                pass
            case ("", "", "") if data is not None:
                yield identity, name, data
                data = None


async def read_all(browser, chat, **headers) -> list[tuple[str, str, dict[str, Any]]]:
    async with tab(browser, chat, **headers) as events:
        return [event async for event in events]


def drawn(events) -> str:
    """The text that stands in a page that folds what it gets, placing nothing twice."""
    view = View()
    for _, name, data in events:
        if name == "snapshot":
            view = View()
            for item in data["items"]:
                view.fold(Change("open", item["id"], item["kind"], item["parent"], data=item["data"]))
                view.fold(Change("grow", item["id"], data=item["text"]))
        else:
            view.fold(Change(name, **data))
    return "".join(item.text for item in view.items.values() if item.kind == "text")


async def first_words(events):
    """Read until a text grows; return what was read."""
    seen = []
    async for event in events:
        seen.append(event)
        if drawn(seen):
            return seen
    raise AssertionError("no text came")


async def until(condition) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nothing tells when a connection is noticed to be gone
            await asyncio.sleep(0.01)


async def test_tokens_come_while_the_model_thinks(site, browser):
    """The first word is in my tab while the workflow runs, and the last event is how it ended."""
    chat = await ask(browser)

    async with tab(browser, chat) as events:
        seen = await first_words(events)
        running = await site.temporal.get_workflow_handle(chat).describe()
        seen += [event async for event in events]

    assert running.status is WorkflowExecutionStatus.RUNNING
    assert seen[-1][1:] == ("end", {"data": "completed"})
    assert drawn(seen).endswith(await site.temporal.get_workflow_handle(chat).result())
    [call] = [data for _, name, data in seen if name == "open" and data["kind"] == "tool_call"]
    [run] = [data for _, name, data in seen if name == "open" and data["kind"] == "tool"]
    [result] = [data for _, name, data in seen if name == "close" and data["id"] == run["id"]]
    assert (call["data"]["name"], call["data"]["tool_call_id"]) == ("timetable", run["data"]["tool_call_id"])
    assert result["data"]["output"] == "Lisbon: 09:40, 14:10, 18:30"


async def test_a_reconnecting_browser_gets_exactly_the_rest(site, browser):
    """My connection breaks in mid-sentence; the last id is sent back. Nothing is lost, or comes twice."""
    chat = await ask(browser)

    async with tab(browser, chat) as events:
        before = await first_words(events)
        while not before[-1][0]:
            before.append(await anext(events))
    after = await read_all(browser, chat, **{"Last-Event-ID": before[-1][0]})

    assert "snapshot" not in [name for _, name, _ in after]
    assert drawn(before + after).endswith(await site.temporal.get_workflow_handle(chat).result())


async def test_a_retry_takes_its_words_back(site, browser):
    """The first attempt dies in mid-word. What it wrote is taken back, and the page has the answer once."""
    chat = await ask(browser, "Let the first attempt die")

    events = await read_all(browser, chat)

    removed = [data["by"] for _, name, data in events if name == "remove"]
    assert [set(by) for by in removed] == [{"attempt", "error"}, {"attempt", "superseded_by"}]
    assert "gone alr" in "".join(data["data"] for _, name, data in events if name == "grow")
    assert "gone alr" not in drawn(events)
    assert drawn(events).endswith(await site.temporal.get_workflow_handle(chat).result())


async def test_tabs_share_one_subscriber_and_leave_nothing(site, browser, monkeypatch):
    """Ten tabs of one chat are one listener of one stream; closed in mid-sentence, they are soon gone."""
    monkeypatch.setattr("examples.web.chat.words", lambda text: words(text) * 100)  # longer than ten tabs
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
        # It reads what is stored first, and then listens.
        await until(lambda: site.listeners == "1 streams, 1 listeners")
        left = await site.temporal.get_workflow_handle(chat).describe()
        closing.set()
    await browser.post(f"/streams/v1/workflows/{chat}/cancel", json={})
    await until(lambda: site.listeners == "0 streams, 0 listeners")

    assert left.status is WorkflowExecutionStatus.RUNNING


async def test_a_closed_tab_is_not_a_stop(site, browser):
    """I close the tab; the agent works on. I press Stop; it does not, and the page shows so."""
    chat = await ask(browser)
    async with tab(browser, chat) as events:
        await anext(events)

    async with tab(browser, chat) as events:
        await anext(events)
        stopped = await browser.post(f"/streams/v1/workflows/{chat}/cancel", json={})
        rest = [event async for event in events]

    assert stopped.status_code == 202
    assert rest[-1][1:] == ("end", {"data": "canceled"})


async def test_what_cannot_be_streamed_is_answered_before(browser):
    """An unknown chat and a foreign cursor are plain HTTP errors, and not streams that end at once."""
    chat = await ask(browser)

    unknown = await browser.get("/streams/v1/workflows/none/events")
    foreign = await browser.get(f"/streams/v1/workflows/{chat}/events", headers={"Last-Event-ID": "42"})

    assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no such chat")
    assert foreign.status_code == 400
    assert "42" in foreign.json()["detail"]
    assert (await browser.get("/chats/none")).status_code == 404
    assert (await browser.post("/streams/v1/workflows/none/cancel", json={})).status_code == 404
    assert (await browser.get("/streams/live")).status_code == 403


async def test_the_page_asks_for_nothing_from_elsewhere(browser):
    """The page is one file and the gateway's script, and the question of a chat survives a reload."""
    page = await browser.get("/")
    chat = await ask(browser, "When does it leave?")
    script = await browser.get("/streams/tti.js")

    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=(\S+)", page.text) == ['"data:,">']
    assert re.findall(r"from \"(\S+)\"", page.text) == ["./streams/tti.js"]
    assert script.status_code == 200
    assert "://" not in page.text
    assert (await browser.get(f"/chats/{chat}")).json() == {"question": "When does it leave?"}
