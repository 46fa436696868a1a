"""What many readers in one process cost, and how late they are.

`fanout`: 1,000 subscribers of one run; `crowd`: 1,000 of 1,000 runs, each of which says little.
`subscribers`: one to a few hundred subscribers of one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from redis.asyncio import Redis

from benchmarks.load import RAMP, RATE, delays
from benchmarks.measure import Figure, Size, child, origin, percentile
from benchmarks.talk import READER, WORKER, Talk, converse
from devservers import redis_server
from temporal_token_interceptor.events import Origin

SUBSCRIBERS = 1_000
SECONDS = 4.0
ROUNDS = 3
CROWD_RATE = 2  # most runs of a crowd think, or wait for a tool, at any time

STEPS = (1, 10, 100, 300, 600)  # subscribers
LONG_STEPS = (*STEPS, 1_000)
STEP_SECONDS = 3.0

CONNECTIONS = 4
_CLIENT = "bench-reader"  # as the server knows the readers' connections


async def fanout_figures(size: Size) -> AsyncIterator[Figure]:
    attempt = origin()
    async for figure in _figures("fanout", [attempt], [attempt] * size.count(SUBSCRIBERS), RATE, size):
        yield figure


async def crowd_figures(size: Size) -> AsyncIterator[Figure]:
    attempts = [origin(str(place)) for place in range(size.count(SUBSCRIBERS))]
    async for figure in _figures("crowd", attempts, attempts, CROWD_RATE, size):
        yield figure


async def subscriber_figures(size: Size) -> AsyncIterator[Figure]:
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        steps = LONG_STEPS if size.is_long else STEPS
        for subscribers in steps[: size.count(len(steps))]:
            attempt = origin()
            tokens = size.count(round(RATE * STEP_SECONDS))
            talk = Talk("ours", url, (attempt,), RATE, tokens)
            received, _ = await converse(worker, reader, talk, size, received=[attempt] * subscribers)
            name = f"subscribers.{subscribers}"
            yield Figure(f"{name}.p50", percentile(received.ages, 0.5), "ms")
            yield Figure(f"{name}.p99", percentile(received.ages, 0.99), "ms")
            yield Figure(f"{name}.cpu", received.cpu / len(received.ages) * 1e6, "us/event")


async def _figures(
    name: str, spoken: Sequence[Origin], received_by: Sequence[Origin], rate: int, size: Size
) -> AsyncIterator[Figure]:
    tokens = size.count(round(rate * SECONDS), 2)
    rounds, connections = [], 0
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for _ in range(size.count(ROUNDS)):
            again = {
                attempt: origin(attempt.activity_id) for attempt in spoken
            }  # a run of its own each round
            talk = Talk("ours", url, tuple(again.values()), rate, tokens, ramp=size.seconds(RAMP))
            counting = asyncio.create_task(most_connections(url, _CLIENT))
            received = [again[attempt] for attempt in received_by]
            named = f"{url}?client_name={_CLIENT}"
            rounds.append(await converse(worker, reader, talk, size, received=received, url=named))
            counting.cancel()
            connections = max(connections, await counting)
    events = len(received_by) * tokens
    for figure in delays(name, rounds, events):
        yield figure
    yield Figure(f"{name}.connections", connections, "connections", CONNECTIONS)
    cpu = sum(received.cpu for received, _ in rounds)
    yield Figure(f"{name}.cpu.reader", cpu / events / len(rounds) * 1e6, "us/event")


async def most_connections(url: str, name: str) -> int:
    """Ask the server, until cancelled, how many connections have a name; return the most."""
    most = 0
    async with Redis.from_url(url) as client:
        with suppress(asyncio.CancelledError):
            while True:
                clients = await client.client_list()
                most = max(most, sum(each["name"] == name for each in clients))
                await asyncio.sleep(0.5)
    return most
