"""What 1,000 tokens cost on each road: CPU of the worker and of the reader, bytes in Redis.

A few calls at 50 tokens a second each, as on a worker that has little to do: so nearly each token travels
alone, which is the most that it can cost. What a process pays to connect is in it, on all roads.

`costs.reading`: the reader alone, through memory: 50 runs, one token a wake-up, less what writing costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, child, origin
from benchmarks.peers import ROADS, plain_key
from benchmarks.talk import READER, WORKER, Talk, converse
from devservers import redis_server
from temporal_token_interceptor.events import Frame, Origin, TextRun, TokenEvent
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.memory import MemoryStreamBackend
from temporal_token_interceptor.transport.redis.keys import Keys

CALLS = 20
RATE = 50
SECONDS = 4.0

RUNS = 50
TOKENS_A_RUN = 400
ROUNDS = 5


async def figures(size: Size) -> AsyncIterator[Figure]:
    calls, tokens = size.count(CALLS), size.count(round(RATE * SECONDS))
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for road in ROADS:
            attempts = tuple(origin(str(place)) for place in range(calls))
            talk = Talk(road, url, attempts, RATE, tokens, ramp=1 / RATE)
            received, worked = await converse(worker, reader, talk, size)
            said = calls * tokens
            yield Figure(f"costs.{road}.worker", worked.cpu / said * 1e6, "ms CPU/1,000 tokens")
            yield Figure(f"costs.{road}.reader", received.cpu / said * 1e6, "ms CPU/1,000 tokens")
            stored = await _bytes(url, road, attempts)
            yield Figure(f"costs.{road}.redis", stored / said * 1_000 / 1024, "KiB/1,000 tokens")
    # The least of a few: what else runs on the machine only adds.
    both = min([await _reading_cpu(size, readers=True) for _ in range(size.count(ROUNDS))])
    writing = min([await _reading_cpu(size, readers=False) for _ in range(size.count(ROUNDS))])
    yield Figure("costs.reading", both - writing, "us CPU/token")


async def _reading_cpu(size: Size, *, readers: bool) -> float:
    """Return the microseconds of CPU that a token takes in this process, with a reader for each run."""
    attempts = [origin(str(place)) for place in range(RUNS)]
    tokens = size.count(TOKENS_A_RUN, 2)
    frames = [
        [
            encode(Frame(attempt, seq, (TextRun("text", 0, seq, ("token ",), 1),), header=seq == 0))
            for seq in range(tokens)
        ]
        for attempt in attempts
    ]
    backend = MemoryStreamBackend()
    until = asyncio.get_running_loop().create_future()
    subscriber = TokenSubscriber(None, backend)

    async def read(attempt: Origin) -> int:
        events = subscriber.subscribe(attempt.workflow_id, attempt.run_id, until=until)
        return sum([isinstance(event, TokenEvent) async for event in events])

    reading = [asyncio.create_task(read(attempt)) for attempt in attempts if readers]
    before = time.process_time()
    for seq in range(tokens):
        for place, attempt in enumerate(attempts):
            await backend.write(StreamKey.of(attempt), frames[place][seq])
        await asyncio.sleep(0)
    taken = time.process_time() - before
    until.set_result(None)
    if set(await asyncio.gather(*reading)) - {tokens}:
        raise RuntimeError("a reader did not get each token once")
    return taken / (RUNS * tokens) * 1e6


async def _bytes(url: str, road: str, attempts: tuple[Origin, ...]) -> int:
    keys = Keys("tti:v1:")
    total = 0
    async with Redis.from_url(url) as client:
        for attempt in attempts:
            key = keys.stream(StreamKey.of(attempt)) if road == "ours" else plain_key(attempt)
            total += int(await client.memory_usage(key, samples=0) or 0)
    return total
