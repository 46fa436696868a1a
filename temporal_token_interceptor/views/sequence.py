"""Numbers that grow with a stream: for formats whose clients resume by a number in place of a cursor.

A number is `(milliseconds from the run's start to the entry) << 20 | n`, where n counts within the
millisecond. So it survives trimming, which ordinals do not: the entries that are left keep their numbers. It
stays below 2^53, which JavaScript counts exactly, for 99 days. Pure.
"""

from __future__ import annotations

import re

from temporal_token_interceptor.protocol.cursor import SEPARATOR

_PER_MILLISECOND = 20  # bits
_LONGEST = 1 << (53 - _PER_MILLISECOND)  # milliseconds: 99 days


class Sequence:
    """Numbers what belongs to the events of one stream, in their order.

    Args:
        run_started: When the workflow's run began, by Temporal, in milliseconds since 1970. None: the first
            entry counts as the start; then the numbers do not survive that it is trimmed away.
    """

    def __init__(self, run_started: int | None = None) -> None:
        self._start = run_started
        self._place = ""
        self._last = 0

    def reach(self, cursor: str) -> None:
        """Go on to an event; its cursor names the entry, and a Redis id of an entry the time.

        The time never goes back: what comes from history is late.
        """
        place = cursor.rpartition("~")[0]  # without the position in the entry
        if place == self._place:
            return
        self._place = place
        time = _time_of(place)
        if time is None:
            return
        if self._start is None:
            self._start = time
        if time - self._start < _LONGEST:  # a client of Redis can make ids up
            self._last = max(self._last, ((time - self._start) << _PER_MILLISECOND) - 1)

    def next(self) -> int:
        """Return the next number."""
        self._last += 1
        return self._last


def _time_of(place: str) -> int | None:
    """Return when an entry was stored, in milliseconds since 1970; None where its id does not show that."""
    for part in reversed(place.rpartition("~")[2].split(SEPARATOR)):
        if match := _REDIS_ID.fullmatch(part):
            return int(match[1])
    return None


_REDIS_ID = re.compile(r"([0-9]{1,16})-[0-9]+")
