"""The pattern of `agentex-sdk`: text of 50 ms or 128 characters becomes one entry, written by its own task.

Written again for the comparison: the package needs Python 3.12, and its contexts first ask Agentex's own
server for a message. As there, the first piece leaves at once, an entry is JSON of nested facts, and `XADD`
and `EXPIRE` leave in one pipeline. Kinder than there: the reader waits in one `XREAD` and does not pause
10 ms after each. What the package itself takes stands in docs/benchmarks.md: a millisecond or two more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.peers import Say, plain_key
from temporal_token_interceptor.events import Origin

WINDOW = 0.05  # seconds
MOST = 128  # characters
_MAXLEN = 10_000
_TTL = 3_600


@asynccontextmanager
async def agentex(url: str) -> AsyncIterator[_Agentex]:
    async with Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=100)) as client:
        yield _Agentex(client)


class _Agentex:
    def __init__(self, client: Redis) -> None:
        self._client = client

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        window = _Window(self._client, plain_key(attempt))
        async with asyncio.TaskGroup() as group:
            group.create_task(window.run())
            yield window.add
            window.close()


class _Window:
    """What a call has said and is not sent."""

    def __init__(self, client: Redis, key: str) -> None:
        self._client = client
        self._key = key
        self._said: list[str] = []
        self._size = 0
        self._due = asyncio.Event()
        self._has_begun = self._is_over = False

    async def add(self, token: str) -> None:
        self._said.append(token)
        self._size += len(token)
        if not self._has_begun or self._size >= MOST:
            self._has_begun = True
            self._due.set()

    def close(self) -> None:
        self._is_over = True
        self._due.set()

    async def run(self) -> None:
        while not self._is_over or self._said:
            with suppress(TimeoutError):
                async with asyncio.timeout(WINDOW):
                    await self._due.wait()
            self._due.clear()
            if not self._said:
                continue
            text = "\n".join(self._said)
            self._said, self._size = [], 0
            facts = {"type": "delta", "delta": {"type": "text", "text_delta": text}, "index": 0}
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(self._key, {"f": text, "data": json.dumps(facts)}, maxlen=_MAXLEN, approximate=True)
                pipe.expire(self._key, _TTL)
                await pipe.execute()
