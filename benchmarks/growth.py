"""Whether anything grows with the length of a stream: delay, CPU on both sides, bytes in Redis.

One call sends text for long; each figure is taken for each tenth of it. A ratio compares the best of the last
three tenths with the best of the second to the fourth: what else the machine does only adds to a figure,
and the first tenth pays for connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from statistics import median

from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, child, origin
from benchmarks.talk import READER, WORKER, Talk, converse
from devservers import redis_server
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.keys import Keys

TOKENS = 20_000
LONG_TOKENS = 100_000
RATE = 1_000  # a second: as of ten fast models, to be long soon
GROWTH = 1.25


async def figures(size: Size) -> AsyncIterator[Figure]:
    attempt, tokens = origin(), size.count(LONG_TOKENS if size.is_long else TOKENS, 10)
    key = Keys("tti:v1:").stream(StreamKey.of(attempt))
    async with child(*WORKER) as worker, child(READER) as reader, redis_server() as url:
        weighing = asyncio.create_task(_weigh(url, key, tokens / RATE / 10, time.monotonic() + size.lead))
        received, worked = await converse(worker, reader, Talk("ours", url, (attempt,), RATE, tokens), size)
        weights = await weighing
    tenth = tokens // 10
    series = {
        "delay": ([median(received.ages[at : at + tenth]) for at in range(0, tokens, tenth)], "ms"),
        "cpu.worker": (_each(worked.marks, tenth), "us/token"),
        "cpu.reader": (_each(received.marks, tenth), "us/token"),
        "redis": ([weight / 1024 / (place * tenth) * 1e3 for place, weight in weights], "KiB/1,000 tokens"),
    }
    for name, (values, unit) in series.items():
        # What a process did before the first tenth was over also holds its start, so marks have one less.
        first = len(series["delay"][0]) - len(values)
        for place, value in enumerate(values, first + 1):
            yield Figure(f"growth.{name}.{place * tenth}", value, unit)
        ratio = min(values[-3:]) / min(values[1 - first : 4 - first])
        yield Figure(f"growth.{name}.ratio", ratio, "x", GROWTH)


def _each(marks: Sequence[float], tenth: int) -> list[float]:
    return [(after - before) / tenth * 1e6 for before, after in pairwise(marks)]


async def _weigh(url: str, key: str, every: float, begin: float) -> list[tuple[int, int]]:
    """Return how many bytes the stream takes at the end of each tenth, and which tenth it is."""
    weights = []
    async with Redis.from_url(url) as client:
        for place in range(1, 11):
            await asyncio.sleep(begin + place * every - time.monotonic())
            weights.append((place, int(await client.memory_usage(key, samples=0) or 0)))
    return weights
