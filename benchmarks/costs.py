"""What 1,000 tokens cost on each road: CPU of the worker and of the reader, bytes in Redis.

A few calls at 50 tokens a second each, as on a worker that has little to do: so nearly each token travels
alone, which is the most that it can cost. What a process pays to connect is in it, on all roads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, child, origin
from benchmarks.peers import ROADS, plain_key
from benchmarks.talk import READER, WORKER, Talk, converse
from examples.servers import redis_server
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.keys import Keys

CALLS = 20
RATE = 50
SECONDS = 4.0


async def figures(size: Size) -> AsyncIterator[Figure]:
    calls, tokens = size.count(CALLS), size.count(round(RATE * SECONDS))
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for road in ROADS:
            attempts = tuple(origin(str(place)) for place in range(calls))
            talk = Talk(road, url, attempts, RATE, tokens, ramp=1 / RATE)
            heard, worked = await converse(worker, reader, talk, size)
            said = calls * tokens
            yield Figure(f"costs.{road}.worker", worked.cpu / said * 1e6, "ms CPU/1,000 tokens")
            yield Figure(f"costs.{road}.reader", heard.cpu / said * 1e6, "ms CPU/1,000 tokens")
            stored = await _bytes(url, road, attempts)
            yield Figure(f"costs.{road}.redis", stored / said * 1_000 / 1024, "KiB/1,000 tokens")


async def _bytes(url: str, road: str, attempts: tuple[Origin, ...]) -> int:
    keys = Keys("tti:v1:")
    total = 0
    async with Redis.from_url(url) as client:
        for attempt in attempts:
            key = keys.stream(StreamKey.of(attempt)) if road == "ours" else plain_key(attempt)
            total += int(await client.memory_usage(key, samples=0) or 0)
    return total
