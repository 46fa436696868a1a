"""What it costs a viewer to come back: a page reloads, and passes the cursor of the last event that it has.

A stream of 10,000 entries, which is what a run keeps, one token each; the cursor is that of the last one. The
floor is what our transport takes to fetch all entries, with nothing done to them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from statistics import median

from benchmarks.measure import Figure, Size, child, origin
from benchmarks.talk import READER
from devservers import redis_server
from temporal_token_interceptor.events import Call, CallStarted, Frame, Origin, StreamEnded, TextRun
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend

ENTRIES = 10_000
HEADER_EVERY = 64  # as a worker sends them
ROUNDS = 15

BUDGET = 50.0  # ms


async def figures(size: Size) -> AsyncIterator[Figure]:
    entries, rounds = size.count(ENTRIES), size.count(ROUNDS, 3)
    async with child(READER, __name__) as reader, redis_server() as url:
        attempt = origin()
        async with RedisStreamBackend(url, stream_maxlen=2 * ENTRIES) as backend:
            stream = StreamKey.of(attempt)
            await asyncio.gather(*(backend.write(stream, data) for data in frames(attempt, entries)))
        resumed, fetched = await reader.run(measure, url, attempt, rounds)
    yield Figure.of_rounds("resume.end", resumed, "ms", BUDGET)
    yield Figure("resume.end.longest", max(resumed), "ms")
    yield Figure("resume.fetch", median(fetched), "ms")


def frames(attempt: Origin, entries: int) -> list[bytes]:
    call = Call(ordinal=0, id="1:0", node_name="agent")
    frames = [Frame(attempt, 0, (CallStarted(call=call),), header=True)]
    for seq in range(1, entries):
        said = (TextRun("text", 0, seq - 1, ("token ",), 1),)
        frames.append(Frame(attempt, seq, said, header=seq % HEADER_EVERY == 0, open_calls=(call,)))
    return [encode(frame) for frame in frames]


def measure(url: str, attempt: Origin, rounds: int) -> tuple[list[float], list[float]]:
    """Return how many ms each round took: to resume at the end, and to fetch all entries."""
    return asyncio.run(_measure(url, attempt, rounds))


async def _measure(url: str, attempt: Origin, rounds: int) -> tuple[list[float], list[float]]:
    stream = StreamKey.of(attempt)
    resumed: list[float] = []
    fetched: list[float] = []
    async with RedisStreamBackend(url) as backend:
        last = await backend.last_id(stream)
        for _ in range(rounds):  # in turns, so that what else runs on the machine is in both
            begun = time.perf_counter()
            await resume(TokenSubscriber(None, backend), attempt, last)
            resumed.append((time.perf_counter() - begun) * 1e3)
            begun = time.perf_counter()
            await _fetch(backend, stream, last)
            fetched.append((time.perf_counter() - begun) * 1e3)
    return resumed, fetched


async def resume(subscriber: TokenSubscriber, attempt: Origin, last: str) -> None:
    """Read from the last entry to the end that the stream has now.

    Raises:
        RuntimeError: something came again.
    """
    now = asyncio.get_running_loop().create_future()
    now.set_result(None)
    cursor = str(Cursor(attempt.run_id, last, 2))
    events = subscriber.subscribe(attempt.workflow_id, attempt.run_id, cursor, until=now)
    seen = [event async for event in events]
    if any(not isinstance(event, StreamEnded) and event.cursor <= cursor for event in seen):
        raise RuntimeError("a viewer that resumed got again what it had")


async def _fetch(backend: RedisStreamBackend, stream: StreamKey, last: str) -> None:
    reading = backend.read(stream)
    async for batch in reading:
        if batch[-1].id >= last:
            break
    await reading.aclose()
