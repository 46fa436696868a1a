"""One reader's way through the stream of one workflow run: from entries to events, up to a known end.

The end is not in the stream: somebody else (Temporal) says that the run has closed. Then what is stored
by that moment is read to its last entry, and no further.

A reader with a cursor reads from the start all the same, silently: what an event means depends on which
attempts and calls began before it. The stream is bounded, so that is cheap; and it is exact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from temporal_token_interceptor.attempts import Attempts
from temporal_token_interceptor.backends.base import Entry, TokenSource
from temporal_token_interceptor.batches import Entries, Passage
from temporal_token_interceptor.encryption import FrameCodec, is_sealed
from temporal_token_interceptor.errors import ProtocolError, StreamNotFound, TransportUnavailable
from temporal_token_interceptor.events import Event, Gap, Origin
from temporal_token_interceptor.hold import Held
from temporal_token_interceptor.origin import HISTORY
from temporal_token_interceptor.protocol import Cursor, StreamKey, decode
from temporal_token_interceptor.telemetry_reader import SubscriptionTelemetry

logger = logging.getLogger(__name__)

OnRetry = Literal["reset", "hold", "annotate"]
"""What a reader is shown of attempts that did not stand; see `TokenSubscriber.subscribe`."""

# All who read a run in this process get the same entries, at about the same time: each is decoded once.
_decoded = lru_cache(maxsize=256)(decode)

# A reader that got nothing for so long asks whether what it read last is still there. One that is handed
# batch after batch cannot have been overtaken by the trimming.
_OVERTAKEN_AFTER = 1.0

# Places within the last entry: behind all that it holds; the first that a reader adds at the end; the end.
_READ = 998_999_999
_TAIL = 999_000_000
_END = 999_999_999

# The place of the news that the start is missing: before the first entry.
_CUT = 1


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
        source: The transport; None if there is none.
        place: The cursor to go on from; None for the start.
        statistics: Counted into.
        codec: Opens sealed frames.
        history: Read at the end for what no transport has: all of the run, or the last words of an attempt.
        on_retry: What to show of attempts that did not stand.
        before: What stood at the end of a run that this one does again, by activity id.
        telemetry: Is told of each frame; None if nobody listens.
    """

    def __init__(
        self,
        stream: StreamKey,
        source: TokenSource | None,
        place: Cursor | None,
        statistics: ReaderStatistics,
        codec: FrameCodec,
        *,
        history: Entries | None = None,
        on_retry: OnRetry = "reset",
        before: Mapping[str, Origin] | None = None,
        telemetry: SubscriptionTelemetry | None = None,
    ) -> None:
        self._stream = stream
        self._source = source
        self._history = history
        self._place = place
        self._statistics = statistics
        self._codec = codec
        self._telemetry = telemetry
        self._attempts = Attempts(stream.run_id, fencing=on_retry != "annotate", before=before)
        self._held = Held(stream.run_id, before) if on_retry == "hold" else None
        self._sent = None if source is None else Passage(stream, source)
        self._told = None if history is None else Passage(stream, history)
        self._passages = tuple(passage for passage in (self._sent, self._told) if passage is not None)

    @property
    def _last(self) -> str:
        return max((passage.last for passage in self._passages), default="")

    @property
    def end(self) -> str:
        """The cursor of what comes after the last entry, and after all that a reader adds to it."""
        return str(Cursor(self._stream.run_id, self._last, _END))

    @property
    def standing(self) -> Mapping[str, Origin]:
        """The attempt that stands of each activity, by activity id."""
        return self._attempts.standing()

    @property
    def here(self) -> str:
        """The cursor of what comes after the last entry."""
        return str(Cursor(self._stream.run_id, self._last, _READ))

    async def events(self, closing: asyncio.Future[Any]) -> AsyncGenerator[Event]:
        """Iterate over the events, as they come, until the run has closed and all is read.

        Args:
            closing: Done when the run has closed.

        Raises:
            TransportUnavailable: the transport was away for too long.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        async with aclosing(self._stored(closing)) as stored:
            async for event in stored:
                yield event
        for event in self._tail():
            place = self._place
            if place is None or self._last < place.entry or self._is_after_place(self._last, event):
                self._statistics.gaps += isinstance(event, Gap)
                yield event

    async def so_far(self) -> AsyncGenerator[Event]:
        """Iterate over the events that are there now, waiting for none.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        now: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        now.set_result(None)
        async with aclosing(self._stored(now, heals=self._source is None)) as stored:
            async for event in stored:
                yield event

    async def skip(self) -> None:
        """Leave out what is there now.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        entries = self._source or self._history
        if entries is not None and (newest := await entries.last_id(self._stream)):
            self._place = Cursor(self._stream.run_id, newest, _READ)

    async def _stored(self, closing: asyncio.Future[Any], *, heals: bool = True) -> AsyncGenerator[Event]:
        told = self._told if heals else None
        if self._source is not None and self._sent is not None:
            try:
                async with aclosing(self._follow(self._source, self._sent, closing)) as sent:
                    async for event in sent:
                        yield event
            except TransportUnavailable:
                if self._last or told is None or self._resumes_in_transport():
                    raise
                logger.warning("reading stream %r from Temporal's history instead", self._stream.name)
                # What the transport has and cannot tell now is not in history.
                yield self._gap("transport", str(Cursor(self._stream.run_id, "", _CUT)))
        if told is not None and (not self._last or self._attempts.unsettled()):
            async with aclosing(self._heal(told, closing)) as healed:
                async for event in healed:
                    yield event

    async def _heal(self, told: Passage, closing: asyncio.Future[Any]) -> AsyncGenerator[Event]:
        """Iterate over what results told: whole attempts, or last words, that no transport took.

        What a transport has, too, is known by its numbers.
        """
        try:
            async with aclosing(told.batches(closing)) as batches:
                async for batch in batches:
                    for entry in batch:
                        for event in self._news(entry):
                            yield event
        except (TransportUnavailable, StreamNotFound) as error:
            if self._source is None:
                raise
            logger.warning("the history of %r cannot be read: %s", self._stream.name, error)
            told.is_short = True

    def _resumes_in_transport(self) -> bool:
        place = self._place
        return place is not None and bool(place.entry) and not place.entry.startswith(HISTORY)

    async def _follow(
        self, source: TokenSource, sent: Passage, closing: asyncio.Future[Any]
    ) -> AsyncGenerator[Event]:
        """Iterate over what workers sent."""
        if await self._has_lost_its_place(source):
            yield self._gap("transport", str(Cursor(self._stream.run_id, "", _CUT)))
            self._place = Cursor(self._stream.run_id, "", _CUT)
        now = asyncio.get_running_loop().time
        before, arrived = "", now()
        async with aclosing(sent.batches(closing)) as batches:
            async for stored in batches:
                batch = await self._opened(stored) if _sealed(stored) else stored
                if before:
                    # Whoever was that long behind may find that the stream was trimmed, or lost, under it.
                    cut = now() - arrived > _OVERTAKEN_AFTER and await source.first_id(self._stream) > before
                else:
                    cut = self._starts_late(batch[0])
                if cut:
                    self._attempts.cut()
                    yield self._gap(
                        "trimmed", str(Cursor(self._stream.run_id, before, _READ if before else _CUT))
                    )
                before, arrived = batch[-1].id, now()
                for entry in batch:
                    for event in self._news(entry):
                        yield event

    async def _has_lost_its_place(self, source: TokenSource) -> bool:
        """Whether the entry of the cursor is ahead of the whole stream: the transport began anew."""
        place = self._place
        if place is None or not place.entry or place.entry.startswith(HISTORY):
            return False
        return await source.last_id(self._stream) < place.entry

    async def _opened(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        return [
            replace(entry, data=await self._codec.open(entry.data)) if is_sealed(entry.data) else entry
            for entry in batch
        ]

    def _starts_late(self, first: Entry) -> bool:
        """Whether the stream's first entry shows that there were others, which this reader has not read."""
        place = self._place
        if place is not None and (place.entry or place.position):
            return bool(place.entry) and place.entry < first.id
        try:
            return _decoded(first.data).seq > 0
        except ProtocolError:
            return False

    def _tail(self) -> Iterator[Event]:
        """Yield what only the end of the stream tells."""
        position = _TAIL
        if self._held is not None:
            for event in self._held.rest(self._last, position):
                position += 1
                yield event
        for origin in self._attempts.unended():
            # Its worker died, or could not deliver its last words: nobody can know what they were.
            cursor = str(Cursor(self._stream.run_id, self._last, position))
            yield Gap(missing=None, reason="lost", origin=origin, cursor=cursor)
            position += 1
        if any(passage.is_short for passage in self._passages):
            yield Gap(
                missing=None,
                reason="transport",
                cursor=str(Cursor(self._stream.run_id, self._last, position)),
            )

    def _gap(self, reason: Literal["trimmed", "transport"], cursor: str) -> Gap:
        self._statistics.gaps += 1
        return Gap(missing=None, reason=reason, cursor=cursor)

    def _news(self, entry: Entry) -> Iterator[Event]:
        """Return the events that an entry adds, after the cursor."""
        statistics, attempts = self._statistics, self._attempts
        statistics.entries += 1
        try:
            packet = _decoded(entry.data)
            events = attempts.read(entry.id, packet)
            if self._held is not None:
                events = self._held.read(entry.id, events)
        except ProtocolError as error:
            if not statistics.unreadable:
                logger.warning("skipping an entry of stream %r: %s (said once)", self._stream.name, error)
            statistics.unreadable += 1
            return
        if self._telemetry is not None:
            self._telemetry.packet(packet)
        for event in events:
            if self._place is not None and not self._is_after_place(entry.id, event):
                continue
            statistics.gaps += isinstance(event, Gap)
            yield event

    def _is_after_place(self, entry: str, event: Event) -> bool:
        place = self._place
        if place is None or entry > place.entry:
            self._place = None
            return True
        return entry == place.entry and Cursor.parse(event.cursor).position > place.position


def _sealed(batch: Sequence[Entry]) -> bool:
    return any(is_sealed(entry.data) for entry in batch)
