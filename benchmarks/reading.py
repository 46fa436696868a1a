"""The reading processes of the benchmarks. Like a gateway in life, they load no LangChain."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from benchmarks.measure import age
from temporal_token_interceptor.backends.redis import RedisStreamBackend
from temporal_token_interceptor.events import Origin, TokenEvent
from temporal_token_interceptor.subscriber import TokenSubscriber


@dataclass(frozen=True, slots=True)
class Heard:
    """What a process heard: the age of each token on its arrival, in ms, and the seconds of CPU it took."""

    ages: array[float]
    cpu: float


def listen(url: str, attempts: Sequence[Origin], tokens: int, deadline: float) -> Heard:
    """Subscribe to each attempt's run until each has said all its tokens, or until the deadline."""
    return asyncio.run(_listen(url, attempts, tokens, deadline))


async def _listen(url: str, attempts: Sequence[Origin], tokens: int, deadline: float) -> Heard:
    before = time.process_time()
    async with RedisStreamBackend(url) as backend:
        all_heard = [_Run(tokens) for _ in attempts]
        complete = asyncio.gather(*(each.complete for each in all_heard))
        until = asyncio.ensure_future(_at_most(complete, deadline))
        subscriber = TokenSubscriber(None, backend)
        await asyncio.gather(
            *(
                each.follow(subscriber, attempt, until)
                for each, attempt in zip(all_heard, attempts, strict=True)
            )
        )
    ages: array[float] = array("d")
    for each in all_heard:
        ages.extend(each.ages)
    return Heard(ages, time.process_time() - before)


class _Run:
    def __init__(self, tokens: int) -> None:
        self.ages: array[float] = array("d")
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tokens = tokens

    async def follow(self, subscriber: TokenSubscriber, attempt: Origin, until: asyncio.Future[None]) -> None:
        """Note the age of each token.

        Raises:
            RuntimeError: a token came out of its order, or twice.
        """
        async for event in subscriber.subscribe(attempt.workflow_id, attempt.run_id, until=until):
            if isinstance(event, TokenEvent):
                if event.index != len(self.ages):
                    raise RuntimeError(f"token {len(self.ages)} was expected, {event.index} came")
                self.ages.append(age(event.token))
                if len(self.ages) == self._tokens:
                    self.complete.set_result(None)


def listen_both(url: str, attempt: Origin, key: str, tokens: int, deadline: float) -> tuple[Heard, Heard]:
    """Listen to an attempt through a subscriber, and to a key by plain `XREAD`."""

    async def both() -> tuple[Heard, Heard]:
        return await asyncio.gather(
            _listen(url, [attempt], tokens, deadline), _read(url, key, tokens, deadline)
        )

    return asyncio.run(both())


async def _read(url: str, key: str, tokens: int, deadline: float) -> Heard:
    ages: array[float] = array("d")
    last: bytes | str = "0"
    async with Redis.from_url(url) as client, asyncio.timeout(deadline - time.monotonic()):
        while len(ages) < tokens:
            reply: Any = await client.xread({key: last}, block=4_000)
            for _, entries in reply:
                for entry, fields in entries:
                    ages.append(age(fields[b"f"]))
                    last = entry
    return Heard(ages, 0.0)


async def _at_most(done: asyncio.Future[list[None]], deadline: float) -> None:
    await asyncio.wait({done}, timeout=deadline - time.monotonic())
