"""How long a token takes from the model's callback to the subscriber, over what Redis itself takes.

Ours: `Observer` -> `Session` -> `RedisStreamBackend` -> `TokenSubscriber`. Raw: `XADD` -> `XREAD BLOCK` by
the same redis-py. Both write in one process and read in another, and a writer alternates between them, token
by token: each moment of the machine, good or bad, is theirs alike, and neither meets the other.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from benchmarks.measure import LEAD, Figure, child, origin, percentile, stamp
from benchmarks.reading import listen_both
from examples.servers import redis_server
from temporal_token_interceptor.backends.redis import RedisStreamBackend
from temporal_token_interceptor.buffer import Budget
from temporal_token_interceptor.capture import Observer
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.session import Session

P50, P99 = 1.5, 3.0

RATES = {50: 12, 200: 6}  # tokens a second: for how many seconds

_WARM_UP = 20  # tokens of each road that count for nothing: first connections, first imports


@dataclass(frozen=True, slots=True)
class Plan:
    """What the writer does."""

    url: str
    attempt: Origin
    key: str
    rate: int
    tokens: int
    begin: float


async def figures() -> AsyncIterator[Figure]:
    async with child() as writer, child() as reader, redis_server() as url:
        for rate, seconds in RATES.items():
            tokens, begin = _WARM_UP + rate * seconds, time.monotonic() + LEAD
            plan = Plan(url, origin(), f"raw:{uuid.uuid4().hex}", rate, tokens, begin)
            deadline = begin + tokens / rate + 10
            async with asyncio.timeout_at(deadline + 10):
                (ours, raw), _ = await asyncio.gather(
                    reader.run(listen_both, url, plan.attempt, plan.key, tokens, deadline),
                    writer.run(write, plan),
                )
            for figure in _figures(f"delivery.{rate}", ours.ages[_WARM_UP:], raw.ages[_WARM_UP:]):
                yield figure
            yield Figure(f"delivery.{rate}.lost", tokens - len(ours.ages), "tokens", 0)


def _figures(name: str, ours: array[float], raw: array[float]) -> Iterator[Figure]:
    for share, budget in ((0.5, P50), (0.99, P99)):
        of_raw, of_ours = percentile(raw, share), percentile(ours, share)
        yield Figure(f"{name}.p{share * 100:.0f}.raw", of_raw, "ms")
        yield Figure(f"{name}.p{share * 100:.0f}.ours", of_ours, "ms")
        yield Figure(f"{name}.p{share * 100:.0f}.ratio", of_ours / of_raw, "x", budget)


# ------------------------------------------------------------------ the writing process


def write(plan: Plan) -> None:
    """Write to both roads, in turns."""
    asyncio.run(_write(plan))


async def _write(plan: Plan) -> None:
    budget = Budget(1024 * 1024)
    call = uuid.uuid4()
    async with (
        Redis.from_url(plan.url) as client,
        RedisStreamBackend(plan.url) as backend,
        Session(plan.attempt, backend, budget=budget, flush_timeout=timedelta(seconds=5)) as session,
    ):
        observer = Observer(session.buffer, default_node="bench")
        observer.on_chat_model_start({}, [], run_id=call)
        for tick in range(plan.tokens * 2):
            await asyncio.sleep(plan.begin + tick / (plan.rate * 2) - time.monotonic())
            if tick % 2:
                observer.on_llm_new_token(stamp(), run_id=call)
            else:
                await client.xadd(plan.key, {"f": stamp()}, maxlen=10_000, approximate=True)
        observer.close()
        await session.finish("completed_provisional")
