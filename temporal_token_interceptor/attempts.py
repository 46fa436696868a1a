"""Which packets are news: duplicates, superseded attempts and gaps.

A pure state machine: entries of one run's stream go in, in the order of the stream, events come out.
No clock, no I/O, so that every interleaving can be tested.

The three laws it holds:

* A packet is read once. A transport may store it twice (redis-py sends an XADD again when the reply was
  lost); `seq` tells.
* The newest attempt of an activity wins, by the server's `started_time`. What an older one still writes,
  because nobody told it that it timed out, is dropped from the moment its successor appears.
* A jump in `seq` is reported where it happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    Event,
    Gap,
    GapReason,
    Origin,
)
from temporal_token_interceptor.protocol import Cursor, Packet
from temporal_token_interceptor.wire import unfold


@dataclass(slots=True)
class AttemptStatistics:
    """What the state machine dropped or missed, in packets."""

    duplicates: int = 0
    superseded: int = 0
    unattributed: int = 0
    missing: int = 0


@dataclass(slots=True)
class _Attempt:
    origin: Origin
    next_seq: int = 0
    fenced: bool = False
    ended: bool = False
    calls: dict[int, Call] = field(default_factory=dict)


# Where an event stands within its entry. The first two places are kept for what the reader adds, so that
# the places of what the writer sent do not depend on what this reader had seen before.
_STARTED, _GAP, _FIRST = 0, 1, 2


class Attempts:
    """Turns the packets of one run's stream into events, each once, in order, newest attempt only."""

    def __init__(self, run_id: str) -> None:
        self.statistics = AttemptStatistics()
        self._run_id = run_id
        self._attempts: dict[str, _Attempt] = {}
        self._newest: dict[str, _Attempt] = {}

    def read(self, entry: str, packet: Packet) -> list[Event]:
        """Return the events that a packet adds, each with its cursor; empty if it is no news.

        Args:
            entry: The packet's place in the stream.
            packet: The packet. Packets must come in the stream's order.
        """
        prefix = Cursor.prefix(self._run_id, entry)
        attempt = self._attempts.get(packet.attempt_id)
        events: list[Event] = []
        if attempt is None:
            if packet.origin is None:
                # Its header was trimmed away. A later header says how many frames came before it.
                self.statistics.unattributed += 1
                return events
            attempt, superseded = self._begin(packet.origin)
            if not attempt.fenced:
                events.append(
                    AttemptStarted(supersedes=superseded, origin=attempt.origin, cursor=f"{prefix}{_STARTED}")
                )
        if attempt.fenced:
            self.statistics.superseded += 1
            return events
        missing = packet.seq - attempt.next_seq
        if missing < 0:
            self.statistics.duplicates += 1
            return events
        if missing:
            self.statistics.missing += missing
            reason: GapReason = "trimmed" if attempt.next_seq == 0 else "lost"
            events.append(
                Gap(missing=missing, reason=reason, origin=attempt.origin, cursor=f"{prefix}{_GAP}")
            )
        if packet.origin is not None:
            # Heals what a gap before has hidden: a call whose start was lost gets its facts back.
            attempt.calls = {call.ordinal: call for call in packet.open_calls}
        attempt.next_seq = packet.seq + 1
        cursors = (f"{prefix}{position}" for position in count(_FIRST))
        for event in unfold(packet.events, attempt.origin, attempt.calls, cursors):
            attempt.ended = isinstance(event, AttemptEnded)
            events.append(event)
        return events

    def unended(self) -> list[Origin]:
        """Return the newest attempts that have not said how they ended."""
        return [attempt.origin for attempt in self._newest.values() if not attempt.ended]

    def _begin(self, origin: Origin) -> tuple[_Attempt, Origin | None]:
        """Register an attempt; fence whichever is older: it, or the newest of its activity so far."""
        attempt = self._attempts[origin.attempt_id] = _Attempt(origin)
        rival = self._newest.get(origin.activity_id)
        if rival is not None and _age(rival.origin) > _age(origin):
            attempt.fenced = True
            return attempt, None
        self._newest[origin.activity_id] = attempt
        if rival is None:
            return attempt, None
        rival.fenced = True
        rival.calls.clear()
        return attempt, rival.origin


def _age(origin: Origin) -> tuple[object, int]:
    return (origin.started_time, origin.attempt)
