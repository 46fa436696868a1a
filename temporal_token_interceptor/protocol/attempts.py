"""Which packets add something: duplicates, superseded attempts and gaps.

A pure state machine: entries of one run's stream go in, in the order of the stream, events come out.
No clock, no I/O, so that every interleaving can be tested.

The three laws it holds:

* A packet is read once. A transport may store it twice (redis-py sends an XADD again when the reply was
  lost); `seq` tells.
* The newest attempt of an activity wins, by the server's `started_time`. What an older one still writes,
  because it does not know that it timed out, is dropped from the moment its successor appears.
* A jump in `seq` is reported where it happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    Event,
    Gap,
    GapReason,
    Origin,
)
from temporal_token_interceptor.protocol.cursor import Cursor, Position
from temporal_token_interceptor.protocol.event_json import unfold
from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.protocol.text_check import TextDigest


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
    superseded_by: Origin | None = None
    ended: bool = False
    completed: bool = False
    cut: bool = False
    calls: dict[int, Call] = field(default_factory=dict)
    digests: dict[int, TextDigest] = field(default_factory=dict)


class Attempts:
    """Turns the packets of one run's stream into events, each once, in order, newest attempt only.

    Args:
        run_id: The run, for cursors.
        fencing: Whether what a superseded attempt still says is dropped. Without, it is reported under
            its own origin, between the events of its successor.
        before: Attempts by activity id, of a run that this one does again: attempts of the same activities
            supersede them.
    """

    def __init__(
        self, run_id: str, *, fencing: bool = True, before: Mapping[str, Origin] | None = None
    ) -> None:
        self.statistics = AttemptStatistics()
        self._prefix = Cursor.prefix(run_id)
        self._fencing = fencing
        self._before = before or {}
        self._attempts: dict[str, _Attempt] = {}
        self._newest: dict[str, _Attempt] = {}

    def read(self, entry: str, packet: Packet) -> list[Event]:
        """Return the events that a packet adds, each with its cursor; empty if it adds none.

        Args:
            entry: The packet's place in the stream.
            packet: The packet. Packets must come in the stream's order.
        """
        prefix = f"{self._prefix}{entry}~"
        attempt = self._attempts.get(packet.attempt_id)
        added: list[Event] = []  # by the reader
        if attempt is None:
            if packet.origin is None:
                # Its header was trimmed away. A later header says how many frames came before it.
                self.statistics.unattributed += 1
                return added
            attempt, superseded = self._begin(packet.origin)
            if not (self._fencing and attempt.superseded_by):
                added.append(
                    AttemptStarted(
                        supersedes=superseded,
                        superseded_by=attempt.superseded_by,
                        origin=attempt.origin,
                        cursor=f"{prefix}{Position.STARTED}",
                    )
                )
        if self._fencing and attempt.superseded_by is not None:
            self.statistics.superseded += 1
            return added
        missing = packet.seq - attempt.next_seq
        if missing < 0:
            self.statistics.duplicates += 1
            return added
        if missing:
            self.statistics.missing += missing
            reason: GapReason = "trimmed" if attempt.next_seq == 0 or attempt.cut else "lost"
            cursor = f"{prefix}{Position.GAP}"
            added.append(Gap(missing=missing, reason=reason, origin=attempt.origin, cursor=cursor))
        attempt.cut = False
        if packet.origin is not None:
            # Heals what a gap before has hidden: a call whose start was lost gets its facts back.
            attempt.calls = {call.ordinal: call for call in packet.open_calls}
        attempt.next_seq = packet.seq + 1
        events = unfold(packet.events, attempt.origin, attempt.calls, prefix, attempt.digests)
        for event in events:
            if type(event) is AttemptEnded:
                attempt.ended, attempt.completed = True, event.outcome == "completed_provisional"
        return added + events if added else events

    def cut(self) -> None:
        """Note that the stream lost its entries up to the next one: the next jumps are from there."""
        for attempt in self._attempts.values():
            attempt.cut = True

    def standing(self) -> dict[str, Origin]:
        """Return the attempt that stands of each activity, by activity id."""
        newest = {activity_id: attempt.origin for activity_id, attempt in self._newest.items()}
        return {**self._before, **newest}

    def is_settled(self, activity_id: str, attempt: int, started_time: datetime | None) -> bool:
        """Whether the attempt of an activity that Temporal has a result of said that it completed.

        Args:
            activity_id: The activity.
            attempt: The number of the attempt.
            started_time: When it began; None if only its number is known.
        """
        newest = self._newest.get(activity_id)
        return (
            newest is not None
            and newest.completed
            and newest.origin.attempt == attempt
            and started_time in (None, newest.origin.started_time)
        )

    def unsettled(self) -> bool:
        """Whether an activity's newest attempt has not said that it completed: another may have followed."""
        return any(not attempt.completed for attempt in self._newest.values())

    def unended(self) -> list[Origin]:
        """Return the newest attempts that have not said how they ended."""
        return [attempt.origin for attempt in self._newest.values() if not attempt.ended]

    def _begin(self, origin: Origin) -> tuple[_Attempt, Origin | None]:
        """Register an attempt; whichever is older is superseded: it, or the newest of its activity so far."""
        attempt = self._attempts[origin.attempt_id] = _Attempt(origin)
        rival = self._newest.get(origin.activity_id)
        if rival is not None and _age(rival.origin) > _age(origin):
            attempt.superseded_by = rival.origin
            return attempt, None
        self._newest[origin.activity_id] = attempt
        if rival is None:
            return attempt, self._before.get(origin.activity_id)
        rival.superseded_by = origin
        if self._fencing:
            rival.calls.clear()
            rival.digests.clear()
        return attempt, rival.origin


def _age(origin: Origin) -> tuple[object, int]:
    return (origin.started_time, origin.attempt)
