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
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection

from temporal_token_interceptor._tasks import ProgressTimeout

try:
    import fcntl
    import termios
except ImportError:  # Windows, where only what asyncio holds is seen
    fcntl = termios = None  # type: ignore[assignment]

_INT: Final = 4  # bytes of the answer


class ReplyTooLarge(Exception):
    """A reply was given up because it has more bytes than it may (it is asked for again, smaller)."""


class Exchange(ProgressTimeout):
    """Bounds what is sent to Redis and received from it: by progress, and by the bytes of the replies.

    There is one for each command, so it makes no circle of references, which would be work for the collector.

    Args:
        seconds: From the last byte received or sent to `TimeoutError`.
        at_most: Bytes that the replies may have together; None for any number.

    Attributes:
        last: When bytes last came, or were seen to go, on the loop's clock; 0 if none did.

    Raises:
        TimeoutError: no progress in time.
        ReplyTooLarge: the replies have more bytes; the connection is closed by redis-py.
    """

    def __init__(self, seconds: float, at_most: int | None = None) -> None:
        self.last = 0.0
        self._seconds = seconds
        self._at_most = at_most
        self._received = 0
        self._unsent = 0
        self._connections: list[AbstractConnection] = []
        self._readers: list[Any] = []
        self._timeout = asyncio.timeout(None)

    def watch(self, connection: AbstractConnection) -> None:
        """Count the bytes of a connection, if it is connected, and not counted already."""
        self._connections.append(connection)
        reader = getattr(connection, "_reader", None)
        if reader is not None and "feed_data" not in vars(reader):
            feed = reader.feed_data

            def counted(data: bytes) -> None:
                self._received += len(data)
                self.last = self._loop.time()
                if self._at_most is not None and self._received > self._at_most:
                    self.end()
                feed(data)

            reader.feed_data = counted
            self._readers.append(reader)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the connections as they were; raise the bound that was exceeded."""
        for reader in self._readers:
            del reader.feed_data
        self._check.cancel()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._at_most is not None and self._received > self._at_most:
                raise ReplyTooLarge(f"more than {self._at_most} bytes") from None
            raise

    def _last_progress(self) -> float:
        """Return when bytes last came, or were last seen to go: fewer were left than at the call before."""
        writers = (getattr(connection, "_writer", None) for connection in self._connections)
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
        with suppress(OSError):  # not of this kind of socket
            unsent += int.from_bytes(
                fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_INT)), sys.byteorder
            )
    return unsent
