"""Between a client and a real Redis: links that are slow, and servers that refuse what we use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.support.loopback import serving

Refuses = Callable[[list[bytes]], str | None]
"""Returns the error for a command's words; None lets it pass."""

_PIECE = 32 * 1024


class OddRedis:
    """A proxy before a Redis.

    Attributes:
        url: Its address.
        bytes_per_second: How fast it delivers to clients, all of them together; 0 for any speed.
        refuses: Which commands are answered with an error.
        closes: At which commands it closes the connection.
        commands: How often each command was sent.
        replied: Bytes that went to clients.
    """

    def __init__(self) -> None:
        self.url = ""
        self.bytes_per_second = 0.0
        self.refuses: Refuses = lambda _: None
        self.closes: Callable[[list[bytes]], bool] = lambda _: False
        self.commands: dict[str, int] = {}
        self.replied = 0
        self.unblocks = False  # XREAD BLOCK returns at once
        self._free_at = 0.0
        self._upstream = ("", 0)

    @asynccontextmanager
    async def before(self, redis_url: str) -> AsyncIterator[OddRedis]:
        """Listen as long as the block lasts."""
        address = urlsplit(redis_url)
        self._upstream = (str(address.hostname), int(address.port or 6379))
        async with serving(self._serve) as address_here:
            self.url = f"redis://{address_here}"
            yield self

    @property
    def total(self) -> int:
        """How many commands were sent."""
        return sum(self.commands.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            back_reader, back_writer = await asyncio.open_connection(*self._upstream)
            down = asyncio.ensure_future(self._down(back_reader, writer))
            try:
                while True:
                    await self._forward(await _command(reader), back_writer)
            finally:
                down.cancel()
                writer.transport.abort()
                back_writer.transport.abort()

    async def _forward(self, words: list[bytes], back_writer: asyncio.StreamWriter) -> None:
        name = words[0].decode().upper()
        self.commands[name] = self.commands.get(name, 0) + 1
        if self.closes(words):
            raise ConnectionResetError
        if error := self.refuses(words):
            # By Redis itself, so that the replies to a pipeline stay in order.
            words = [b"EVAL", b"return redis.error_reply(ARGV[1])", b"0", error.encode()]
        if self.unblocks and b"BLOCK" in words:
            place = words.index(b"BLOCK")
            words = words[:place] + words[place + 2 :]
        back_writer.write(_packed(words))
        await back_writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                if self.bytes_per_second:
                    now = asyncio.get_running_loop().time()
                    self._free_at = max(self._free_at, now) + len(data) / self.bytes_per_second
                    await asyncio.sleep(self._free_at - now)
                self.replied += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


def _packed(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
