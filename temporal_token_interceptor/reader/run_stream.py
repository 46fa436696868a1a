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
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from temporal_token_interceptor.encryption import FrameCodec, SilentCodec, is_sealed
from temporal_token_interceptor.errors import ProtocolError, StreamNotFound, TransportUnavailable
from temporal_token_interceptor.events import Event, Gap, Origin
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.hold_policy import Held
from temporal_token_interceptor.reader.position import EVERYTHING, NOTHING, Reach, Whereabouts, position_of
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.results import Result
from temporal_token_interceptor.reader.temporal.workflow_end import Closed
from temporal_token_interceptor.reader.until_closed import Entries, batches
from temporal_token_interceptor.telemetry.subscription import SubscriptionTelemetry
from temporal_token_interceptor.transport.base import Entry, TokenSource

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.temporal.history import RunHistory

logger = logging.getLogger(__name__)

OnRetry = Literal["reset", "hold", "annotate"]
"""What a reader is shown of attempts that did not stand; see `TokenSubscriber.subscribe`."""

# All who read a run in this process get the same entries, at about the same time: each is decoded once.
_decoded = lru_cache(maxsize=256)(decode)

# A reader that got nothing for so long asks whether what it read last is still there. One that is handed
# batch after batch cannot have been overtaken by the trimming.
_OVERTAKEN_AFTER = 1.0

# Places within the last entry: behind all that it holds, and the first that a reader adds at the end.
_READ = 998_999_999
_TAIL = 999_000_000

# The place of the news that the start is missing: before the first entry.
_CUT = 1


