"""The reader policy `hold`: nothing of an attempt before it succeeded, and then all of it at once.

A pure function of the stream, like `attempts.py`, whose events go in. What failed, was superseded or
given up never comes out; nor does a call that failed within an attempt that succeeded.

What is held comes out late, so it gets new cursors: all of a release stand in the entry whose last event
caused it, numbered **backwards** from that event. So they only ever grow, and they do not change
when the start of the attempt is trimmed away between two readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from temporal_token_interceptor.events import AttemptEnded, AttemptStarted, Call, CallEnded, Event, Origin
from temporal_token_interceptor.protocol.attempts import Activity, activity_of
from temporal_token_interceptor.protocol.cursor import Cursor, Position


class Held:
    """Holds back the events of attempts until they succeed; `read` takes what `Attempts.read` returned.

    Costs the memory of the attempts that run: at most what the stream holds.

    Args:
        run_id: The run, for cursors.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._held: dict[str, list[Event]] = {}  # by attempt id
        self._running: dict[Activity, str] = {}  # the attempt that is held
        self._shown: dict[Activity, Origin | None] = {}  # the attempt that came out last

    def read(self, entry: str, events: Sequence[Event]) -> list[Event]:
        """Return what can be shown once an entry was read: mostly nothing.

        Args:
            entry: The entry's place in the stream.
            events: The events of the entry; all of one attempt.
        """
        released: list[Event] = []
        for event in events:
            if event.origin is None:
                continue
            attempt_id, activity = event.origin.attempt_id, activity_of(event.origin)
            if isinstance(event, AttemptStarted):
                self._start(activity, event)
            self._held.setdefault(attempt_id, []).append(event)
            if isinstance(event, AttemptEnded) and event.outcome != "async_pending":
                if event.outcome == "completed_provisional":
                    released += self._release(attempt_id, activity)
                else:
                    del self._held[attempt_id]
        return self._placed(released, entry, Position.LAST_RELEASED - len(released) + 1)

    def rest(self, entry: str, first: int) -> list[Event]:
        """Return, at the end of the stream, the events of attempts that did not report how they ended.

        They were completed from elsewhere, or their last frame was lost: a `Gap` follows for those.

        Args:
            entry: The last entry.
            first: The position of the first event.
        """
        released = [
            event
            for activity, attempt_id in self._running.items()
            for event in self._release(attempt_id, activity)
        ]
        return self._placed(released, entry, first)

    def _start(self, activity: Activity, event: AttemptStarted) -> None:
        running = self._running.get(activity)
        if running is None and event.supersedes not in (None, event.origin):
            self._shown[activity] = event.supersedes  # in the run before this one
        if running != event.origin.attempt_id:
            self._held.pop(running or "", None)
        self._running[activity] = event.origin.attempt_id

    def _release(self, attempt_id: str, activity: Activity) -> list[Event]:
        events = _without_failed_calls(self._held.pop(attempt_id, []))
        released: list[Event] = []
        if events:
            shown, self._shown[activity] = self._shown.get(activity), events[0].origin
            for event in events:
                if isinstance(event, AttemptStarted) and event.supersedes != event.origin:
                    # Not the attempt before it, but the one that was shown before it.
                    released.append(replace(event, supersedes=shown))
                else:
                    released.append(event)
        return released

    def _placed(self, events: list[Event], entry: str, first: int) -> list[Event]:
        prefix = f"{Cursor.prefix(self._run_id)}{entry}~"
        return [replace(event, cursor=f"{prefix}{position}") for position, event in enumerate(events, first)]


def _without_failed_calls(events: list[Event]) -> list[Event]:
    """Leave out the calls that failed within a good attempt: the graph tried again or fell back."""
    ends = (event for event in events if isinstance(event, CallEnded))
    failed = {end.call.ordinal for end in ends if end.error is not None}
    if not failed:
        return events
    return [event for event in events if _ordinal_of(event) not in failed]


def _ordinal_of(event: Event) -> int | None:
    call = getattr(event, "call", None)
    return call.ordinal if isinstance(call, Call) else None
