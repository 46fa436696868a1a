"""How long a token takes from the model's callback to the subscriber, over what Redis itself takes.

Ours: `Observer` -> `Session` -> `RedisStreamBackend` -> `TokenSubscriber`. Raw: `XADD` -> `XREAD BLOCK` by
the same redis-py. Both write in one process and read in another, and a writer alternates between them, token
by token: each moment of the machine, good or bad, is theirs alike, and neither meets the other.
`peers` does the same with all roads at once.

A ratio of medians is the median of the rounds' ratios; p99 is that of all rounds together, since a
round has few tokens, and its interval that of the rounds'.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median

from benchmarks.measure import Child, Figure, Size, child, interval, origin, percentile
from benchmarks.peers import ROADS
from benchmarks.reading import listen_to_all
from benchmarks.talk import READER, WORKER, speak_in_turns
from devservers import redis_server

P50, P99 = 1.5, 3.0

RATES = {20: 6.0, 50: 5.0, 200: 3.0}  # tokens a second: for how many seconds
ROUNDS = 3

PEER_RATE = 50
PEER_SECONDS = 6.0

_WARM_UP = 20  # tokens of each road that count for nothing: first connections, first imports


async def figures(size: Size) -> AsyncIterator[Figure]:
    rounds: dict[int, list[dict[str, list[float]]]] = {rate: [] for rate in RATES}
    lost = 0
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        for _ in range(size.count(ROUNDS)):
            for rate, seconds in RATES.items():
                tokens = size.count(round(rate * seconds))
                ages = await take_turns(
                    worker, reader, url, ("ours", "raw"), rate=rate, tokens=tokens, size=size
                )
                rounds[rate].append(ages)
                lost += tokens - len(ages["ours"])
    for rate, taken in rounds.items():
        name = f"delivery.{rate}"
        for road in ("raw", "ours"):
            yield Figure(f"{name}.{road}.p50", median(percentile(ages[road], 0.5) for ages in taken), "ms")
        ratios = (percentile(ages["ours"], 0.5) / percentile(ages["raw"], 0.5) for ages in taken)
        yield Figure.of_rounds(f"{name}.p50.ratio", ratios, "x", P50)
        p99 = {road: percentile(_pooled(taken, road), 0.99) for road in ("raw", "ours")}
        for road, value in p99.items():
            yield Figure(f"{name}.{road}.p99", value, "ms")
        tails = (percentile(ages["ours"], 0.99) / percentile(ages["raw"], 0.99) for ages in taken)
        yield Figure(f"{name}.p99.ratio", p99["ours"] / p99["raw"], "x", P99, *interval(tails))
    yield Figure("delivery.lost", lost, "tokens", 0)


async def peer_figures(size: Size) -> AsyncIterator[Figure]:
    tokens = size.count(round(PEER_RATE * PEER_SECONDS))
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        ages = await take_turns(worker, reader, url, tuple(ROADS), rate=PEER_RATE, tokens=tokens, size=size)
    for road, values in ages.items():
        yield Figure(f"peers.delay.{road}.p50", percentile(values, 0.5), "ms")
        yield Figure(f"peers.delay.{road}.p99", percentile(values, 0.99), "ms")


async def take_turns(
    worker: Child,
    reader: Child,
    url: str,
    names: Sequence[str],
    *,
    rate: int,
    tokens: int,
    size: Size,
) -> dict[str, list[float]]:
    """Return the ages of the tokens of each road, in ms, those of a warm-up left out."""
    roads = [(name, origin()) for name in names]
    warm = size.count(_WARM_UP)
    begin = time.monotonic() + size.lead
    seconds = (tokens + warm) / rate + 10
    async with asyncio.timeout(size.lead + seconds + 10):
        received, _ = await asyncio.gather(
            reader.run(listen_to_all, url, roads, tokens + warm, begin + seconds),
            worker.run(speak_in_turns, url, roads, rate, tokens + warm, begin),
        )
    return {name: list(each.ages[warm:]) for name, each in zip(names, received, strict=True)}


def _pooled(rounds: Sequence[dict[str, list[float]]], road: str) -> list[float]:
    return [age for ages in rounds for age in ages[road]]
