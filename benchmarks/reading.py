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
from benchmarks.peers import plain_key
from temporal_token_interceptor.events import Origin, TokenEvent
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend


@dataclass(frozen=True, slots=True)
class Received:
    """What a process received: the age of each token on its arrival, in ms, and the seconds of CPU it took.

    `marks` are the seconds of CPU it had taken after each tenth of a lone reader's tokens.
    """

    ages: array[float]
    cpu: float
    marks: array[float]


def listen(road: str, url: str, attempts: Sequence[Origin], tokens: int, deadline: float) -> Received:
    """Listen to each attempt until each has said all its tokens, or until the deadline."""
    return asyncio.run(listen_within(road, url, attempts, tokens, deadline))


def listen_to_all(
    url: str, roads: Sequence[tuple[str, Origin]], tokens: int, deadline: float
) -> list[Received]:
    """Listen to one attempt on each of several roads."""

    async def all_of_them() -> list[Received]:
        return await asyncio.gather(
            *(listen_within(road, url, [attempt], tokens, deadline) for road, attempt in roads)
        )

    return asyncio.run(all_of_them())


async def listen_within(
    road: str, url: str, attempts: Sequence[Origin], tokens: int, deadline: float
) -> Received:
    """Do what `listen` does, on the loop of the caller; the CPU is that of the whole process."""
    before = time.process_time()
    read = _subscribe if road == "ours" else _read
    ages, marks = await read(url, attempts, tokens, deadline)
    return Received(ages, time.process_time() - before, marks)


_Ages = tuple["array[float]", "array[float]"]


async def _subscribe(url: str, attempts: Sequence[Origin], tokens: int, deadline: float) -> _Ages:
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
        complete.cancel()
    ages: array[float] = array("d")
    for each in all_heard:
        ages.extend(each.ages)
    return ages, all_heard[0].marks


class _Run:
    def __init__(self, tokens: int) -> None:
        self.ages: array[float] = array("d")
        self.marks: array[float] = array("d")
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tokens = tokens
        self._tenth = max(1, tokens // 10)

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
                if len(self.ages) % self._tenth == 0:
                    self.marks.append(time.process_time())
                if len(self.ages) == self._tokens:
                    self.complete.set_result(None)


async def _read(url: str, attempts: Sequence[Origin], tokens: int, deadline: float) -> _Ages:
    """Read what the plain roads write, all of it by one `XREAD`; their order is not promised."""
    ages: array[float] = array("d")
    last: dict[Any, Any] = {plain_key(attempt).encode(): "0" for attempt in attempts}
    async with Redis.from_url(url) as client:
        while len(ages) < tokens * len(attempts) and time.monotonic() < deadline:
            reply: Any = await client.xread(last, block=1_000)
            for key, entries in reply:
                for entry, fields in entries:
                    ages.extend(age(token) for token in fields[b"f"].split(b"\n"))
                    last[key] = entry
    return ages, array("d")


async def _at_most(done: asyncio.Future[list[None]], deadline: float) -> None:
    await asyncio.wait({done}, timeout=deadline - time.monotonic())
