"""Where a reader stands in a run, and the cursors that say so.

A run is read in two places: in a transport, as it is said, and in Temporal's history, which tells later what
the transport did not take. A cursor names a point in both, so that whoever resumes is spared what was read in
either, and nothing else. Pure: no clock, no I/O.
"""

from __future__ import annotations

from temporal_token_interceptor.protocol.cursor import Cursor

EVERYTHING = 999_999_999
"""A position behind all that an entry can hold, and that a reader adds to it."""

NOTHING = -1
"""A position before all of them."""


class Reach:
    """How far a reader came in one of the places; entries must come in their order.

    Attributes:
        last: The id of the entry that was fetched last, or an empty string.
        at: The id of the entry whose events were handed out last: `last`, or one of the same batch before it.
        mark: The id of the entry to go on from: what comes before is read silently. Empty for the start.
        is_short: Whether entries that may have been there were not read.
    """

    def __init__(self) -> None:
        self.last = ""
        self.at = ""
        self.mark = ""
        self.is_short = False
        self._position = NOTHING
        self._passed = True

    def resume(self, mark: str, position: int = EVERYTHING) -> None:
        """Go on from an entry, right after one of its events, or by default after all of them."""
        self.mark, self._position, self._passed = mark, position, False

    @property
    def furthest(self) -> str:
        """The entry up to which is known what was here, by this reader or by whoever had the cursor."""
        return max(self.mark, self.at)

    def enter(self, entry: str) -> int:
        """Go to an entry; return the position in it up to which all is known already."""
        self.at = entry
        if self._passed or entry > self.mark:
            self._passed = True
            return NOTHING
        return self._position if entry == self.mark else EVERYTHING


class Whereabouts:
    """Where a reader stands in both places.

    Args:
        run_id: The run.
        place: The cursor to go on from; None for the start.
    """

    def __init__(self, run_id: str, place: Cursor | None) -> None:
        self.sent = Reach()
        self.told = Reach()
        self._run_id = run_id
        self._place = place
        if place is not None:
            self.sent.resume(place.sent, EVERYTHING if place.is_told else place.position)
            self.told.resume(place.told, place.position if place.is_told else EVERYTHING)

    @property
    def resumed(self) -> bool:
        """Whether somebody has read in the transport before, up to a cursor."""
        return self._place is not None and bool(self._place.sent)

    @property
    def was_told(self) -> bool:
        """Whether somebody has read in the history before: not, where it was only skipped."""
        return self._place is not None and "-" in self._place.told

    @property
    def start(self) -> str:
        """The cursor of what a reader says before the first entry that it reads."""
        return self._cursor(self.in_sent(""), 1) if self._place is None else str(self._place)

    def in_sent(self, entry: str) -> str:
        """Name an entry of the transport, for a cursor."""
        told = self.told.furthest
        return f"{told}+{entry}" if told else entry

    def in_told(self, entry: str) -> str:
        """Name an entry of the history, for a cursor."""
        sent = self.sent.furthest
        return f"{sent}+{entry}" if sent else entry

    @property
    def entry(self) -> str:
        """The name of the entry that was read last."""
        return self.in_told(self.told.furthest) if self.told.at else self.in_sent(self.sent.furthest)

    def here(self, position: int) -> str:
        """Return a cursor in the entry that was read last."""
        return self._cursor(self.entry, position)

    def behind(self, entry: str, position: int) -> str:
        """Return a cursor in an entry of the transport."""
        return self._cursor(self.in_sent(entry), position)

    def is_known(self, cursor: str) -> bool:
        """Whether what was added at the end, with a cursor by `here`, was read before."""
        place = self._place
        if place is None or (self.sent.furthest, self.told.furthest) != (place.sent, place.told):
            return False
        return position_of(cursor) <= place.position

    def _cursor(self, entry: str, position: int) -> str:
        return str(Cursor(self._run_id, entry, position))


def position_of(cursor: str) -> int:
    """Return the position in its entry that a cursor names."""
    return int(cursor.rpartition("~")[2])
