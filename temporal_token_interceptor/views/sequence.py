"""Numbers that grow with a stream: for formats whose clients resume by a number in place of a cursor.

A number is `(milliseconds from 2020 to the entry) << 12 | n`, where n counts within the millisecond. So it
survives trimming, which ordinals do not: the entries that are left keep their numbers. And it depends on no
run: those of a later run of the same workflow are higher, and a client that names one of the run before, or
comes again after the workflow went on in another run, misses nothing. It stays below 2^53, which JavaScript
counts exactly, until 2089. Pure.
"""

from __future__ import annotations

import re

from temporal_token_interceptor.protocol.cursor import SEPARATOR

_START = 1_577_836_800_000  # 2020, in milliseconds since 1970
_BITS = 12  # for n: what comes in one millisecond beyond 4,096 takes the numbers of the next ones
_LONGEST = 1 << (53 - _BITS)  # milliseconds


class Sequence:
    """Numbers what belongs to the events of one stream, in their order.

    Args:
        last: The number before the first.
    """

    def __init__(self, *, last: int = 0) -> None:
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
        if time is not None and _START <= time < _START + _LONGEST:  # a client of Redis can make ids up
            self._last = max(self._last, ((time - _START) << _BITS) - 1)

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
