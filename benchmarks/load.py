"""What a full worker does to the delay, and how many calls a worker can bear.

`load`: a worker process with 500 concurrent calls of 50 tokens a second each, every one in a run of its
own, and one process that reads all of them. Several rounds; a percentile is the median of the rounds'.
`calls`: ever more concurrent calls, until the delay passes 100 ms; the same over the roads of others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from statistics import median

from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, child, origin, percentile
from benchmarks.reading import Received
from benchmarks.talk import READER, WORKER, Talk, Worked, converse
from devservers import redis_server

CALLS = 500
RATE = 50  # tokens a second, of each call
SECONDS = 6.0
RAMP = 2.0  # seconds over which the calls begin
ROUNDS = 3

STEPS = (1, 100, 200, 300, 400, 500, 600, 800, 1_000, 1_200)  # concurrent calls
STEP_SECONDS = 2.0
STEP_RAMP = 1.0
STEP_ROADS = ("ours", "raw", "predecessor")

P99_MS = 100.0


async def figures(size: Size) -> AsyncIterator[Figure]:
    calls, tokens = size.count(CALLS), size.count(round(RATE * SECONDS))
    rounds, redis = [], 0.0
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for _ in range(size.count(ROUNDS)):
            before = await _redis_cpu(url)
            rounds.append(
                await converse(worker, reader, _talk("ours", url, calls, tokens, size.seconds(RAMP)), size)
            )
            redis += await _redis_cpu(url) - before
    for figure in delays("load", rounds, calls * tokens):
        yield figure
    said = calls * tokens * len(rounds)
    worked, read = sum(each.cpu for _, each in rounds), sum(each.cpu for each, _ in rounds)
    for process, seconds in (("worker", worked), ("redis", redis), ("reader", read)):
        yield Figure(f"load.cpu.{process}", seconds / said * 1e6, "us/token")


async def call_figures(size: Size) -> AsyncIterator[Figure]:
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for road in STEP_ROADS:
            borne = 0
            for calls in STEPS[: size.count(len(STEPS))]:
                tokens = size.count(round(RATE * STEP_SECONDS))
                ramp = size.seconds(STEP_RAMP)
                for _ in range(2):  # a second chance: it may have been the machine
                    before = await _redis_cpu(url)
                    received, worked = await converse(
                        worker, reader, _talk(road, url, calls, tokens, ramp), size
                    )
                    redis = await _redis_cpu(url) - before
                    p99 = percentile(received.ages, 0.99)
                    bears = p99 <= P99_MS and len(received.ages) == calls * tokens
                    if bears:
                        break
                yield Figure(f"calls.{road}.{calls}.p50", percentile(received.ages, 0.5), "ms")
                yield Figure(f"calls.{road}.{calls}.p99", p99, "ms")
                for process, cpu in (("worker", worked.cpu), ("redis", redis), ("reader", received.cpu)):
                    yield Figure(
                        f"calls.{road}.{calls}.{process}", cpu / calls / tokens * 1e6, "us CPU/token"
                    )
                if not bears:
                    break
                borne = calls * RATE
            yield Figure(f"calls.{road}.borne", borne, "tokens/s")


def _talk(road: str, url: str, calls: int, tokens: int, ramp: float) -> Talk:
    attempts = tuple(origin(str(place)) for place in range(calls))
    return Talk(road, url, attempts, RATE, tokens, ramp=ramp)


def delays(name: str, rounds: Sequence[tuple[Received, Worked]], tokens: int) -> Iterator[Figure]:
    """Yield what was lost, and how late the rest was, of rounds of so many tokens each."""
    yield Figure(f"{name}.lost", sum(tokens - len(received.ages) for received, _ in rounds), "tokens", 0)
    yield Figure(f"{name}.p50", median(percentile(received.ages, 0.5) for received, _ in rounds), "ms")
    tails = [percentile(received.ages, 0.99) for received, _ in rounds]
    yield Figure.of_rounds(f"{name}.p99", tails, "ms", P99_MS)
    # Not ours: how late the worker's timers are, and for how long it stopped to collect garbage. Where these
    # are long, the machine is too busy to judge by.
    late = median(percentile(worked.late, 0.99) for _, worked in rounds)
    yield Figure(f"{name}.timers_late.p99", late, "ms")
    yield Figure(f"{name}.garbage.longest", max(worked.stop for _, worked in rounds), "ms")


async def _redis_cpu(url: str) -> float:
    async with Redis.from_url(url) as client:
        cpu = await client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
