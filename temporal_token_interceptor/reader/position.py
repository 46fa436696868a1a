"""Where a reader stands in a run, and the cursors that name it.

A run is read in two places: in a transport, while it runs, and in Temporal's history, which has later what
the transport did not take. A cursor names a point in both, so that a reader that resumes skips what was read
in either, and nothing else. Pure: no clock, no I/O.
"""

from __future__ import annotations

from temporal_token_interceptor.protocol.cursor import SEPARATOR, Cursor, Position, position_of


class Reach:
    """How far a reader came in one of the places; entries must come in their order.

    Attributes:
        last: The id of the entry that was fetched last, or an empty string.
        at: The id of the entry whose events were delivered last: `last`, or one of the same batch before it.
        furthest: The entry up to which this reader, or the one that stored the cursor, has read.
        mark: The id of the entry to go on from: what comes before is read silently. Empty for the start.
        has_passed: Whether the reader is behind the mark: all that comes from now on is new.
        is_short: Whether entries that may have been there were not read.
    """

    def __init__(self) -> None:
        self.last = ""
        self.at = ""
        self.furthest = ""
        self.mark = ""
        self.has_passed = True
        self.is_short = False
        self._position: int = Position.BEFORE

    def resume(self, mark: str, position: int = Position.END) -> None:
        """Go on from an entry, right after one of its events, or by default after all of them."""
        self.mark, self._position, self.has_passed = mark, position, False
        self.furthest = max(mark, self.at)

    def enter(self, entry: str) -> int:
        """Go to an entry; return the position in it up to which all is known already."""
        self.at = entry
        self.furthest = max(self.mark, entry)
        if self.has_passed or entry > self.mark:
            self.has_passed = True
            return Position.BEFORE
        return self._position if entry == self.mark else Position.END


class ReadPosition:
    """Where a reader stands in both places.

    Attributes:
        transport: How far it came in the transport.
        live: How far it came in heartbeats.
        history: How far it came in the history.

    Args:
        run_id: The run.
        place: The cursor to go on from; None for the start.
    """

    def __init__(self, run_id: str, place: Cursor | None) -> None:
        self.transport = Reach()
        self.live = Reach()
        self.history = Reach()
        self._run_id = run_id
        self._place = place
        if place is not None:
            from_history = place.is_from_history
            from_elsewhere = from_history or place.is_from_live
            self.transport.resume(place.transport, Position.END if from_elsewhere else place.position)
            self.history.resume(place.history, place.position if from_history else Position.END)

    @property
    def has_read_transport(self) -> bool:
        """Whether the transport, or heartbeats, were read before, up to the cursor."""
        return self._place is not None and bool(self._place.transport or self._place.live)

    @property
    def has_read_history(self) -> bool:
        """Whether the history was read before: not, where it was only skipped."""
        return self._place is not None and "-" in self._place.history

    @property
    def has_found_nothing(self) -> bool:
        """Whether nothing was read anywhere, and there was nothing that could not be read."""
        reaches = (self.transport, self.live, self.history)
        return not any(reach.furthest or reach.is_short for reach in reaches)

    @property
    def start(self) -> str:
        """The cursor of what a reader reports before the first entry that it reads."""
        return self._cursor(self.in_transport(""), Position.GAP) if self._place is None else str(self._place)

    def front(self, reach: Reach) -> str:
        """Return what stands before an entry of one of the places, in a cursor: how far it came elsewhere."""
        if reach is self.transport:
            other = self.history.furthest or self.live.furthest
        else:
            other = self.transport.furthest or (self.live if reach is self.history else self.history).furthest
        return f"{other}{SEPARATOR}" if other else ""

    def in_transport(self, entry: str) -> str:
        """Name an entry of the transport, for a cursor."""
        return f"{self.front(self.transport)}{entry}"

    @property
    def entry(self) -> str:
        """The name of the entry that was read last."""
        reach = self.history if self.history.at else self.live if self.live.at else self.transport
        return f"{self.front(reach)}{reach.furthest}"

    def here(self, position: int) -> str:
        """Return a cursor in the entry that was read last."""
        return self._cursor(self.entry, position)

    def behind(self, entry: str, position: int) -> str:
        """Return a cursor in an entry of the transport."""
        return self._cursor(self.in_transport(entry), position)

    def is_known(self, cursor: str) -> bool:
        """Whether what was added at the end, with a cursor by `here`, was read before."""
        place = self._place
        reached = (self.transport.furthest, self.live.furthest, self.history.furthest)
        if place is None or reached != (place.transport, place.live, place.history):
            return False
        return position_of(cursor) <= place.position

    def _cursor(self, entry: str, position: int) -> str:
        return str(Cursor(self._run_id, entry, position))
