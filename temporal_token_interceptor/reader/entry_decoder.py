"""From decoded entries to the events of one reader: filtered by attempt, held, counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import Event, Gap, Origin
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Position, position_of
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import Decoded
from temporal_token_interceptor.reader.hold_policy import Held
from temporal_token_interceptor.reader.position import Reach, ReadPosition
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.telemetry.subscription import SubscriptionTelemetry
from temporal_token_interceptor.transport.base import Entry

logger = logging.getLogger(__name__)


class EntryDecoder:
    """Turns the entries of one run, from either place, into the events that come after the cursor.

    Args:
        stream: The run.
        where: Where the reader stands; updated with each entry.
        statistics: Counted into.
        on_retry: What to show of attempts that did not stand.
        before: What stood at the end of a run that this one does again, by activity id.
        telemetry: Receives each frame; None where nobody measures.

    Attributes:
        attempts: Which attempts were read, and which of them stand.
    """

    def __init__(
        self,
        stream: StreamKey,
        where: ReadPosition,
        statistics: ReaderStatistics,
        *,
        on_retry: OnRetry = "reset",
        before: Mapping[str, Origin] | None = None,
        telemetry: SubscriptionTelemetry | None = None,
    ) -> None:
        self.attempts = Attempts(stream.run_id, fencing=on_retry != "annotate", before=before)
        self._held = Held(stream.run_id, before) if on_retry == "hold" else None
        self._stream = stream
        self._where = where
        self._statistics = statistics
        self._telemetry = telemetry

    def read(self, reach: Reach, batch: Sequence[Entry], decoded: Sequence[Decoded]) -> list[Event]:
        """Return the events that entries add, after the cursor.

        Args:
            reach: The place that they come from: `where.transport`, or `where.history`.
            batch: The entries.
            decoded: What they hold, by `EntryCache`.
        """
        where, statistics = self._where, self._statistics
        other = where.history if reach is where.transport else where.transport
        front = f"{other.furthest}+" if other.furthest else ""
        events: list[Event] = []
        statistics.entries += len(batch)
        for entry, packet in zip(batch, decoded, strict=True):
            known: int = Position.BEFORE
            if reach.has_passed:
                reach.at = reach.furthest = entry.id
            else:
                known = reach.enter(entry.id)
            if isinstance(packet, ProtocolError):
                self._skip(entry, packet)
                continue
            place = front + entry.id
            found = self.attempts.read(place, packet)
            if self._held is not None:
                found = self._held.read(place, found)
            if self._telemetry is not None:
                self._telemetry.packet(packet)
            if known != Position.BEFORE:
                found = [event for event in found if position_of(event.cursor) > known]
            for event in found:
                if type(event) is Gap:
                    statistics.gaps += 1
            events += found
        return events

    def rest(self, position: int) -> list[Event]:
        """Return what is held of attempts whose outcome is unknown at the end of the stream."""
        return [] if self._held is None else self._held.rest(self._where.entry, position)

    def count(self) -> None:
        """Add what the attempts dropped to the statistics; once, at the end."""
        self._statistics.duplicates += self.attempts.statistics.duplicates
        self._statistics.superseded += self.attempts.statistics.superseded

    def _skip(self, entry: Entry, error: ProtocolError) -> None:
        if not self._statistics.unreadable:
            logger.warning(
                "skipping entry %s of stream %r: %s (logged once)", entry.id, self._stream.name, error
            )
        self._statistics.unreadable += 1
