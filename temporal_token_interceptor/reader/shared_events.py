"""What the entries of a run add, made once for all readers of a process that read the run alike.

A thousand viewers of one run read the same entries from the same start, so their events are the same. The
first one that comes to an entry makes its events, and the others take them. A reader parts from the others
where it reads anything else: after a cut, or in another place. From then on it has attempts of its own, in
the state in which they would be if it had been alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from weakref import WeakSet

from temporal_token_interceptor.events import Event, Gap
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.transport.base import Entry

_HALF_BYTES: Final = 64 * 1024
"""Of entries, as they were stored: with their events, so many are kept, and as many again."""


class Made(NamedTuple):
    """An entry, and what it adds.

    Attributes:
        entry: The entry.
        packet: What it holds.
        events: What it adds.
        gaps: How many of those are gaps.
        duplicates: How many packets were, up to this one.
        superseded: How many packets were of attempts that had been superseded, up to this one.
    """

    entry: Entry
    packet: Packet
    events: list[Event]
    gaps: int
    duplicates: int
    superseded: int


class SharedEvents:
    """The newest entries of one run with their events, and the states before the first and after the last.

    Args:
        run_id: The run, for cursors.

    Attributes:
        first: The number of the oldest entry that is kept.
    """

    def __init__(self, run_id: str) -> None:
        self.first = 0
        self._before = Attempts(run_id)  # the state before it
        self._middle: tuple[int, Attempts] | None = None  # the number, and the state, of a later one
        self._made: list[Made] = []
        self._size = 0  # bytes from the middle on, or from the first
        self._newest = Attempts(run_id)  # the state after the last
        self._places: WeakSet[SharedPlace] = WeakSet()

    def enter(self) -> SharedPlace | None:
        """Return the place of a reader that begins with the run; None if its beginning is not kept."""
        if self.first:
            return None
        place = SharedPlace(self)
        self._places.add(place)
        return place

    @property
    def end(self) -> int:
        """The number of the next entry."""
        return self.first + len(self._made)

    @property
    def newest(self) -> Attempts:
        """The state after the last entry; only to be looked at."""
        return self._newest

    def made(self, number: int, count: int) -> Sequence[Made]:
        """Return so many entries at most, from one on that is kept."""
        return self._made[number - self.first : number - self.first + count]

    def dropped(self, number: int) -> tuple[int, int]:
        """Return how many packets before an entry were duplicates, and how many were superseded."""
        if number == self.first:
            return self._before.statistics.duplicates, self._before.statistics.superseded
        last = self._made[number - self.first - 1]
        return last.duplicates, last.superseded

    def state(self, number: int) -> Attempts:
        """Return the state before an entry that is kept, or after the last one; the caller may change it."""
        return self._newest.copy() if number == self.end else self._read_again(number)

    def add(self, entry: Entry, packet: Packet) -> list[Event]:
        """Return the events of the next entry, and keep them.

        Raises:
            Exception: the entry cannot be read; it is as if it were not there.
        """
        try:
            events = self._newest.read(entry.id, packet)
        except Exception:
            self._newest = self._read_again(self.end)
            raise
        gaps, dropped = sum(type(event) is Gap for event in events), self._newest.statistics
        self._made.append(Made(entry, packet, events, gaps, dropped.duplicates, dropped.superseded))
        self._size += len(entry.data)
        if self._size > _HALF_BYTES:
            self._drop_half()
        return events

    def _read_again(self, number: int) -> Attempts:
        state = self._before.copy()
        for made in self._made[: number - self.first]:
            state.read(made.entry.id, made.packet, is_known=True)
        return state

    def _drop_half(self) -> None:
        """Keep what comes from the middle on; readers that are not there yet go on alone."""
        if self._middle is not None:
            first, before = self._middle
            for place in [place for place in self._places if place.number < first]:
                place.part()
                self._places.discard(place)
            del self._made[: first - self.first]
            self.first, self._before = first, before
        self._middle, self._size = (self.end, self._newest.copy()), 0


class SharedPlace:
    """Where a reader is among the entries; or, once it has parted, its own attempts.

    Args:
        shared: What it reads with others.

    Attributes:
        number: How many of the shared entries it has read.
    """

    __slots__ = ("__weakref__", "_own", "_shared", "number")

    def __init__(self, shared: SharedEvents) -> None:
        self._shared = shared
        self._own: Attempts | None = None
        self.number = 0

    @property
    def state(self) -> Attempts:
        """The attempts as the reader knows them; only to be looked at."""
        if self._own is not None:
            return self._own
        shared = self._shared
        return shared.newest if self.number == shared.end else shared.state(self.number)

    @property
    def dropped(self) -> tuple[int, int]:
        """How many packets were duplicates so far, and how many superseded."""
        if self._own is None:
            return self._shared.dropped(self.number)
        return self._own.statistics.duplicates, self._own.statistics.superseded

    def part(self) -> Attempts:
        """Go on alone; return the attempts that are the reader's own from now on."""
        if self._own is None:
            self._own = self._shared.state(self.number)
        return self._own

    def take_all(self) -> Sequence[Made]:
        """Return what all entries add that others have read, and this reader has not."""
        made = self._shared.made(self.number, self._shared.end)
        self.number += len(made)
        return made

    def follow(self, batch: Sequence[Entry]) -> Sequence[Made]:
        """Return what the first of some entries add that others have read before, as many as there are."""
        if self._own is not None or self.number == self._shared.end:
            return ()
        count = 0
        made = self._shared.made(self.number, len(batch))
        for entry, known in zip(batch, made, strict=False):
            if known.entry is not entry and known.entry != entry:
                break
            count += 1
        self.number += count
        return made[:count]

    def read(self, entry: Entry, packet: Packet) -> list[Event]:
        """Return what an entry adds.

        Raises:
            Exception: the entry cannot be read.
        """
        if self._own is None:
            if made := self.follow((entry,)):
                return made[0].events
            if self.number == self._shared.end:
                events = self._shared.add(entry, packet)
                self.number += 1
                return events
        return self.part().read(entry.id, packet)
