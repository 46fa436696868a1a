"""One reader's way through the stream of one workflow run: from entries to events, up to a known end.

The end is not in the stream: somebody else (Temporal) says that the run has closed. Then what is stored
by that moment is read to its last entry, and no further.

A reader with a cursor reads from the start all the same, silently: what an event means depends on which
attempts and calls began before it. The stream is bounded, so that is cheap; and it is exact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from temporal_token_interceptor.attempts import Attempts
from temporal_token_interceptor.backends.base import Entry, TokenSource
from temporal_token_interceptor.encryption import FrameCodec, is_sealed
from temporal_token_interceptor.errors import ProtocolError, TransportUnavailable
from temporal_token_interceptor.events import Event, Gap
from temporal_token_interceptor.protocol import Cursor, StreamKey, decode

logger = logging.getLogger(__name__)

# How long a reader that knows where the stream ends waits to be handed the entries up to there.
_DRAIN_TIMEOUT = 5.0

# All who read a run in this process get the same entries, at about the same time: each is decoded once.
_decoded = lru_cache(maxsize=256)(decode)

# The place of what a reader adds after the last entry.
_END = 999_999_999


@dataclass(slots=True)
class ReaderStatistics:
    """What readers met: entries of streams, and gaps they reported."""

    entries: int = 0
    unreadable: int = 0
    duplicates: int = 0
    superseded: int = 0
    gaps: int = 0


class RunStream:
    """The events of one run, after a cursor.

    Args:
        stream: The run.
        source: Where its entries come from.
        place: The cursor to go on from; None for the start.
        statistics: Counted into.
        codec: Opens sealed frames.
    """

    def __init__(
        self,
        stream: StreamKey,
        source: TokenSource,
        place: Cursor | None,
        statistics: ReaderStatistics,
        codec: FrameCodec,
    ) -> None:
        self._stream = stream
        self._source = source
        self._place = place
        self._statistics = statistics
        self._codec = codec
        self._attempts = Attempts(stream.run_id)
        self._last = ""

    @property
    def end(self) -> str:
        """The cursor of what comes after the last entry."""
        return str(Cursor(self._stream.run_id, self._last, _END))

    async def events(self, closing: asyncio.Future[Any]) -> AsyncGenerator[Event]:
        """Iterate over the events, as they come, until the run has closed and all is read.

        Args:
            closing: Done when the run has closed.

        Raises:
            TransportUnavailable: the transport was away for too long.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        if await self._has_lost_its_place():
            yield Gap(missing=None, reason="transport", cursor=str(self._place))
            self._place = None
        async with aclosing(self._batches(closing)) as batches:
            async for batch in batches:
                for entry in batch:
                    data = entry.data
                    if is_sealed(data):
                        data = await self._opened(data)
                    for event in self._news(entry, data):
                        yield event
        for origin in self._attempts.unended():
            # Its worker died, or could not deliver its last words: nobody can know what they were.
            yield Gap(missing=None, reason="lost", origin=origin, cursor=self.end)

    async def _has_lost_its_place(self) -> bool:
        """Whether the entry of the cursor is ahead of the whole stream: the transport began anew."""
        if self._place is None or not self._place.entry:
            return False
        return await self._source.last_id(self._stream) < self._place.entry

    async def _batches(self, closing: asyncio.Future[Any]) -> AsyncGenerator[Sequence[Entry]]:
        async with aclosing(self._source.read(self._stream)) as live:
            before = _Before(closing)
            while (batch := await before.next(live)) is not None:
                self._last = batch[-1].id
                yield batch
        end = await self._source.last_id(self._stream)
        async with aclosing(self._source.read(self._stream, self._last)) as rest:
            while self._last < end:
                try:
                    async with asyncio.timeout(_DRAIN_TIMEOUT):
                        batch = await _next(rest)
                except TimeoutError:
                    logger.warning("the end of stream %r could not be read in time", self._stream.name)
                    return
                self._last = batch[-1].id
                yield batch

    async def _opened(self, data: bytes) -> bytes:
        try:
            return await self._codec.open(data)
        except ProtocolError:
            return data  # neither sealed nor a frame: counted where it is decoded

    def _news(self, entry: Entry, data: bytes) -> Iterator[Event]:
        """Return the events that an entry adds, after the cursor."""
        statistics, attempts = self._statistics, self._attempts
        statistics.entries += 1
        try:
            events = attempts.read(entry.id, _decoded(data))
        except ProtocolError as error:
            if not statistics.unreadable:
                logger.warning("skipping an entry of stream %r: %s (said once)", self._stream.name, error)
            statistics.unreadable += 1
            return
        for event in events:
            if self._place is not None and not self._is_after_place(entry, event):
                continue
            statistics.gaps += isinstance(event, Gap)
            yield event

    def _is_after_place(self, entry: Entry, event: Event) -> bool:
        place = self._place
        if place is None or entry.id > place.entry:
            self._place = None
            return True
        return entry.id == place.entry and Cursor.parse(event.cursor).position > place.position


class _Before:
    """Awaits batches in the reader's own task, until a future is done.

    A task for each batch, and `asyncio.wait`, would cost more than all the rest of reading it.
    """

    def __init__(self, closing: asyncio.Future[Any]) -> None:
        self._closing = closing
        self._waiting: asyncio.Timeout | None = None
        closing.add_done_callback(self._interrupt)  # once: with many readers, adding and removing adds up

    async def next(self, source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry] | None:
        """Return the next batch; None, and the source is spent, once the future is done."""
        if self._closing.done():
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await _next(source)
        except TimeoutError:
            if not self._closing.done():
                raise
            return None
        finally:
            self._waiting = None

    def _interrupt(self, closing: asyncio.Future[Any]) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(closing.get_loop().time())


async def _next(source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry]:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise TransportUnavailable(
            "the backend was closed while it was read; resume from the last event's cursor with another"
        ) from None
