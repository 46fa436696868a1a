"""What a full worker and a popular run do to the delay, and what an attempt weighs.

`load`: a worker process with 500 concurrent calls of 50 tokens a second each, every one in a run of its
own, and one process that reads all of them. `fanout`: 1,000 subscribers of one run in one process, and
`crowd` 1,000 of 1,000 runs, each of which says little.
`memory`: an attempt whose call has said a little.

A token tells when the callback was called, and each reader looks at the clock when it has the event.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
import uuid
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from benchmarks.capture import NullSink
from benchmarks.measure import LEAD, Child, Figure, child, origin, percentile, stamp
from benchmarks.reading import Heard, listen
from examples.servers import redis_server
from temporal_token_interceptor.backends.redis import RedisStreamBackend
from temporal_token_interceptor.buffer import Budget
from temporal_token_interceptor.capture import Observer
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.session import Session

CALLS = 500
RATE = 50  # tokens a second, of each call
SECONDS = 10
TOKENS = RATE * SECONDS
RAMP = 2.0  # seconds over which the calls begin: in life they do not start as one

SUBSCRIBERS = 1_000
CROWD_RATE = 2  # most runs of a crowd think, or wait for a tool, at any time
CONNECTIONS = 4
READER = "bench-reader"  # as the server knows the readers' connections

P99_MS = 100.0
ATTEMPT_KIB = 64.0


# ------------------------------------------------------------------ a full worker


async def worker_figures() -> AsyncIterator[Figure]:
    async with child() as worker, child() as reader, redis_server() as url:
        attempts = [origin(str(place)) for place in range(CALLS)]
        before = await _redis_cpu(url)
        heard, worked = await _run(worker, reader, url, attempts, attempts)
        redis = await _redis_cpu(url) - before
    tokens = CALLS * TOKENS
    for figure in _delays("load", worked, heard, tokens):
        yield figure
    for process, seconds in (("worker", worked.cpu), ("redis", redis), ("reader", heard.cpu)):
        yield Figure(f"load.cpu.{process}", seconds / tokens * 1e6, "us/token")


async def _run(
    worker: Child,
    reader: Child,
    url: str,
    spoken: Sequence[Origin],
    heard: Sequence[Origin],
    *,
    rate: int = RATE,
) -> tuple[Heard, Worked]:
    begin = time.monotonic() + LEAD
    deadline = begin + RAMP + SECONDS + 20
    async with asyncio.timeout_at(deadline + 20):
        return await asyncio.gather(
            reader.run(listen, f"{url}?client_name={READER}", heard, rate * SECONDS, deadline),
            worker.run(work, url, spoken, begin, rate),
        )


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker process noticed: how late each token was said, in ms, and the seconds of CPU it took."""

    late: array[float]
    cpu: float


def work(url: str, attempts: Sequence[Origin], begin: float, rate: int) -> Worked:
    """Run one call in each attempt."""
    before = time.process_time()
    late: array[float] = array("d")
    asyncio.run(_work(url, attempts, begin, rate, late))
    return Worked(late, time.process_time() - before)


async def _work(url: str, attempts: Sequence[Origin], begin: float, rate: int, late: array[float]) -> None:
    budget = Budget(32 * 1024 * 1024)
    async with RedisStreamBackend(url) as backend, asyncio.TaskGroup() as calls:
        for place, attempt in enumerate(attempts):
            calls.create_task(
                _call(backend, attempt, budget, begin + RAMP * place / len(attempts), late, rate=rate)
            )


