"""A TCP proxy on loopback that treats commands badly, for as long as it is told to."""

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

from tests.support.loopback import serving

Manners = Literal["good", "drops replies", "resets"]


class Proxy:
    """Stands between a worker and its Redis.

    Attributes:
        manners: `drops replies`: what writes is done; its answer is lost, with the connection. `resets`: each
            write costs its connection: before it is done, after it, or after its answer.
        struck: How many writes suffered.

    A frozen proxy keeps the connections that it has and passes nothing over them; new ones work.
    """

    def __init__(self, rng: random.Random) -> None:
        self.manners: Manners = "good"
        self.struck = 0
        self.url = ""
        self._rng = rng
        self._thawed = asyncio.Event()  # of connections that come now
        self._thawed.set()
        self._frozen: list[asyncio.Event] = []

    def freeze(self) -> None:
        """Pass nothing more over the connections that there are."""
        self._thawed.clear()
        self._frozen.append(self._thawed)
        self._thawed = asyncio.Event()
        self._thawed.set()

    def thaw(self) -> None:
        """Pass on over all connections, what was held back first."""
        for frozen in self._frozen:
            frozen.set()
        self._frozen.clear()

    @asynccontextmanager
    async def before(self, redis_url: str):
        """Listen as long as the block lasts."""
        address = urlsplit(redis_url)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, address.hostname, address.port)

        async with serving(serve) as address_here:
            self.url = f"redis://{address_here}"
            yield self

    async def _serve(self, reader, writer, host, port) -> None:
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(host, port)
            try:
                await self._relay(reader, writer, up_reader, up_writer)
            finally:
                writer.transport.abort()
                up_writer.transport.abort()

    async def _relay(self, reader, writer, up_reader, up_writer) -> None:
        fate, thawed = "", self._thawed

        async def up() -> None:
            nonlocal fate
            while data := await reader.read(1 << 20):
                if self.manners != "good" and (b"EVAL" in data or b"XADD" in data):
                    self.struck += 1
                    fates = (
                        ["unanswered"]
                        if self.manners == "drops replies"
                        else ["undone", "unanswered", "answered"]
                    )
                    fate = self._rng.choice(fates)
                    if fate == "undone":
                        return
                await thawed.wait()
                up_writer.write(data)

        async def down() -> None:
            while data := await up_reader.read(1 << 20):
                await thawed.wait()
                if fate == "unanswered":
                    return
                writer.write(data)
                if fate == "answered":
                    await writer.drain()
                    return

        both = {asyncio.ensure_future(up()), asyncio.ensure_future(down())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
