"""The reading half of the Redis transport: catch up with `XRANGE`, then follow with the shared read.

A blocked read holds a connection, so the readers of a process share one (`redis_follower`). A reader first
reads what is there, then joins; the two meet at an entry id, so that nothing falls between them.

A reader that does not keep up costs the others nothing: its queue is bounded, and when it overflows the
reader goes back to `XRANGE`. Redis holds the entries anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import entries, server_id
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.outage import Outage, Trouble, passes, refused
from temporal_token_interceptor.transport.redis.shared_read import Follower

_PAGE = 500


class Asks(Protocol):
    """Whoever answers questions: `Desk`, or its counterpart for a cluster."""

    async def ask(self, command: str, /, *words: str | int) -> Any:
        """Return the reply, its strings as bytes."""

    async def silence(self) -> None:
        """Wait until the question under way is over."""


class RedisReader:
    """Reads any number of streams over two connections: one for questions, one that waits.

    Args:
        desk: Answers questions.
        follower: The shared read.
        keys: Names the keys.
        outage: Is told when reading fails.
        patience: Seconds that Redis may be away before readers get `TransportUnavailable`.
    """

    def __init__(
        self, desk: Asks, follower: Follower, keys: Keys, outage: Outage, *, patience: float
    ) -> None:
        self._keys = keys
        self._outage = outage
        self._patience = patience
        self._desk = desk
        self._follower = follower
        self._asking: set[asyncio.Timeout] = set()
        self._closed = False

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come."""
        key = self._keys.stream(stream)
        try:
            while not self._closed:
                page = await self._range(key, after)
                if page:
                    after = page[-1].id
                    yield page
                if len(page) == _PAGE or self._closed:
                    continue
                listener = self._follower.join(key, after)
                try:
                    # Others may be ahead, and the listener starts where they are.
                    while after < listener.since and (page := await self._range(key, after, listener.since)):
                        after = page[-1].id
                        yield page
                    while batch := await listener.next():
                        if batch[0].id <= after:
                            batch = [entry for entry in batch if entry.id > after]
                        if batch:
                            after = batch[-1].id
                            yield batch
                finally:
                    self._follower.leave(key, listener)
                # The listener's queue overflowed, or `close` ended it.
        except _ClosedError:
            return

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        newest = entries(await self._ask("XREVRANGE", self._keys.stream(stream), "+", "-", "COUNT", 1))
        return newest[0].id if newest else ""

    async def first_id(self, stream: StreamKey) -> str:
        """Return the id of the oldest entry that is still there, or an empty string."""
        oldest = entries(await self._ask("XRANGE", self._keys.stream(stream), "-", "+", "COUNT", 1))
        return oldest[0].id if oldest else ""

    async def newest_run(self, stream: StreamKey) -> str | None:
        """Return the run that the pointer of a workflow names."""
        run_id: bytes | None = await self._ask("GET", self._keys.pointer(stream))
        return None if run_id is None else run_id.decode()

    async def close(self) -> None:
        """End all iterators, questions and the shared read. Closing twice is fine."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for asking in self._asking:
            if not asking.expired():
                asking.reschedule(now)
        await self._follower.close()
        await self._desk.silence()

    def __repr__(self) -> str:
        return f"<RedisReader {self._follower!r}>"

    async def _range(self, key: str, after: str, until: str = "") -> list[Entry]:
        low = f"({server_id(after)}" if after else "-"
        high = server_id(until) if until else "+"
        return entries(await self._ask("XRANGE", key, low, high, "COUNT", _PAGE))

    async def _ask(self, command: str, key: str, *words: str | int) -> Any:
        """Ask about a key until Redis answers, within the bound; waiting for one's turn counts."""
        trouble = Trouble(self._outage)
        try:
            async with asyncio.timeout(self._patience) as asking:
                self._asking.add(asking)
                while not self._closed:
                    try:
                        reply = await self._desk.ask(command, key, *words)
                    except (RedisError, OSError) as error:
                        if not passes(error):
                            raise refused(key, error) from error
                        await trouble.wait(error)
                    else:
                        trouble.over()
                        return reply
        except TimeoutError:
            if not self._closed:
                raise trouble.unavailable(self._patience) from trouble.error
        finally:
            self._asking.discard(asking)
            trouble.leave()
        raise _ClosedError("the backend is closed: nothing can be read from it any more")


class _ClosedError(TokenStreamError):
    """Ends the iterators that are still open."""
