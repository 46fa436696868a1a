"""Three ways to write tokens to Redis with redis-py and nothing else.

`raw`: the model waits for an `XADD` for each token. `pipelined`: what has gathered during a round trip
leaves in one pipeline, from all calls of the worker. `coalesced`: a call's text of 50 ms becomes one entry.
None of them has retries, attempts, gaps, an end, or a bound for its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.peers import Say, plain_key
from temporal_token_interceptor.events import Origin

WINDOW = 0.05  # seconds; more would be seen, less would hardly save anything
_MAXLEN = 10_000
_TTL = 3_600


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[_Raw]:
    async with _client(url) as client:
        yield _Raw(client)


@asynccontextmanager
async def pipelined(url: str) -> AsyncIterator[_Pipelined]:
    async with _client(url) as client:
        yield _Pipelined(client)


@asynccontextmanager
async def coalesced(url: str) -> AsyncIterator[_Coalesced]:
    async with _client(url) as client:
        yield _Coalesced(client)


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Redis]:
    # redis-py's default pool raises where more than 100 calls write at once; this one lets them wait.
    async with Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=100)) as client:
        yield client


class _Raw:
    def __init__(self, client: Redis) -> None:
        self._client = client

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        key = plain_key(attempt)

        async def say(token: str) -> None:
            await self._client.xadd(key, {"f": token}, maxlen=_MAXLEN, approximate=True)

        yield say
        await self._client.expire(key, _TTL)


class _Pipelined:
    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiting: list[tuple[str, str]] = []
        self._sending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        key = plain_key(attempt)

        async def say(token: str) -> None:
            self._waiting.append((key, token))
            if self._sending is None:
                self._sending = asyncio.create_task(self._send())

        yield say
        while self._sending is not None:
            await self._sending
        await self._client.expire(key, _TTL)

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                async with self._client.pipeline(transaction=False) as pipe:
                    for key, token in batch:
                        pipe.xadd(key, {"f": token}, maxlen=_MAXLEN, approximate=True)
                    await pipe.execute()
        finally:
            self._sending = None


class _Coalesced:
    def __init__(self, client: Redis) -> None:
        self._client = client

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        key = plain_key(attempt)
        gathered: list[str] = []
        sending: asyncio.Task[None] | None = None

        async def send() -> None:
            await asyncio.sleep(WINDOW)
            text = "\n".join(gathered)
            gathered.clear()
            await self._client.xadd(key, {"f": text}, maxlen=_MAXLEN, approximate=True)

        async def say(token: str) -> None:
            nonlocal sending
            gathered.append(token)
            if len(gathered) == 1:
                if sending is not None:
                    await sending
                sending = asyncio.create_task(send())

        yield say
        if sending is not None:
            await sending
        await self._client.expire(key, _TTL)
