"""Numbers that grow with a stream: for formats whose clients resume by a number in place of a cursor.

A number is `(milliseconds from the run's start to the entry) << 20 | n`, where n counts within the
millisecond. So it survives trimming, which ordinals do not: the entries that are left keep their numbers. It
stays below 2^53, which JavaScript counts exactly, for 99 days. Where numbers must not depend on the run that
a reader began with, they count from 2020, with fewer bits for n, until 2089. Pure.
"""

from __future__ import annotations

import re

from temporal_token_interceptor.protocol.cursor import SEPARATOR

_SAFE = 53  # bits
_PER_MILLISECOND = 20  # of them; 99 days are left

YEAR_2020 = 1_577_836_800_000
"""A start for numbers that are the same whichever run a reader began with, in milliseconds since 1970."""

FEWER_BITS = 12
"""Of a number from 2020: what comes in one millisecond beyond 4,096 takes the numbers of the next ones."""


class Sequence:
    """Numbers what belongs to the events of one stream, in their order.

    Args:
        run_started: When the workflow's run began, by Temporal, in milliseconds since 1970. None: the first
            entry counts as the start; then the numbers do not survive that it is trimmed away.
        bits: Of a number, for what comes within a millisecond.
        last: The number before the first.
    """

    def __init__(
        self, run_started: int | None = None, *, bits: int = _PER_MILLISECOND, last: int = 0
    ) -> None:
        self._start = run_started
        self._bits = bits
        self._longest = 1 << (_SAFE - bits)  # milliseconds
        self._place = ""
        self._last = last

    def reach(self, cursor: str) -> None:
        """Go on to an event; its cursor names the entry, and a Redis id of an entry the time.

        The time never goes back: what comes from history is late.
        """
        place = cursor.rpartition("~")[0]  # without the position in the entry
        if place == self._place:
            return
        self._place = place
        time = time_of(place)
        if time is None:
            return
        if self._start is None:
            self._start = time
        if time - self._start < self._longest:  # a client of Redis can make ids up
            self._last = max(self._last, ((time - self._start) << self._bits) - 1)

    def next(self) -> int:
        """Return the next number."""
        self._last += 1
        return self._last


def time_of(place: str) -> int | None:
    """Return when an entry was stored, in milliseconds since 1970; None where its id does not show that."""
    for part in reversed(place.rpartition("~")[2].split(SEPARATOR)):
        if match := _REDIS_ID.fullmatch(part):
            return int(match[1])
    return None


_REDIS_ID = re.compile(r"([0-9]{1,16})-[0-9]+")
