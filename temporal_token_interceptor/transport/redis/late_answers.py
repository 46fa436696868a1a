"""Answers that come a little later while a worker is full: so that frames are fewer and larger, only then.

Most of what a token costs, in the worker, in Redis and at its readers, is what its frame costs. A session
makes the next frame of all that has come once the one before is stored. So while the thread of the worker is
busy nearly all the time, writers learn up to `LATE` later that an entry is stored: the later, the less time
is left. A writer that gathers nothing meanwhile learns it at once (`hurry`), as at the end of an attempt; and
so do all others while the thread keeps up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from temporal_token_interceptor.protocol.stream_key import StreamKey

LATE: Final = 0.05
"""Seconds that an answer may be late, at most, and with it what is written next."""

_BUSY: Final = 0.85
"""Share of time that the thread is busy from which on answers are late: there, by next to nothing."""

_FULL: Final = 0.97
"""The share from which on they are as late as they may be: tokens wait for one another in any case."""

_STATISTICS: Final = Path("/proc/thread-self/schedstat")  # of Linux
_CLOCK: Final = 0.001  # seconds that a loop may wake a timer too soon, and more
_LOOK_EVERY: Final = 0.1  # seconds
_AVERAGED: Final = 0.3  # seconds over which the share is averaged, about
_HURRIED_FOR: Final = 5.0  # seconds: an attempt that ends has ended by then


class LateAnswers:
    """Answers the writers of one thread: at once, or, while it is full, a little later.

    Args:
        busy: Says for how many seconds the thread was busy; by default, see `busy_clock`.

    Attributes:
        late: Seconds, for now.
    """

    def __init__(self, busy: Callable[[], float] | None = None) -> None:
        self.late = 0.0
        self._clock = busy
        self._share = 0.0
        self._looked = 0.0  # on the loop's clock
        self._busy = 0.0  # seconds, then
        self._waiting: deque[tuple[float, StreamKey, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._hurried: dict[StreamKey, float] = {}  # until when, the earliest first

    def look(self, now: float) -> None:
        """Find out, now and then, how busy this thread is."""
        elapsed = now - self._looked
        if elapsed < _LOOK_EVERY:
            return
        try:
            self._clock = self._clock or busy_clock()
            busy = self._clock()
        except (OSError, ValueError):  # too many open files, say: the next look will do
            return
        share = min(1.0, max(0.0, (busy - self._busy) / elapsed))
        self._share += (share - self._share) * min(1.0, elapsed / _AVERAGED)
        self.late = LATE * min(1.0, max(0.0, (self._share - _BUSY) / (_FULL - _BUSY)))
        self._looked, self._busy = now, busy

    def answer(self, stream: StreamKey, go_on: Callable[[], None], now: float) -> None:
        """Let a writer go on, whose entry is stored.

        Args:
            stream: What it writes to.
            go_on: Called once, now or later. It does not raise.
            now: The time, on the loop's clock.
        """
        if self.late < _CLOCK or self._hurried.get(stream, 0.0) > now:
            go_on()
            return
        self._waiting.append((now + self.late, stream, go_on))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(now + self.late, self._answer_due)

    def hurry(self, stream: StreamKey, now: float) -> None:
        """Answer what is written to a stream at once, for the next seconds."""
        if self._hurried.get(stream, 0.0) - now > _HURRIED_FOR / 2:
            return  # nothing of it waits
        self._hurried.pop(stream, None)
        self._hurried[stream] = now + _HURRIED_FOR
        while self._hurried[first := next(iter(self._hurried))] <= now:
            del self._hurried[first]
        hurried = [go_on for _, waiting, go_on in self._waiting if waiting == stream]
        if hurried:
            self._waiting = deque(each for each in self._waiting if each[1] != stream)
            for go_on in hurried:
                go_on()

    def end(self) -> None:
        """Answer all that wait."""
        if self._timer is not None:
            self._timer.cancel()
        self._answer(float("inf"))

    def _answer_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._answer(loop.time() + _CLOCK)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._answer_due)

    def _answer(self, until: float) -> None:
        self._timer = None
        # In their order: where answers are less late by now, one may wait a little longer behind another.
        while self._waiting and self._waiting[0][0] <= until:
            _, _, go_on = self._waiting.popleft()
            go_on()


def busy_clock() -> Callable[[], float]:
    """Return what says for how long this thread was busy, or waited for a processor, where that is known."""
    try:
        is_known = _scheduled() > 0
    except (FileNotFoundError, PermissionError, ValueError):  # another system, or a sandbox
        is_known = False
    return _scheduled if is_known else time.thread_time


def _scheduled() -> float:
    taken, waited, _ = _STATISTICS.read_text("ascii").split()
    return (int(taken) + int(waited)) / 1e9
