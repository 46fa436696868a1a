"""When the clients of a hub are written to: all at once after a pause, one after another while much comes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

PACE = 40e-6
"""Seconds for each client from one write to it to the next. A write costs 10 to 30 us of CPU, and what comes
meanwhile is one write: each of 1,000 clients waits for up to 40 ms, and all take less than a core."""

_AT_ONCE = 0.001  # seconds that are not worth a timer


class Waiter(Protocol):
    """A client."""

    def wake(self) -> None:
        """Let it look what there is."""
        ...


_C = TypeVar("_C", bound=Waiter)


class Turns(Generic[_C]):
    """The clients of a hub, in the order in which they were last woken.

    A client is woken once `PACE` times their number has passed since its last turn, at the latest; not all of
    them together, or the last would wait for the writes to all others, too.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[_C, None] = OrderedDict()
        self._left = 0  # so many have not been woken since something came
        self._paid = 0.0  # until when what was written has been paid for, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __iter__(self) -> Iterator[_C]:
        return iter(self._clients)

    def add(self, client: _C) -> None:
        """Let a client have turns."""
        self._clients[client] = None

    def discard(self, client: _C) -> None:
        """Let it have no more."""
        self._clients.pop(client, None)

    def begin(self) -> None:
        """Wake each client: now, as far as the pace allows, and the others as soon as it does."""
        self._left = len(self._clients)
        if self._left and self._timer is None:
            self._go_on(asyncio.get_running_loop())

    def stop(self) -> None:
        """Wake no client any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        self._paid = max(self._paid, now - PACE * len(self._clients))
        for _ in range(min(self._left, len(self._clients))):
            due = self._paid + PACE
            if due > now + _AT_ONCE:
                self._timer = loop.call_later(max(due - now, _AT_ONCE), self._go_on, loop)
                return
            self._paid = due
            self._left -= 1
            client = next(iter(self._clients))
            self._clients.move_to_end(client)
            client.wake()
        self._left = 0
