"""The last changes of a hub, kept once for all its clients: each knows only how many it has."""

from __future__ import annotations

from temporal_token_interceptor.views.changes import Change


class RecentChanges:
    """Changes by their number in a stream, as far back as the bounds allow.

    Adding one costs the same however many clients there are.

    Args:
        most: Changes that are kept, at most; for moments twice as many.
        most_bytes: About as many bytes of them, at most.

    Attributes:
        end: How many changes there have been.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._first = 0  # the number of the oldest that is kept
        self._changes: list[Change] = []
        self._ends = [0]  # bytes of the stream before each of them, and at the end
        self._asked: tuple[int, ...] = ()
        self._answered: list[Change] | None = None
        self.end = 0

    def add(self, change: Change) -> None:
        """Add a change."""
        self.end += 1
        self._changes.append(change)
        self._ends.append(self._ends[-1] + weight(change))
        # Half is dropped at a time: taking from the front of a list costs as much as the rest is long.
        if len(self._changes) > 2 * self._most or self._ends[-1] - self._ends[0] > self._most_bytes:
            self._drop(max(1, len(self._changes) // 2))

    def since(self, at: int, most: int, most_bytes: int) -> list[Change] | None:
        """Return the changes after so many; None if they are more than that, or some are not kept.

        The same list for all that ask for the same, one after the other: it is not to be changed.
        """
        asked = at, self.end, most, most_bytes
        if asked != self._asked:
            self._asked, self._answered = asked, self._since(at, most, most_bytes)
        return self._answered

    def _since(self, at: int, most: int, most_bytes: int) -> list[Change] | None:
        place = at - self._first
        if place < 0 or self.end - at > most or self._ends[-1] - self._ends[place] > most_bytes:
            return None
        return self._changes[place:]

    def after(self, cursor: str) -> int | None:
        """Return how many changes a client has that has come to a cursor; None if that is not kept."""
        for place in range(len(self._changes) - 1, -1, -1):
            if self._changes[place].cursor == cursor:
                return self._first + place + 1
        return None

    def _drop(self, number: int) -> None:
        del self._changes[:number]
        del self._ends[:number]
        self._first += number


def weight(change: Change) -> int:
    """Return about how many bytes a change is in JSON; of a growth, which most are, without writing it."""
    return 100 + len(change.data if change.op == "grow" else repr(change.data))
