"""Deadlines that count from the last progress: a slow link that still delivers bytes is no outage.

redis-py has no such deadline: its `socket_timeout` bounds a whole reply. So the bytes that a connection
receives are counted where asyncio hands them over (`StreamReader.feed_data`), and those that it still has to
send are read from its transport. Both are private to redis-py (`_reader`, `_writer`); should they be gone,
the deadline bounds the whole reply again. `tests/integration/test_redis_slow_links.py` notices that.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio.connection import AbstractConnection

from temporal_token_interceptor._tasks import next_look

try:
    import fcntl
    import termios
except ImportError:  # Windows, where only what asyncio holds is seen
    fcntl = termios = None  # type: ignore[assignment]

_INT: Final = 4  # bytes of the answer


class ReplyTooLarge(Exception):
    """A reply was given up because it has more bytes than it may (it is asked for again, smaller)."""


class Exchange:
    """Bounds what is sent to Redis and received from it: by progress, and by the bytes of the replies.

    Of one command after the other: `with exchange.within(5.0): ...`. Its timer and its hold on the
    connections outlive a command: made for each, with `asyncio.timeout`, they took 45 us of the way of a
    token that is alone. Until `leave`, it and the connections hold one another.

    Attributes:
        last: When bytes last came, or were seen to go, on the loop's clock; 0 if none did.
    """

    def __init__(self) -> None:
        self.last = 0.0
        self._seconds = 0.0
        self._at_most: int | None = None
        self._watched: dict[AbstractConnection, Any] = {}  # with the reader whose bytes are counted
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it looks
        self._task: asyncio.Task[Any] | None = None  # while a command is under way
        self._cancelling = 0  # how often it had been cancelled before
        self._begun = 0.0
        self._received = self._unsent = 0  # bytes
        self._is_over = False

    def within(self, seconds: float, at_most: int | None = None) -> Self:
        """Bound what the current task does in the block that follows.

        Args:
            seconds: From the last byte received or sent to `TimeoutError`.
            at_most: Bytes that the replies may have together; None for any number.

        Raises:
            TimeoutError: no progress in time.
            ReplyTooLarge: the replies have more bytes; the connection is closed by redis-py.
        """
        self._seconds, self._at_most = seconds, at_most
        return self

    def __enter__(self) -> Self:
        """Begin to count."""
        self._loop = loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task()
        self._cancelling = 0 if task is None else task.cancelling()
        self._begun = now = loop.time()
        self._received = self._unsent = 0
        self._is_over = False
        # A timer of a command before looks early enough.
        look = now + self._seconds / 2
        if self._timer is None or self._due > look:
            self._look_at(look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise the bound that was exceeded, in place of the cancellation."""
        task, self._task = self._task, None
        # As `asyncio.timeout` does: who was cancelled from outside, too, stays cancelled.
        if not self._is_over or task is None or task.uncancel() > self._cancelling:
            return
        if kind is asyncio.CancelledError:
            if self._at_most is not None and self._received > self._at_most:
                raise ReplyTooLarge(f"more than {self._at_most} bytes") from None
            raise TimeoutError from error

    def watch(self, connection: AbstractConnection) -> None:
        """Count the bytes of a connection, if it is connected, and not counted elsewhere, until `leave`."""
        reader = getattr(connection, "_reader", None)
        known = self._watched.get(connection)
        if reader is not None and reader is known:
            return
        if known is not None:  # it has connected again
            del known.feed_data
        self._watched[connection] = None
        if reader is not None and "feed_data" not in vars(reader):
            feed, now = reader.feed_data, asyncio.get_running_loop().time

            def counted(data: bytes) -> None:
                self._received += len(data)
                self.last = now()
                if self._at_most is not None and self._received > self._at_most:
                    self._end()
                feed(data)

            reader.feed_data = counted
            self._watched[connection] = reader

    def leave(self) -> None:
        """Leave the connections as they were."""
        for reader in self._watched.values():
            if reader is not None:
                del reader.feed_data
        self._watched.clear()
        if self._timer is not None and self._task is None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._task is not None and not self._is_over:
            self._is_over = True
            self._task.cancel()

    def _look_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = self._loop.call_at(time, self._look), time

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        look = next_look(self._loop.time(), max(self._begun, self._last_progress()), self._seconds)
        if look is None:
            self._end()
        else:
            self._look_at(look)

    def _last_progress(self) -> float:
        """Return when bytes last came, or were last seen to go: fewer were left than at the look before."""
        writers = (getattr(connection, "_writer", None) for connection in self._watched)
        unsent = sum(_unsent(writer.transport) for writer in writers if writer is not None)
        if unsent < self._unsent:
            self.last = self._loop.time()
        self._unsent = unsent
        return self.last


def _unsent(transport: asyncio.WriteTransport) -> int:
    """Return the bytes that asyncio holds, and those in the kernel that the other side has not confirmed."""
    unsent = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    if socket is not None and fcntl is not None and termios is not None:
        with suppress(OSError, ValueError):  # not of this kind of socket, or closed
            unsent += int.from_bytes(
                fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_INT)), sys.byteorder
            )
    return unsent
