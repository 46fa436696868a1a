"""The last changes of a hub, kept once for all its clients: each knows only how many it has."""

from __future__ import annotations

from temporal_token_interceptor.views.changes import Change


class RecentChanges:
    """Changes by their number in a stream, as far back as the bounds allow.

    Adding one costs the same however many clients there are.

    Args:
        most: Changes that are kept, at most; for moments twice as many.
        most_bytes: About as many bytes of them, at most.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._first = 0  # the number of the oldest that is kept
        self._changes: list[Change] = []
        self._ends = [0]  # bytes of the stream before each of them, and at the end

    @property
    def end(self) -> int:
        """How many changes there have been."""
        return self._first + len(self._changes)

    def add(self, change: Change) -> None:
        """Add a change."""
        self._changes.append(change)
        self._ends.append(self._ends[-1] + weight(change))
        # Half is dropped at a time: taking from the front of a list costs as much as the rest is long.
        if len(self._changes) > 2 * self._most or self._ends[-1] - self._ends[0] > self._most_bytes:
            self._drop(max(1, len(self._changes) // 2))

    def since(self, at: int) -> list[Change]:
        """Return the changes after so many; only where `bytes_since` is finite."""
        return self._changes[at - self._first :]

    def bytes_since(self, at: int) -> float:
        """Return about how many bytes the changes after so many have; infinity if some are not kept."""
        if at < self._first:
            return float("inf")
        return self._ends[-1] - self._ends[at - self._first]

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
