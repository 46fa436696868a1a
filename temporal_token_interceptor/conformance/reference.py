"""Our own reader over the form of the suite: what the generated cases are compared with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, TextIO

from temporal_token_interceptor.conformance.case import Json, data_of
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import InvalidCursor, ProtocolError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import Decoded, EntryCache
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.run_stream import RunStream
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import entry_id as padded
from temporal_token_interceptor.transport.redis.connection import stored_time


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer each line of requests with a line, until there are no more."""
    with asyncio.Runner() as runner:
        for line in requests:
            answers.write(json.dumps(runner.run(answer_to(json.loads(line)))) + "\n")
            answers.flush()


async def answer_to(request: Json) -> Json:
    """Return what our reader says to a request: the events and the number of skipped entries; or an error."""
    try:
        events, skipped = await events_of(request)
    except InvalidCursor:
        return {"error": "cursor"}
    return {"events": [event.to_json() for event in events], "skipped": skipped}


async def events_of(request: Json) -> tuple[list[Event], int]:
    """Return the events of a request, and the number of skipped entries.

    Raises:
        InvalidCursor: its cursor is none, or of another transport.
    """
    stream = StreamKey(**request["stream"])
    place = Cursor.parse(request["cursor"]) if request["cursor"] is not None else None
    if place is not None and place.transport:
        stored_time(place.transport)  # refuses what is no place in Redis
    source = _Stored(request)
    statistics = ReaderStatistics()
    run = RunStream(
        stream,
        ReadRequest(
            workflow_id=stream.workflow_id, place=place, on_retry="hold" if request.get("hold") else "reset"
        ),
        source,
        None,
        cache=(_SealedEntries if request["sealed"] else EntryCache)(stream, FrameCodec(None, stream)),
        statistics=statistics,
    )
    closing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    closing.set_result(object() if request["closed"] else None)
    events: list[Event] = []
    async with aclosing(run.batches(closing, is_snapshot=not request["closed"])) as batches:
        async for batch in batches:
            events += batch
    return events, statistics.unreadable


class _Stored:
    """A transport whose entries are all there already."""

    read_failures = 0
    last_progress = 0.0

    def __init__(self, request: Json) -> None:
        self._begun = padded(request["begun"]) if request["begun"] is not None else ""
        self._entries = [Entry(padded(entry["id"]), data_of(entry)) for entry in request["entries"]]

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:  # noqa: ARG002 - there is one
        """Iterate over the entries after an id."""
        if rest := [entry for entry in self._entries if entry.id > after]:
            yield rest

    async def last_id(self, stream: StreamKey) -> str:  # noqa: ARG002 - there is one
        """Return the id of the newest entry."""
        return self._entries[-1].id if self._entries else ""

    async def first_id(self, stream: StreamKey) -> str:  # noqa: ARG002 - there is one
        """Return the id of the oldest entry."""
        return self._entries[0].id if self._entries else ""

    async def begun(self, stream: StreamKey) -> str:  # noqa: ARG002 - there is one
        """Return the id of the first entry that the stream ever had."""
        return self._begun

    async def newest_run(self, namespace: str, workflow_id: str) -> str | None:  # noqa: ARG002 - there is one
        """Know of no run."""
        return None

    def stored_time(self, entry_id: str) -> datetime | None:
        """Return when Redis stored an entry."""
        return stored_time(entry_id)

    async def close(self) -> None:
        """Nothing is open."""


class _SealedEntries(EntryCache):
    """Entries that were sealed: the suite shows what a codec has opened."""

    def __init__(self, stream: StreamKey, codec: FrameCodec) -> None:
        super().__init__(stream, codec)
        self._of = stream

    def decoded(self, batch: Sequence[Entry]) -> list[Decoded] | None:
        """Return what each entry holds."""
        return [self._opened_before(entry.data) for entry in batch]

    def _opened_before(self, data: bytes) -> Decoded:
        try:
            return decode(data, self._of, is_opened=True)
        except ProtocolError as error:
            return error
