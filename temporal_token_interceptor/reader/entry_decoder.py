"""From decoded entries to the events of one reader: filtered by attempt, held, counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from temporal_token_interceptor.errors import CodecMismatch, ProtocolError
from temporal_token_interceptor.events import Event, Gap, Origin
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Cursor, Position, position_of
from temporal_token_interceptor.protocol.frames import Packet, check_time
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import Decoded
from temporal_token_interceptor.reader.hold_policy import Held
from temporal_token_interceptor.reader.live_mark import LiveMark
from temporal_token_interceptor.reader.position import Reach, ReadPosition
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.reader.shared_events import Made, SharedEvents, SharedPlace
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.telemetry.subscription import SubscriptionTelemetry
from temporal_token_interceptor.transport.base import Entry

logger = logging.getLogger(__name__)

# So many frames that cannot be opened, and none that can, are no accident.
_HOPELESS = 8


def _now() -> datetime:
    return datetime.now(UTC)


class EntryDecoder:
    """Turns the entries of one run, from either place, into the events that come after the cursor.

    Args:
        stream: The run.
        where: Where the reader stands; updated with each entry.
        statistics: Counted into.
        on_retry: What to show of attempts that did not stand.
        before: What stood at the end of a run that this one does again.
        telemetry: Receives each frame; None where telemetry is off.
        stored_time: When the transport stored an entry, by its id; None where ids do not show that.
        now: The time, by this reader's clock.
    """

    def __init__(
        self,
        stream: StreamKey,
        where: ReadPosition,
        statistics: ReaderStatistics,
        *,
        on_retry: OnRetry = "reset",
        before: Sequence[Origin] = (),
        telemetry: SubscriptionTelemetry | None = None,
        stored_time: Callable[[str], datetime | None] | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._own = Attempts(stream.run_id, fencing=on_retry != "annotate", before=before)
        self._shared: SharedPlace | None = None
        self._held = Held(stream.run_id) if on_retry == "hold" else None
        self._prefix = Cursor.prefix(stream.run_id)
        self._stream = stream
        self._where = where
        self._resumed: LiveMark | None = None
        self._statistics = statistics
        self._telemetry = telemetry
        self._stored_time = stored_time
        self._now = now
        self._is_readable = False
        self._unopened: list[Event] = []
        self._mismatch: CodecMismatch | None = None

    def share(self, events: SharedEvents) -> bool:
        """Read with others that read the run alike; return whether that is possible.

        Only before anything is read, from the start of the run, and to take back what is superseded.
        """
        self._shared = events.enter()
        return self._shared is not None

    @property
    def attempts(self) -> Attempts:
        """Which attempts were read, and which of them stand; what is changed there is this reader's alone."""
        if self._shared is not None:
            self._own, self._shared = self._shared.part(), None
        return self._own

    @property
    def state(self) -> Attempts:
        """The same, only to be looked at."""
        return self._own if self._shared is None else self._shared.state

    def take_all(self) -> list[Event]:
        """Return the events of all entries of the transport that other readers have read, from the start."""
        made = () if self._shared is None else self._shared.take_all()
        if made:
            self._where.transport.last = made[-1].entry.id
        return self._taken(made)

    def follow(self, batch: Sequence[Entry]) -> tuple[list[Event], Sequence[Entry]]:
        """Return the events of entries of the transport that other readers have read, and the other entries.

        Args:
            batch: The entries.
        """
        where = self._where
        if self._shared is None or where.history.furthest or where.live.furthest or self._unopened:
            return [], batch
        made = self._shared.follow(batch)
        return self._taken(made), batch[len(made) :]

    def _taken(self, made: Sequence[Made]) -> list[Event]:
        if not made:
            return []
        reach = self._where.transport
        reach.at = reach.furthest = made[-1].entry.id
        self._statistics.entries += len(made)
        self._statistics.gaps += sum([each.gaps for each in made])
        self._is_readable = True
        if self._telemetry is not None:
            for each in made:
                self._telemetry.packet(each.packet)
        return [event for each in made for event in each.events]

    def read(self, reach: Reach, batch: Sequence[Entry], decoded: Sequence[Decoded]) -> list[Event]:
        """Return the events that entries add, after the cursor.

        Args:
            reach: The place that they come from: one of those of `where`.
            batch: The entries.
            decoded: What they hold, by `EntryCache`.

        Raises:
            CodecMismatch: not one of the first frames can be read.
        """
        where, statistics = self._where, self._statistics
        is_alone = reach is where.transport and not (where.history.furthest or where.live.furthest)
        front = "" if is_alone else where.front(reach)
        events: list[Event] = []
        statistics.entries += len(batch)
        for entry, packet in zip(batch, decoded, strict=True):
            known: int = Position.BEFORE
            if reach.has_passed:
                reach.at = reach.furthest = entry.id
            else:
                known = reach.enter(entry.id)
            place = front + entry.id
            if isinstance(packet, Packet):
                if self._resumed is not None:
                    known = max(known, self._resumed.known(packet))
                # What is held is shown later than it was read: it has to be made.
                is_known = known == Position.END and self._held is None
                is_ours = reach is where.transport
                found = self._events(place, entry, packet, is_known=is_known, has_time=is_ours)
            else:
                found = self._unread(place, entry, packet)
            if known != Position.BEFORE:
                found = [event for event in found if position_of(event.cursor) > known]
            for event in found:
                if type(event) is Gap:
                    statistics.gaps += 1
            events += found
        return events

    def resume(self, mark: LiveMark) -> None:
        """Go on from a frame that was read in a heartbeat: what of its attempt came before it is known."""
        self._resumed = mark
        self.attempts.again, self.attempts.resumed = True, mark.started_time

    @property
    def skims(self) -> bool:
        """Whether what comes before the cursor need not be made into events: what is held is shown later."""
        return self._held is None and self._resumed is None

    def skim(self, batch: Sequence[Entry]) -> int:
        """Read entries of the transport that come before the cursor, undecoded, as far as that is possible.

        Args:
            batch: The entries: plain ones may be read, and all come before the cursor.

        Returns:
            How many entries were read. What comes after them is for `read`.
        """
        count = self.attempts.skim_text([entry.data for entry in batch])
        if count:
            self._where.transport.enter(batch[count - 1].id)
            self._statistics.entries += count
            self._is_readable = True
            self._unopened.clear()
            if self._telemetry is not None:
                self._telemetry.skimmed(count)
        return count

    def _events(
        self, place: str, entry: Entry, packet: Packet, *, is_known: bool, has_time: bool
    ) -> list[Event]:
        try:
            if has_time and packet.origin is not None:
                stored = None if self._stored_time is None else self._stored_time(entry.id)
                check_time(packet, stored, self._now())
            if self._shared is not None and has_time and place == entry.id:
                found = self._shared.read(entry, packet)
            else:
                found = self.attempts.read(place, packet, is_known=is_known, may_repeat=not has_time)
        except ProtocolError as error:
            return self._skip(entry, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, an entry costs itself and no reader
            return self._skip(entry, ProtocolError(f"it cannot be read ({type(error).__name__})"))
        if self._held is not None:
            found = self._held.read(place, found)
        if self._telemetry is not None:
            self._telemetry.packet(packet)
        self._is_readable = True
        if is_known:
            self._unopened.clear()
            return []
        return self._unopened_before(found) if self._unopened else found

    def _unread(self, place: str, entry: Entry, error: ProtocolError | CodecMismatch) -> list[Event]:
        """Return what an entry shows that cannot be read: nothing, or a `Gap` if it may be one of ours."""
        self._skip(entry, error)
        if not isinstance(error, CodecMismatch):
            return []
        gap = Gap(missing=None, reason="unreadable", cursor=f"{self._prefix}{place}~{Position.STARTED}")
        if self._is_readable:
            return [gap]
        # One bad entry must not end a reader; with a wrong key, all of them are bad.
        self._unopened.append(gap)
        self._mismatch = error
        if len(self._unopened) == _HOPELESS:
            raise error
        return []

    def _unopened_before(self, found: list[Event]) -> list[Event]:
        gaps, self._unopened = self._unopened, []
        return [*gaps, *found]

    def check_opened(self) -> None:
        """Raise if there were frames, and none could be read; at the end of the stream.

        Raises:
            CodecMismatch: what the client's codec lacks.
        """
        if self._mismatch is not None and not self._is_readable:
            raise self._mismatch

    def rest(self, position: int) -> list[Event]:
        """Return what is held of attempts whose outcome is unknown at the end of the stream."""
        return [] if self._held is None else self._held.rest(self._where.entry, position)

    def count(self) -> None:
        """Add what the attempts dropped to the statistics; once, at the end."""
        dropped = self._own.statistics
        counts = dropped.duplicates, dropped.superseded
        duplicates, superseded = counts if self._shared is None else self._shared.dropped
        self._statistics.duplicates += duplicates
        self._statistics.superseded += superseded

    def _skip(self, entry: Entry, error: ProtocolError | CodecMismatch) -> list[Event]:
        if not self._statistics.unreadable:
            logger.warning(
                "skipping entry %s of stream %r: %s (logged once)", entry.id, self._stream.name, error
            )
        self._statistics.unreadable += 1
        return []