class RunStream:
    """The events of one run, after a cursor.

    Args:
        stream: The run.
        source: The transport; None if there is none.
        place: The cursor to go on from; None for the start.
        statistics: Counted into.
        codec: Opens sealed frames.
        history: Read at the end for what no transport has, or all along where there is none.
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
        history: RunHistory | None = None,
        on_retry: OnRetry = "reset",
        before: Mapping[str, Origin] | None = None,
        telemetry: SubscriptionTelemetry | None = None,
    ) -> None:
        self._stream = stream
        self._source = source
        self._history = history
        self._statistics = statistics
        self._codec = codec
        self._telemetry = telemetry
        self._attempts = Attempts(stream.run_id, fencing=on_retry != "annotate", before=before)
        self._held = Held(stream.run_id, before) if on_retry == "hold" else None
        self._is_new = place is None or not (place.entry or place.position)
        self._where = Whereabouts(stream.run_id, place)
        self._sent, self._told = self._where.sent, self._where.told
        self._is_away = False

    @property
    def end(self) -> str:
        """The cursor of what comes after the last entry, and after all that a reader adds to it."""
        return self._where.here(EVERYTHING)

    @property
    def here(self) -> str:
        """The cursor of what comes after the last entry."""
        return self._where.here(_READ)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was found, in either place, and nothing was out of reach."""
        found = self._sent.furthest or self._told.furthest
        return not (found or self._is_away or self._sent.is_short or self._told.is_short)

    @property
    def standing(self) -> Mapping[str, Origin]:
        """The attempt that stands of each activity, by activity id."""
        return self._attempts.standing()

    async def events(self, closing: asyncio.Future[Closed | None]) -> AsyncGenerator[Event]:
        """Iterate over the events, as they come, until the run has closed and all is read.

        Args:
            closing: Done when the run has closed; or, with None, when it is to be read no further.

        Raises:
            TransportUnavailable: the transport was away for too long.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        try:
            async with aclosing(self._stored(closing)) as stored:
                async for event in stored:
                    yield event
        finally:
            self._statistics.duplicates += self._attempts.statistics.duplicates
            self._statistics.superseded += self._attempts.statistics.superseded
        for event in self._tail(has_closed=_has_closed(closing)):
            if not self._where.is_known(event.cursor):
                self._statistics.gaps += isinstance(event, Gap)
                yield event

    async def so_far(self) -> AsyncGenerator[Event]:
        """Iterate over the events that are there now, waiting for none.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        now: asyncio.Future[Closed | None] = asyncio.get_running_loop().create_future()
        now.set_result(None)
        async with aclosing(self._stored(now, heals=self._source is None)) as stored:
            async for event in stored:
                yield event

    async def skip(self) -> None:
        """Leave out what is there now, be it in the transport or in the history.

        A transport that is away is not asked again: what it has would be taken for new.

        Raises:
            TransportUnavailable: the transport was away for too long, and there is no history.
        """
        if self._history is not None:
            self._told.resume(await self._history.now())
        if self._source is not None:
            try:
                self._sent.resume(await self._source.last_id(self._stream))
            except TransportUnavailable:
                if self._history is None:
                    raise
                self._is_away = True

    async def _stored(
        self, closing: asyncio.Future[Closed | None], *, heals: bool = True
    ) -> AsyncGenerator[Event]:
        history = self._history if heals else None
        if self._source is not None and not self._is_away:
            try:
                async with aclosing(self._follow(self._source, closing)) as sent:
                    async for event in sent:
                        yield event
            except TransportUnavailable as error:
                if self._sent.furthest or history is None or isinstance(error, SilentCodec):
                    raise
                self._is_away = True
        if self._is_away:
            logger.warning("reading stream %r from Temporal's history instead", self._stream.name)
            # What the transport has and cannot tell now is not in history.
            yield self._gap("transport", self._where.start)
        if history is not None:
            async with aclosing(self._recorded(history, closing)) as recorded:
                async for event in recorded:
                    yield event

    def _recorded(self, history: RunHistory, closing: asyncio.Future[Closed | None]) -> AsyncGenerator[Event]:
        """Iterate over what history tells: all along, or what is missing now."""
        if self._source is None or self._is_away:
            return self._follow_history(history.live(counts=not self._where.resumed), closing)
        looks = _has_closed(closing) or not self._sent.last or self._attempts.unsettled()
        return self._heal(history if looks else None)

    async def _follow_history(
        self, entries: Entries, closing: asyncio.Future[Closed | None]
    ) -> AsyncGenerator[Event]:
        """Iterate over what results tell, as activities complete."""
        async with aclosing(batches(entries, self._stream, self._told, closing)) as told:
            async for batch in told:
                for entry in batch:
                    for event in self._news(self._told, entry):
                        yield event

    async def _heal(self, history: RunHistory | None) -> AsyncGenerator[Event]:
        """Iterate over what results tell that no transport took: whole attempts, or last words.

        What a transport has, too, is known by its numbers.
        """
        if history is None:
            return
        try:
            async with aclosing(self._results(history)) as told:
                async for event in told:
                    yield event
        except (TransportUnavailable, StreamNotFound) as error:
            logger.warning("the history of %r cannot be read: %s", self._stream.name, error)
            self._told.is_short = True

    async def _results(self, history: RunHistory, *, up_to: str | None = None) -> AsyncGenerator[Event]:
        # Who resumes may have been given by the transport what it has no more, or be given it yet.
        counts = up_to is None and not self._where.resumed
        for result in await history.results():
            if up_to is None or result.id <= up_to:
                for entry in await self._missing(result, counts=counts):
                    for event in self._news(self._told, entry):
                        yield event

    async def _missing(self, result: Result, *, counts: bool) -> Sequence[Entry]:
        """Return what a result tells of an attempt that did not say here how it completed."""
        if self._attempts.is_settled(result.activity_id, result.attempt, result.started_time):
            return ()
        told = await result.told()
        return [*told.frames, *(told.counted if counts else ())]

    async def _follow(
        self, source: TokenSource, closing: asyncio.Future[Closed | None]
    ) -> AsyncGenerator[Event]:
        """Iterate over what workers sent."""
        if await self._has_lost_its_place(source):
            self._sent.resume("", _CUT)
            yield self._gap("transport", self._where.behind("", _CUT))
        now = asyncio.get_running_loop().time
        before, arrived = "", now()
        recalls = self._history if self._where.was_told else None
        async with aclosing(batches(source, self._stream, self._sent, closing)) as sent:
            async for stored in sent:
                batch = await self._opened(stored) if _sealed(stored) else stored
                if before:
                    # Whoever was that long behind may find that the stream was trimmed, or lost, under it.
                    cut = now() - arrived > _OVERTAKEN_AFTER and await source.first_id(self._stream) > before
                else:
                    cut = self._starts_late(batch[0])
                if cut:
                    self._attempts.cut()
                    yield self._gap("trimmed", self._where.behind(before, _READ if before else _CUT))
                before, arrived = batch[-1].id, now()
                for entry in batch:
                    if recalls is not None and entry.id > self._sent.mark:
                        # History had told this before the transport was read on, and it tells on from there.
                        async with aclosing(self._results(recalls, up_to=self._told.mark)) as recalled:
                            async for event in recalled:
                                yield event
                        recalls = None
                    for event in self._news(self._sent, entry):
                        yield event

    async def _has_lost_its_place(self, source: TokenSource) -> bool:
        """Whether the entry of the cursor is ahead of the whole stream: the transport began anew."""
        mark = self._sent.mark
        return bool(mark) and await source.last_id(self._stream) < mark

    async def _opened(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        return [
            replace(entry, data=await self._codec.open(entry.data)) if is_sealed(entry.data) else entry
            for entry in batch
        ]

    def _starts_late(self, first: Entry) -> bool:
        """Whether the stream's first entry shows that there were others, which this reader has not read."""
        if self._sent.mark:
            return self._sent.mark < first.id
        try:
            return self._is_new and _decoded(first.data).seq > 0
        except ProtocolError:
            return False

    def _tail(self, *, has_closed: bool) -> Iterator[Event]:
        """Yield what only the end of the stream tells."""
        position = _TAIL
        # Of a run that goes on, whoever resumes is told of what is held once it has succeeded: whole.
        if self._held is not None and has_closed:
            for event in self._held.rest(self._where.entry, position):
                position += 1
                yield event
        for origin in self._attempts.unended():
            yield Gap(missing=None, reason="unended", origin=origin, cursor=self._where.here(position))
            position += 1
        if self._sent.is_short or self._told.is_short:
            yield Gap(missing=None, reason="transport", cursor=self._where.here(position))

    def _gap(self, reason: Literal["trimmed", "transport"], cursor: str) -> Gap:
        self._statistics.gaps += 1
        return Gap(missing=None, reason=reason, cursor=cursor)

    def _news(self, reach: Reach, entry: Entry) -> Iterator[Event]:
        """Return the events that an entry adds, after the cursor."""
        statistics, attempts = self._statistics, self._attempts
        statistics.entries += 1
        where, known = self._where, reach.enter(entry.id)
        place = where.in_sent(entry.id) if reach is self._sent else where.in_told(entry.id)
        try:
            packet = _decoded(entry.data)
            events = attempts.read(place, packet)
            if self._held is not None:
                events = self._held.read(place, events)
        except ProtocolError as error:
            if not statistics.unreadable:
                logger.warning("skipping an entry of stream %r: %s (said once)", self._stream.name, error)
            statistics.unreadable += 1
            return
        if self._telemetry is not None:
            self._telemetry.packet(packet)
        for event in events:
            if known != NOTHING and position_of(event.cursor) <= known:
                continue
            statistics.gaps += isinstance(event, Gap)
            yield event


def _has_closed(closing: asyncio.Future[Closed | None]) -> bool:
    """Whether the run has closed, and not only its reader had enough, or failed to learn."""
    return closing.exception() is None and closing.result() is not None


def _sealed(batch: Sequence[Entry]) -> bool:
    return any(is_sealed(entry.data) for entry in batch)