async def _call(
    backend: RedisStreamBackend,
    attempt: Origin,
    budget: Budget,
    begin: float,
    late: array[float],
    *,
    rate: int,
) -> None:
    """Say tokens at the rate, as a model does: a timer stands for its network."""
    run_id = uuid.uuid4()
    await asyncio.sleep(begin - time.monotonic())
    async with Session(attempt, backend, budget=budget, flush_timeout=timedelta(seconds=10)) as session:
        observer = Observer(session.buffer, default_node="bench")
        observer.on_chat_model_start({}, [], run_id=run_id)
        for token in range(rate * SECONDS):
            due = begin + token / rate
            await asyncio.sleep(due - time.monotonic())
            late.append((time.monotonic() - due) * 1e3)
            observer.on_llm_new_token(stamp(), run_id=run_id)
        observer.close()
        await session.finish("completed_provisional")


# ------------------------------------------------------------------ a popular run


async def fanout_figures() -> AsyncIterator[Figure]:
    attempt = origin()
    async for figure in _reader_figures("fanout", [attempt], [attempt] * SUBSCRIBERS, RATE):
        yield figure


async def crowd_figures() -> AsyncIterator[Figure]:
    attempts = [origin(str(place)) for place in range(SUBSCRIBERS)]
    async for figure in _reader_figures("crowd", attempts, attempts, CROWD_RATE):
        yield figure


async def _reader_figures(
    name: str, spoken: Sequence[Origin], heard_by: Sequence[Origin], rate: int
) -> AsyncIterator[Figure]:
    async with child() as worker, child() as reader, redis_server() as url:
        counting = asyncio.create_task(_most_connections(url))
        heard, worked = await _run(worker, reader, url, spoken, heard_by, rate=rate)
        counting.cancel()
        connections = await counting
    events = len(heard_by) * rate * SECONDS
    for figure in _delays(name, worked, heard, events):
        yield figure
    yield Figure(f"{name}.connections", connections, "connections", CONNECTIONS)
    yield Figure(f"{name}.cpu.reader", heard.cpu / events * 1e6, "us/event")


async def _most_connections(url: str) -> int:
    """Ask the server, until cancelled, how many connections the readers have; return the most."""
    most = 0
    async with Redis.from_url(url) as client:
        with suppress(asyncio.CancelledError):
            while True:
                clients = await client.client_list()
                most = max(most, sum(each["name"] == READER for each in clients))
                await asyncio.sleep(0.5)
    return most


# ------------------------------------------------------------------ an attempt's memory


async def memory_figures() -> AsyncIterator[Figure]:
    budget = Budget(32 * 1024 * 1024)
    gc.collect()
    tracemalloc.start()
    try:
        async with AsyncExitStack() as stack:
            before = _traced()
            observers = [await _live(stack, budget) for _ in range(CALLS)]
            await asyncio.sleep(0.1)  # the sessions send what they have
            yield Figure("memory.attempt", (_traced() - before) / len(observers) / 1024, "KiB", ATTEMPT_KIB)
    finally:
        tracemalloc.stop()


async def _live(stack: AsyncExitStack, budget: Budget) -> Observer:
    """Begin an attempt whose call has said a second's worth of tokens."""
    session = await stack.enter_async_context(
        Session(origin(), NullSink(), budget=budget, flush_timeout=timedelta(seconds=2))
    )
    observer = Observer(session.buffer, default_node="bench")
    run_id = uuid.uuid4()
    observer.on_chat_model_start({}, [], run_id=run_id)
    for _ in range(RATE):
        observer.on_llm_new_token(stamp(), run_id=run_id)
        await asyncio.sleep(0)
    return observer


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _delays(name: str, worked: Worked, heard: Heard, tokens: int) -> Iterator[Figure]:
    yield Figure(f"{name}.lost", tokens - len(heard.ages), "tokens", 0)
    yield Figure(f"{name}.p50", percentile(heard.ages, 0.5), "ms")
    yield Figure(f"{name}.p99", percentile(heard.ages, 0.99), "ms", P99_MS)
    # Not ours: how late the worker's timers are. Where this is long, the machine is too busy to judge by.
    yield Figure(f"{name}.timers_late.p99", percentile(worked.late, 0.99), "ms")


async def _redis_cpu(url: str) -> float:
    async with Redis.from_url(url) as client:
        cpu = await client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
