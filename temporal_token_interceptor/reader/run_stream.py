"""One reader's way through the stream of one workflow run: from entries to events, up to a known end.

The end is not in the stream: Temporal reports that the run has closed. Then what is stored by that moment is
read to its last entry, and no further.

A reader with a cursor reads from the start all the same, silently: what an event means depends on which
attempts and calls began before it. The stream is bounded, so that is exact and cheap (`skimmed`).

Lists of events leave here, one for each batch of entries; `Subscription` flattens them for the user.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING

from temporal_token_interceptor.errors import ConfigurationError, TokenStreamError, TransportUnavailable
from temporal_token_interceptor.events import Event, Gap, Origin
from temporal_token_interceptor.protocol.cursor import Position
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.catch_up import CatchUp
from temporal_token_interceptor.reader.entry_cache import EntryCache, SilentCodec
from temporal_token_interceptor.reader.entry_decoder import EntryDecoder
from temporal_token_interceptor.reader.entry_parts import parts, skimmed
from temporal_token_interceptor.reader.healing import Healing
from temporal_token_interceptor.reader.live_mark import LiveMark, started_time_in
from temporal_token_interceptor.reader.lost_entries import LostEntries
from temporal_token_interceptor.reader.position import Reach, ReadPosition
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.asking import Closed
from temporal_token_interceptor.reader.temporal.fallback_entries import FallbackEntries
from temporal_token_interceptor.reader.temporal.heartbeats import BEHIND_LIVE, RunHeartbeats
from temporal_token_interceptor.reader.temporal.live_entries import LiveEntries, is_live
from temporal_token_interceptor.reader.until_closed import Cut, Entries, UntilClosed, has_closed
from temporal_token_interceptor.telemetry.subscription import SubscriptionTelemetry
from temporal_token_interceptor.transport.base import Entry, TimedSource, TokenSource

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.temporal.history import RunHistory

logger = logging.getLogger(__name__)

Batches = AsyncGenerator[list[Event]]
"""Lists of events."""


class RunStream:
    """The events of one run, after a cursor; for one reader.

    Args:
        stream: The run.
        request: How it is to be read.
        source: The transport; None if there is none.
        history: Read at the end for what no transport has, or all along where there is none.
        heartbeats: Read while the run lives: with a transport, while that delivers nothing.
        cache: Opens and decodes entries, for all readers of the run.
        statistics: Counted into.
        before: What stood at the end of a run that this one does again.
        telemetry: Receives each frame; None where telemetry is off.
    """

    def __init__(
        self,
        stream: StreamKey,
        request: ReadRequest,
        source: TokenSource | None,
        history: RunHistory | None,
        heartbeats: RunHeartbeats | None = None,
        *,
        cache: EntryCache,
        statistics: ReaderStatistics,
        before: Sequence[Origin] = (),
        telemetry: SubscriptionTelemetry | None = None,
    ) -> None:
        place = request.place
        self._stream = stream
        self._source = source
        self._history = history
        self._heartbeats = heartbeats if history is not None else None
        self._cache = cache
        self._statistics = statistics
        self._catch_up = CatchUp(request.on_caught_up)
        self._reads_all = not (request.skips if place is None else place.entry or place.position)
        was_live = place is not None and bool(place.live)
        begins = was_live and source is not None and request.on_retry == "hold"
        self._shares = place is None and self._reads_all and request.on_retry == "reset" and not before
        self._reads_all |= begins
        self._where = ReadPosition(stream.run_id, None if begins else place)
        self._decoder = EntryDecoder(
            stream,
            self._where,
            statistics,
            on_retry=request.on_retry,
            before=before,
            telemetry=telemetry,
            stored_time=source.stored_time if isinstance(source, TimedSource) else None,
        )
        self._is_away = self._is_gone = False
        self._left: datetime | None = None  # when the attempt began of which something is to come again
        if place is not None and was_live:
            if source is not None and not begins:
                mark = LiveMark(place.live, place.position if place.is_from_live else Position.END)
                self._decoder.resume(mark)
                self._where.live.furthest = mark.whole  # in all cursors from now on
                return
            # Heartbeats keep no order among activities, and not for long: what the cursor is in comes again.
            self._left = started_time_in(place.live) if place.position < Position.TAIL else None
            self._decoder.attempts.again = True

    @property
    def end(self) -> str:
        """The cursor of what comes after the last entry, and after all that a reader adds to it."""
        return self._where.here(Position.END)

    @property
    def here(self) -> str:
        """The cursor of what comes after the last entry."""
        return self._where.here(Position.READ)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was found, in either place, and nothing was out of reach."""
        return self._where.has_found_nothing and not (self._is_away or self._is_gone)

    @property
    def standing(self) -> Sequence[Origin]:
        """The attempt that stands of each activity."""
        return self._decoder.state.standing()

    async def batches(self, closing: asyncio.Future[Closed | None], *, is_snapshot: bool = False) -> Batches:
        """Iterate over the events, as they come, until the run has closed and all is read.

        Args:
            closing: Done when the run has closed; or, with None, when it is to be read no further.
            is_snapshot: Whether only what is stored now is wanted: no look at the history of a run that has
                a transport, and no word on what the end of the stream shows.

        Raises:
            TransportUnavailable: the transport was away for too long.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        history = None if is_snapshot and self._source is not None else self._history
        self._cache.readers += 1
        self._shares &= self._cache.readers > 1 and self._decoder.share(self._cache.events)
        try:
            for batches in self._places(closing, history):
                async with aclosing(batches):
                    async for events in batches:
                        yield events
        finally:
            self._cache.readers -= 1
            self._decoder.count()
        self._decoder.check_opened()
        if not is_snapshot and (tail := self._tail(has_closed=has_closed(closing))):
            yield tail

    def so_far(self) -> Batches:
        """Iterate over the events that are stored now, waiting for none.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        now: asyncio.Future[Closed | None] = asyncio.get_running_loop().create_future()
        now.set_result(None)
        return self.batches(now, is_snapshot=True)

    async def skip(self) -> None:
        """Leave out what is there now, in the transport and in the history.

        A transport that is away is not asked again: what it has would be taken for new.

        Raises:
            TransportUnavailable: the transport was away for too long, and there is no history.
        """
        if self._heartbeats is not None and self._source is None:
            self._where.live.resume(BEHIND_LIVE)
            await self._read(self._where.live, await self._heartbeats.now())
            self._where.live = Reach()
        if self._history is not None:
            self._where.history.resume(await self._history.now())
        if self._source is not None:
            try:
                self._where.transport.resume(await self._source.last_id(self._stream))
            except TokenStreamError as error:
                if self._history is None:
                    raise
                self._note_away(error)

    # ------------------------------------------------------------------ where to read

    def _places(
        self, closing: asyncio.Future[Closed | None], history: RunHistory | None
    ) -> Iterator[Batches]:
        """Yield what is to be read, one after the other: each choice depends on what was read before."""
        if self._source is not None and not self._is_away:
            yield self._follow(self._source, closing, history)
        if self._is_away and self._heartbeats is None:
            yield self._missing_transport()  # what it has, and cannot deliver now, is not in history
        if history is None:
            return
        if self._source is None or self._is_away:
            beats, counts = self._heartbeats, not self._where.has_read_transport
            live = history.live(
                counts=counts, on_scheduled=None if beats is None else beats.activity_scheduled
            )
            yield self._follow_history(live if beats is None else LiveEntries(beats, live), closing)
            if self._is_away and beats is not None:
                yield self._healing(history).check_all_settled()
        elif has_closed(closing) or not self._where.transport.last or self._decoder.state.unsettled():
            yield self._healing(history).all(self._stream.name)

    def _is_away_by(self, error: TokenStreamError) -> bool:
        """Whether history has to do: Redis was never there, or refuses this stream: another program's key."""
        was_there = isinstance(error, TransportUnavailable) and self._where.transport.furthest
        return not (was_there or isinstance(error, SilentCodec | ConfigurationError))

    def _note_away(self, error: TokenStreamError) -> None:
        self._is_away = True
        logger.warning("reading stream %r from Temporal's history: %s", self._stream.name, error)

    async def _missing_transport(self) -> Batches:
        has_read = self._where.transport.at
        place = self._where.here(Position.READ) if has_read else self._where.start
        yield [self._gap("transport", place)]

    # ------------------------------------------------------------------ the transport

    async def _follow(
        self, source: TokenSource, closing: asyncio.Future[Closed | None], history: RunHistory | None
    ) -> Batches:
        """Iterate over what workers sent."""
        reach = self._where.transport
        recalls = self._history if self._where.has_read_history else None
        entries: Entries = source if (beats := self._heartbeats) is None else FallbackEntries(source, beats)
        lost = LostEntries(source, self._stream, reach, self._cache, reads_all=self._reads_all)
        try:
            yield await self._placed(lost)
            before = reach.last
            await self._catch_up.begin(source, self._stream)
            async with UntilClosed(entries, self._stream, reach, closing, self._catch_up) as reading:
                while (batch := await reading.next()) is not None:
                    if entries is not source and is_live(batch):
                        yield await self._read(self._where.live, batch)
                        continue
                    if not before or reading.doubt:
                        yield await self._cut(lost, before, batch[0], reading.doubt)
                    before = batch[-1].id
                    if recalls is not None and before > reach.mark:
                        count = bisect_right(batch, reach.mark, key=lambda entry: entry.id)
                        async with aclosing(self._recalled(recalls, batch[:count])) as recalled:
                            async for events in recalled:
                                yield events
                        recalls, batch = None, batch[count:]
                    if self._shares:
                        events, batch = self._decoder.follow(batch)
                        yield events
                    for part in self._parts(batch):
                        decoded = self._cache.decoded(part) or await self._cache.opened(part)
                        yield self._decoder.read(reach, part, decoded)
            yield await self._gone(lost, before)
        except TokenStreamError as error:
            if history is None or not self._is_away_by(error):
                raise
            self._note_away(error)

    async def _placed(self, lost: LostEntries) -> list[Event]:
        """Begin behind what others have read alike; or from the start, where the cursor's place was lost."""
        if not await lost.cursor():
            return self._decoder.take_all()
        self._where.transport.resume("", Position.GAP)
        self._decoder.attempts.again = True
        return [self._gap("transport", self._where.behind("", Position.GAP))]

    async def _recalled(self, history: RunHistory, old: Sequence[Entry]) -> Batches:
        """Iterate over what history had before the transport was read on: it is read on from there."""
        yield await self._read(self._where.transport, old)
        up_to = self._where.history.mark
        async with aclosing(self._healing(history).results(up_to=up_to)) as results:
            async for events in results:
                yield events

    async def _gone(self, lost: LostEntries, before: str) -> list[Event]:
        """Return a `Gap` where the stream that is empty was not."""
        self._is_gone = not before and await lost.all()
        return [self._gap("trimmed", self._where.behind("", Position.GAP))] if self._is_gone else []

    async def _cut(self, lost: LostEntries, before: str, first: Entry, doubt: Cut | None) -> list[Event]:
        """Return a `Gap` if there were entries between two, or before the first, that were not read."""
        reason = await lost.between(before, first, doubt)
        if reason is None:
            return []
        self._decoder.attempts.cut(reason)
        if not before and lost.was_reported(first):
            return []
        return [self._gap(reason, self._where.behind(before, Position.READ if before else Position.GAP))]

    def _parts(self, batch: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
        if not self._where.transport.has_passed:
            batch = skimmed(batch, self._where.transport, self._cache, self._decoder)
        return (batch,) if len(batch) == 1 else parts(batch)

    async def _read(self, reach: Reach, batch: Sequence[Entry]) -> list[Event]:
        if reach is not self._where.transport:
            decoded = self._cache.from_history(batch)
        else:
            decoded = self._cache.decoded(batch) or await self._cache.opened(batch)
        return self._decoder.read(reach, batch, decoded)

    # ------------------------------------------------------------------ the history

    async def _follow_history(self, entries: Entries, closing: asyncio.Future[Closed | None]) -> Batches:
        """Iterate over what results hold, as activities complete; and over what heartbeats hold before.

        What was read in heartbeats is known in the result by its numbers.
        """
        reach = self._where.history
        async with UntilClosed(entries, self._stream, reach, closing, self._catch_up) as reading:
            while (batch := await reading.next()) is not None:
                if events := await self._read(self._where.live if is_live(batch) else reach, batch):
                    yield events

    def _healing(self, history: RunHistory) -> Healing:
        return Healing(history, self._where, self._decoder, self._cache)

    # ------------------------------------------------------------------ the end

    def _tail(self, *, has_closed: bool) -> list[Event]:
        """Return what only the end of the stream shows, but for what the cursor is behind."""
        # Of a run that goes on, a reader that resumes gets what is held once it has succeeded: whole.
        tail = self._decoder.rest(Position.TAIL) if has_closed else []
        for origin, reason in self._decoder.state.doubtful().items():
            cursor = self._where.here(Position.TAIL + len(tail))
            tail.append(Gap(missing=None, reason=reason, origin=origin, cursor=cursor))
        is_lost = self._left is not None and not self._decoder.state.has_begun(self._left)
        if is_lost or self._where.transport.is_short or self._where.history.is_short:
            cursor = self._where.here(Position.TAIL + len(tail))
            tail.append(Gap(missing=None, reason="transport", cursor=cursor))
        new = [event for event in tail if not self._where.is_known(event.cursor)]
        self._statistics.gaps += sum(isinstance(event, Gap) for event in new)
        return new

    def _gap(self, reason: Cut, cursor: str) -> Gap:
        self._statistics.gaps += 1
        return Gap(missing=None, reason=reason, cursor=cursor)
