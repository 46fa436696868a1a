"""A gateway over a workflow whose first attempt died in mid-sentence, and what its clients make of it."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from temporalio import activity

from temporal_token_interceptor import TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.views.changes import Change, View
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

EVENT_SOURCE = {"accept": "text/event-stream"}
WORDS = ["Paris ", "has ", "2.1 ", "million."]
TEXT = "".join(WORDS)


@asynccontextmanager
async def served(client, backend, authorize=anyone, **options):
    """A gateway, and an HTTP client of it."""
    quick: dict[str, Any] = {"keep_alive": timedelta(seconds=0.5), "linger": timedelta(seconds=0.1)}
    app = gateway(TokenSubscriber(client, backend), authorize=authorize, **(quick | options))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        try:
            yield app, http
        finally:
            await app.aclose()


@asynccontextmanager
async def half_answered(client, backend):
    """The id of a workflow that has written its first word, and what lets it write the rest."""
    release = asyncio.Event()

    @activity.defn
    async def answers(argument: Any) -> str:
        await ScriptedChatModel.saying("first ").ainvoke("?")
        await release.wait()
        return (await ScriptedChatModel.saying("last").ainvoke("?")).text

    async with streaming_worker(client, backend, [answers]) as queue:
        workflow_id = unique("half")
        handle = await client.start_workflow(
            RunActivity.run,
            args=["answers", None, False, 1, 20.0],  # the only attempt: it does not die of a full machine
            id=workflow_id,
            task_queue=queue,
        )
        try:
            yield workflow_id, release
        finally:
            release.set()
            await handle.result()


def finished(client, backend):
    """The id of a workflow whose first attempt died in mid-sentence."""
    return answered(client, backend, unique("gateway/with a slash"))


@asynccontextmanager
async def answered(client, backend, workflow_id):
    """The same, under an id of one's own."""

    @activity.defn
    async def flaky(argument: Any) -> str:
        pieces = [*WORDS[:2], RuntimeError("lost")] if activity.info().attempt == 1 else WORDS
        return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text

    async with streaming_worker(client, backend, [flaky]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["flaky", None, False, 2], id=workflow_id, task_queue=queue
        )
        yield workflow_id


def events_of(body):
    """Server-sent events: name, id, data."""
    events = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            events.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return events


def lines_of(body):
    """The same of lines of JSON."""
    events = [json.loads(line) for line in body.splitlines()]
    return [
        (event["op"], event.get("cursor", ""), {k: v for k, v in event.items() if k not in ("op", "cursor")})
        for event in events
        if event["op"] != "ping"
    ]


def of_workflow(events, workflow_id):
    """The events of one workflow among others."""
    return [
        (name, cursor, {k: v for k, v in data.items() if k != "workflow"})
        for name, cursor, data in events
        if data.get("workflow") == workflow_id
    ]


def folded(events, view=None):
    """The state that events lead to."""
    view = view or View()
    for name, _, data in events:
        if name == "snapshot":
            view = view_of(data)
        elif name not in ("reconnect", "problem"):
            view.fold(Change(name, **data))
    return view


def view_of(state):
    """The state of a snapshot."""
    view = View()
    view.run, view.status = state["run"], state["status"]
    for item in state["items"]:
        parent, stable = item["parent"], item["stable"]
        view.fold(Change("open", item["id"], item["kind"], parent, stable, data=item["data"]))
        view.fold(Change("grow", item["id"], data=item["text"]))
        if not item["open"]:
            view.fold(Change("close", item["id"], data=item["facts"]))
    return view


def text_of(view):
    """The text that stands."""
    return "".join(item.text for item in view.items.values() if item.kind == "text")


class Listener:
    """One client of an ASGI app, which is shown what comes as it comes; an `httpx` one gets all at the end.

    Attributes:
        text: What came so far.
    """

    def __init__(self, app, path, query="", headers=()):
        self.text = ""
        self._came = asyncio.Event()
        self._leaves = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        self._answering = asyncio.create_task(app(scope, self._receive, self._send))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._leaves.set()
        await asyncio.wait_for(self._answering, 20)

    async def until(self, wanted):
        """Wait for a word."""
        async with asyncio.timeout(20):
            while wanted not in self.text:
                self._came.clear()
                await self._came.wait()

    async def end(self):
        """Wait for the end, and return all events."""
        await asyncio.wait_for(asyncio.shield(self._answering), 20)
        return events_of(self.text)

    async def _receive(self):
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.text += message.get("body", b"").decode()
        self._came.set()
