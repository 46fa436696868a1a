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
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from temporal_token_interceptor.attempts import Attempts
from temporal_token_interceptor.backends.base import Entry, TokenSource
from temporal_token_interceptor.errors import ProtocolError, TransportUnavailable
from temporal_token_interceptor.events import Event, Gap
from temporal_token_interceptor.protocol import Cursor, StreamKey, decode
from temporal_token_interceptor.telemetry_reader import SubscriptionTelemetry

logger = logging.getLogger(__name__)

# How long a reader that knows where the stream ends waits to be handed the entries up to there.
_DRAIN_TIMEOUT = 5.0

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
        telemetry: Is told of each frame; None if nobody listens.
    """

    def __init__(
        self,
        stream: StreamKey,
        source: TokenSource,
        place: Cursor | None,
        statistics: ReaderStatistics,
        telemetry: SubscriptionTelemetry | None = None,
    ) -> None:
        self._stream = stream
        self._source = source
        self._place = place
        self._statistics = statistics
        self._telemetry = telemetry
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
        """
        if await self._has_lost_its_place():
            yield Gap(missing=None, reason="transport", cursor=str(self._place))
            self._place = None
        async with aclosing(self._batches(closing)) as batches:
            async for batch in batches:
                for entry in batch:
                    for event in self._news(entry):
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
        end: str | None = None
        async with aclosing(self._source.read(self._stream)) as source:
            coming: asyncio.Task[Sequence[Entry]] | None = None
            try:
                while end is None or self._last < end:
                    coming = coming or asyncio.ensure_future(anext(source))
                    if end is None:
                        await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
                        if closing.done():
                            end = await self._source.last_id(self._stream)
                    else:
                        await asyncio.wait({coming}, timeout=_DRAIN_TIMEOUT)
                        if not coming.done():
                            logger.warning(
                                "the end of stream %r could not be read in time", self._stream.name
                            )
                            return
                    if coming.done():
                        batch, coming = _result(coming), None
                        self._last = batch[-1].id
                        yield batch
            finally:
                if coming is not None:
                    coming.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration, TransportUnavailable):
                        await coming

    def _news(self, entry: Entry) -> Iterator[Event]:
        """Return the events that an entry adds, after the cursor."""
        statistics, attempts = self._statistics, self._attempts
        statistics.entries += 1
        try:
            packet = decode(entry.data)
            events = attempts.read(entry.id, packet)
        except ProtocolError as error:
            if not statistics.unreadable:
                logger.warning("skipping an entry of stream %r: %s (said once)", self._stream.name, error)
            statistics.unreadable += 1
            return
        if self._telemetry is not None:
            self._telemetry.packet(packet)
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


def _result(coming: asyncio.Task[Sequence[Entry]]) -> Sequence[Entry]:
    try:
        return coming.result()
    except StopAsyncIteration:
        raise TransportUnavailable(
            "the backend was closed while it was read; resume from the last event's cursor with another"
        ) from None
