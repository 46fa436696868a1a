"""Which packets add something: duplicates, superseded attempts and gaps.

A pure state machine: entries of one run's stream go in, in the order of the stream, events come out.
No clock, no I/O, so that every interleaving can be tested.

The three laws it holds:

* A packet is read once. A transport may store it twice (redis-py sends an XADD again when the reply was
  lost); `seq` shows it.
* The newest attempt of an activity wins, by the server's `started_time`. What an older one still writes,
  because it does not know that it timed out, is dropped from the moment its successor appears. An activity is
  its id and when it was scheduled: a workflow may use an id again, and the first one's answer stands.
* A jump in `seq` is reported where it happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from temporal_token_interceptor.protocol.event_json import skim, unfold
from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.protocol.text_check import TextDigest
from temporal_token_interceptor.protocol.text_frames import text_run


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
    cut: GapReason | None = None  # why the next jump, if there is one
    lost: GapReason | None = None  # why frames of it are missing
    calls: dict[int, Call] = field(default_factory=dict)
    digests: dict[int, TextDigest] = field(default_factory=dict)

    def copy(self) -> _Attempt:
        digests = {ordinal: digest.copy() for ordinal, digest in self.digests.items()}
        return replace(self, calls=self.calls.copy(), digests=digests)


_FORGOTTEN = 1_000  # superseded attempts that are remembered; each takes about a kilobyte

Activity = tuple[str, datetime | None]
"""What names an activity within a run: its id, which a workflow may use again, and when it was scheduled."""


def activity_of(origin: Origin) -> Activity:
    """Return the activity that an attempt is of."""
    return (origin.activity_id, origin.scheduled_time)


class Attempts:
    """Turns the packets of one run's stream into events, each once, in order, newest attempt only.

    Args:
        run_id: The run, for cursors.
        fencing: Whether what a superseded attempt still says is dropped. Without, it is reported under
            its own origin, between the events of its successor.
        before: The attempts that stood in a run that this one does again, in their order: the first activity
            of an id supersedes the first of that id there, and so on.
        again: Whether all of this may have been shown before: each attempt then supersedes itself first.

    Attributes:
        prefix: What the cursors begin with.
        again: As of the argument.
        resumed: When an attempt began of which it is known what was shown: `again` is of the others.
    """

    def __init__(
        self, run_id: str, *, fencing: bool = True, before: Sequence[Origin] = (), again: bool = False
    ) -> None:
        self.statistics = AttemptStatistics()
        self.prefix = Cursor.prefix(run_id)
        self.again = again
        self.resumed: datetime | None = None
        self._fencing = fencing
        self._before = before
        self._attempts: dict[str, _Attempt] = {}
        self._newest: dict[Activity, _Attempt] = {}
        self._superseded: deque[str] = deque()
        self._others: dict[Origin, GapReason] = {}  # stand here, and not at Temporal
        self._cut: GapReason = "trimmed"  # why the beginning of an attempt is missing

    def copy(self) -> Attempts:
        """Return a state machine that has read the same so far."""
        copy = Attempts("", fencing=self._fencing, before=self._before, again=self.again)
        copy.prefix, copy.resumed, copy._cut = self.prefix, self.resumed, self._cut
        copy.statistics = replace(self.statistics)
        copies = {attempt_id: attempt.copy() for attempt_id, attempt in self._attempts.items()}
        copy._attempts = copies
        for activity, newest in self._newest.items():
            copy._newest[activity] = copies.get(newest.origin.attempt_id) or newest.copy()
        copy._superseded, copy._others = self._superseded.copy(), self._others.copy()
        return copy

    def read(
        self, entry: str, packet: Packet, *, is_known: bool = False, may_repeat: bool = False
    ) -> list[Event]:
        """Return the events that a packet adds, each with its cursor; empty if it adds none.

        Args:
            entry: The packet's place in the stream.
            packet: The packet. Packets must come in the stream's order.
            is_known: Whether its events are of no interest, because they were shown before: then it is only
                noted what they do to those that follow.
            may_repeat: Whether it comes from a place that also has what was read elsewhere: then it is no
                duplicate that anything has gone wrong.
        """
        prefix = f"{self.prefix}{entry}~"
        attempt = self._attempts.get(packet.attempt_id)
        added: list[Event] = []  # by the reader
        if attempt is None:
            if packet.origin is None:
                # Its header was trimmed away. A later header says how many frames came before it.
                self.statistics.unattributed += 1
                return added
            attempt = self._begin(packet.origin, prefix, added)
        if self._fencing and attempt.superseded_by is not None:
            self.statistics.superseded += 1
            return added
        if packet.seq != attempt.next_seq:
            if packet.seq < attempt.next_seq:
                self.statistics.duplicates += not may_repeat
                return added
            added.append(self._jump(attempt, packet.seq - attempt.next_seq, prefix))
        attempt.cut = None
        if packet.origin is not None:
            # Heals what a gap before has hidden: a call whose start was lost gets its facts back.
            attempt.calls = {call.ordinal: call for call in packet.open_calls}
        attempt.next_seq = packet.seq + 1
        events = self._events(attempt, packet, prefix, is_known=is_known)
        return added + events if added else events

    def skim_text(self, entries: Sequence[bytes]) -> int:
        """Read entries without decoding them, as far as they hold nothing but text of open calls.

        For what a reader that resumes was shown before: most of a stream, at a fifth of what `read` costs.
        What is noted is what `read` with `is_known` notes.

        Args:
            entries: Entries of the stream, in its order.

        Returns:
            How many of them were read. The next one, if there is one, is for `read`.
        """
        count = 0
        while (run := text_run(entries, count)) is not None:
            attempt = self._attempts.get(run.attempt_id)
            if attempt is None or attempt.superseded_by is not None or attempt.next_seq != run.seq:
                break
            if run.is_answer:
                if run.call not in attempt.calls:
                    break
                if (digest := attempt.digests.get(run.call)) is None:
                    digest = attempt.digests[run.call] = TextDigest()
                digest.add(run.text, run.pieces)
            attempt.cut = None
            attempt.next_seq += run.frames
            count += run.frames
        return count

    def _events(self, attempt: _Attempt, packet: Packet, prefix: str, *, is_known: bool) -> list[Event]:
        if is_known:
            events = skim(packet.events, attempt.origin, attempt.calls, attempt.digests)
        else:
            events = unfold(packet.events, attempt.origin, attempt.calls, prefix, attempt.digests)
        for place, event in enumerate(events):
            if type(event) is AttemptEnded:
                attempt.ended, attempt.completed = True, event.outcome == "completed_provisional"
            elif type(event) is Gap and event.reason == "mismatch" and attempt.lost == "transport":
                # A jump has reported why; now it is known how many pieces that were.
                events[place] = replace(event, reason="transport")
        return events

    def cut(self, reason: GapReason) -> None:
        """Note that the stream lost entries up to the next one: the next jumps are for that reason."""
        self._cut = reason
        for attempt in self._attempts.values():
            attempt.cut = reason

    def standing(self) -> Sequence[Origin]:
        """Return the attempt that stands of each activity, in the order in which these began."""
        newest = [attempt.origin for attempt in self._newest.values()]
        places = dict.fromkeys(origin.activity_id for origin in newest)
        seen = {activity_id: sum(one.activity_id == activity_id for one in newest) for activity_id in places}
        rest = []
        for origin in self._before:
            if seen.get(origin.activity_id, 0):
                seen[origin.activity_id] -= 1  # that one was done again
            else:
                rest.append(origin)
        return [*rest, *newest]

    def is_settled(self, activity: Activity, attempt: int, started_time: datetime | None) -> bool:
        """Whether the attempt of an activity that Temporal has a result of reported that it completed.

        Args:
            activity: The activity.
            attempt: The number of the attempt.
            started_time: When it began; None if only its number is known.
        """
        activity_id, scheduled = activity
        return any(
            newest.completed
            and newest.origin.attempt == attempt
            and started_time in (None, newest.origin.started_time)
            for (known_id, known_time), newest in self._newest.items()
            if known_id == activity_id and (scheduled == known_time or None in (scheduled, known_time))
        )

    def other(
        self, activity: Activity, attempt: int, started_time: datetime | None
    ) -> tuple[Origin, GapReason] | None:
        """Return the attempt that stands of an activity, and why, if it is not the one that completed.

        Args:
            activity: The activity.
            attempt: The number of the attempt that Temporal has a result of.
            started_time: When it began; None if only its number is known, and then nothing is.
        """
        newest = self._newest.get(activity)
        if newest is None or started_time is None or activity[1] is None:
            return None
        origin = newest.origin
        if (origin.started_time, origin.attempt) == (started_time, attempt):
            return None
        # An older one stands where the transport lost, or never took, all of the one that completed.
        return origin, "transport" if origin.started_time < started_time else "mismatch"

    def doubt(self, origin: Origin, reason: GapReason) -> None:
        """Note that an attempt stands here, and not at Temporal: it is `doubtful`."""
        self._others[origin] = reason

    def doubtful(self) -> dict[Origin, GapReason]:
        """Return the newest attempts that have not said how they ended, or are not those that completed."""
        return {**dict.fromkeys(self.unended(), "unended"), **self._others}

    def has_begun(self, time: datetime) -> bool:
        """Whether one of the attempts began at a time."""
        return any(attempt.origin.started_time == time for attempt in self._attempts.values())

    def unsettled(self) -> bool:
        """Whether an activity's newest attempt has not said that it completed: another may have followed."""
        return any(not attempt.completed for attempt in self._newest.values())

    def unended(self) -> list[Origin]:
        """Return the newest attempts that have not said how they ended."""
        return [attempt.origin for attempt in self._newest.values() if not attempt.ended]

    def _jump(self, attempt: _Attempt, missing: int, prefix: str) -> Gap:
        self.statistics.missing += missing
        attempt.lost = attempt.cut or (self._cut if attempt.next_seq == 0 else "lost")
        cursor = f"{prefix}{Position.GAP}"
        return Gap(missing=missing, reason=attempt.lost, origin=attempt.origin, cursor=cursor)

    def _begin(self, origin: Origin, prefix: str, added: list[Event]) -> _Attempt:
        """Register an attempt, and add its start where it is shown.

        The older one is superseded: it, or the newest of its activity so far.
        """
        attempt = self._attempts[origin.attempt_id] = _Attempt(origin)
        activity = activity_of(origin)
        rival = self._newest.get(activity)
        superseded: Origin | None = None
        if rival is not None and _age(rival.origin) > _age(origin):
            attempt.superseded_by = rival.origin
            self._forget(attempt)
            if self._fencing:
                return attempt
        else:
            superseded = self._done_before(origin) if rival is None else rival.origin
            self._newest[activity] = attempt
            if rival is not None:
                rival.superseded_by = origin
                self._forget(rival)
        started = AttemptStarted(
            supersedes=superseded,
            superseded_by=attempt.superseded_by,
            origin=origin,
            cursor=f"{prefix}{Position.STARTED}",
        )
        again = self.again and origin.started_time != self.resumed
        if again:
            added.append(replace(started, supersedes=origin))
        if not again or superseded is not None:
            added.append(started)
        return attempt

    def _done_before(self, origin: Origin) -> Origin | None:
        """Return what stood in the run before of an activity that this run does for the first time."""
        if not self._before:
            return None
        place = sum(activity_id == origin.activity_id for activity_id, _ in self._newest)
        same = [before for before in self._before if before.activity_id == origin.activity_id]
        return same[place] if place < len(same) else None

    def _forget(self, superseded: _Attempt) -> None:
        """Free what is known of an attempt; of the oldest, all: a header of one makes it superseded again."""
        if not self._fencing:
            return
        superseded.calls.clear()
        superseded.digests.clear()
        self._superseded.append(superseded.origin.attempt_id)
        if len(self._superseded) > _FORGOTTEN:
            self._attempts.pop(self._superseded.popleft(), None)


def _age(origin: Origin) -> tuple[object, int]:
    return (origin.started_time, origin.attempt)
