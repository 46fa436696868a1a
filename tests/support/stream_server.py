"""A small HTTP server that sends streams as the gateway does, and misbehaves as it is asked to."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Self
from urllib.parse import unquote

from temporal_token_interceptor.gateway.encoder import NativeEvents
from temporal_token_interceptor.views.changes import Change
from temporal_token_interceptor.views.projector import Projector
from tests.support.projected import a_stream, flat, folded, projected

_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"


class StreamServer:
    """Serves `/MODE/v1/workflows/SEED/events`; the stream is made of the seed, and always ends.

    And `/v1/events` for several, whose connections are cut again and again; `999` is refused there.

    Attributes:
        url: Its address.
        requests: How often each path was asked for.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if head.startswith("post "):
                    length = int(head.partition("content-length: ")[2].split()[0])
                    await self._serve_many(writer, json.loads(await reader.readexactly(length))["workflows"])
                    return
                _, mode, *_, workflow, _ = unquote(head.split()[1]).split("/")
                self.requests[f"{mode}/{workflow}"] += 1
                cursor = next(
                    (line.split(": ")[1] for line in head.split("\r\n") if line.startswith("last-event-id")),
                    "",
                )
                assert "accept: text/event-stream, application/problem+json" in head
                answer = Answer(writer, mode, int(workflow), self.requests[f"{mode}/{workflow}"], cursor)
                await answer.send()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_many(self, writer: asyncio.StreamWriter, wanted: dict[str, dict[str, str]]) -> None:
        """Send some changes of each workflow, in turn, and their places; then cut the connection."""
        self.requests["many"] += 1
        random = Random(f"many/{self.requests['many']}")
        every = {workflow: changes_of(int(workflow)) for workflow in wanted if workflow != "999"}
        begin = {workflow: _place(every[workflow], wanted[workflow].get("cursor", "")) for workflow in every}
        sent = {workflow: random.randint(begin[workflow], len(every[workflow])) for workflow in every}
        writer.write(_STREAM + NativeEvents().begin())
        if "999" in wanted:
            writer.write(NativeEvents("999").problem(403, "not yours"))
        for workflow, changes in every.items():
            for change in changes[begin[workflow] : sent[workflow]]:
                writer.write(NativeEvents(workflow).encode([change]))
        places = [_last(every[one][: sent[one]]) if one in every else "" for one in wanted]
        if random.random() < 0.7:  # places are sent now and then: without them some comes twice
            writer.write(NativeEvents().place(places))
        await writer.drain()


class Answer:
    """One answer to a client that comes for the `turn`-th time, with a cursor or none."""

    def __init__(
        self, writer: asyncio.StreamWriter, mode: str, workflow: int, turn: int, cursor: str
    ) -> None:
        self._writer = writer
        self._mode = mode
        self._turn = turn
        self._random = Random(f"{mode}/{workflow}/{turn}")
        changes = changes_of(workflow)
        self._begin = _place(changes, cursor)
        self._changes = changes
        self._encoder = NativeEvents()

    async def send(self) -> None:
        """Send it."""
        match self._mode, self._turn:
            case "refused", _:
                await self._problem(403, b'{"status":403,"detail":"not yours"}')
            case "page", _:
                await self._write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"
                )
            case "away", 1 | 2:
                await self._problem(503, b"away", b"Retry-After: 0\r\n")
            case "over", 2:
                await self._write(b"HTTP/1.1 204 No Content\r\n\r\n")
            case _:
                await self._stream()

    async def _stream(self) -> None:
        rest = self._changes[self._begin :]
        await self._write(_STREAM + self._encoder.begin())
        if self._mode == "late":
            rest = await self._state_and(rest)
        few = self._length(rest)
        body = self._encoder.encode(rest[:few])
        size = 7 if self._mode == "pieces" else len(body) or 1  # any bytes can come apart
        for place in range(0, len(body), size):
            await self._write(body[place : place + size])
        if few < len(rest):
            await self._leave()

    async def _state_and(self, rest: list[Change]) -> list[Change]:
        """Send the state at some place; return what follows it."""
        cut = self._random.randint(0, len(rest))
        at = folded(self._changes[: self._begin + cut])
        await self._write(self._encoder.late(at, _last(rest[:cut])))
        return rest[cut:]

    def _length(self, rest: list[Change]) -> int:
        """Return how many changes are sent: up to a cursor, as every write of the gateway."""
        if self._mode in {"plain", "pieces", "late", "away"}:
            return len(rest)
        cursors = [place for place, change in enumerate(rest, 1) if change.cursor]
        if self._mode == "over":
            return cursors[-2]
        least = len(self._changes) // 4
        return next((place for place in cursors if place > self._random.randint(0, 2 * least)), len(rest))

    async def _leave(self) -> None:
        """End the stream before the workflow has ended."""
        match self._mode:
            case "again":
                await self._write(self._encoder.reconnect(self._random.choice([0, 30]), "draining"))
            case "silent":
                await asyncio.sleep(60)
            case "broken":
                await self._write(b'event: problem\ndata: {"status":500,"detail":"the codec failed"}\n\n')
            case "cut":
                self._writer.transport.abort()

    async def _problem(self, status: int, body: bytes, headers: bytes = b"") -> None:
        length = f"Content-Length: {len(body)}\r\n".encode()
        await self._write(b"HTTP/1.1 %d Bad\r\n" % status + headers + length + b"\r\n" + body)

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def changes_of(seed: int) -> list[Change]:
    """The changes of a stream that ends: of the first seed from this one on, in steps of 1,000, that does."""
    while True:
        changes = flat(projected(a_stream(Random(seed)), Projector)[0])
        if changes and changes[-1].op == "end":
            return changes
        seed += 1_000


def _place(changes: list[Change], cursor: str) -> int:
    """Return how many changes a client with a cursor has; header values are compared in lower case."""
    places = [
        place for place, one in enumerate(changes, 1) if cursor and one.cursor.lower() == cursor.lower()
    ]
    return places[-1] if places else 0


def _last(changes: list[Change]) -> str:
    return next((change.cursor for change in reversed(changes) if change.cursor), "")
