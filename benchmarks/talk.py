"""The sending processes of the benchmarks: calls that produce tokens at a rate, over a transport.

A token has the time when the callback was called, and each reader looks at the clock when it has the event.
"""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.measure import Child, Size, stamp
from benchmarks.peers import ROADS, Road, open_road
from benchmarks.reading import Received, listen
from temporal_token_interceptor.events import Origin

WORKER = ("benchmarks.talk", *(f"benchmarks.peers.{module}" for module in ROADS.values()))
"""What a worker process loads: LangChain is there for each road, as it is in life."""

READER = "benchmarks.reading"
"""What a reading process loads."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What a worker process says.

    Attributes:
        road: Its name in `ROADS`.
        url: Of Redis.
        attempts: One call in each.
        rate: Tokens a second, of each call.
        tokens: How many each call says.
        ramp: Seconds over which the calls begin: in life they do not start as one.
    """

    road: str
    url: str
    attempts: tuple[Origin, ...]
    rate: float
    tokens: int
    ramp: float = 0.0


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker process noticed: how late each token was said and its longest stop for garbage, in ms.

    `cpu` is in seconds; `marks` are the seconds of CPU it had taken after each tenth of a lone call.
    """

    late: array[float]
    cpu: float
    stop: float
    marks: array[float]


async def converse(
    worker: Child,
    reader: Child,
    talk: Talk,
    size: Size,
    *,
    received: Sequence[Origin] | None = None,
    url: str | None = None,
) -> tuple[Received, Worked]:
    """Let one process send and another read.

    Args:
        worker: Sends.
        reader: Listens.
        talk: What is said.
        size: For the time that readers have to come.
        received: The attempt that each reader listens to; by default each has one reader.
        url: Where readers connect to, if elsewhere.
    """
    begin = time.monotonic() + size.lead
    deadline = begin + talk.ramp + talk.tokens / talk.rate + 10
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic() + 10):
        return await asyncio.gather(
            reader.run(listen, talk.road, url or talk.url, received or talk.attempts, talk.tokens, deadline),
            worker.run(speak, talk, begin),
        )


def speak(talk: Talk, begin: float) -> Worked:
    """Run one call in each attempt."""
    before = time.process_time()
    late: array[float] = array("d")
    with _stops() as stops:
        marks = asyncio.run(_speak(talk, begin, late))
    return Worked(late, time.process_time() - before, max(stops, default=0.0), marks)


async def _speak(talk: Talk, begin: float, late: array[float]) -> array[float]:
    async with open_road(talk.road, talk.url) as road, asyncio.TaskGroup() as group:
        calls = [
            group.create_task(_call(road, talk, place, begin, late)) for place in range(len(talk.attempts))
        ]
    return calls[0].result()


async def _call(road: Road, talk: Talk, place: int, begin: float, late: array[float]) -> array[float]:
    """Say tokens at the rate, as a model does: a timer stands for its network."""
    attempt, tenth = talk.attempts[place], max(1, talk.tokens // 10)
    marks: array[float] = array("d")
    begin += talk.ramp * place / len(talk.attempts)
    await asyncio.sleep(begin - time.monotonic())
    async with road.call(attempt) as say:
        for token in range(talk.tokens):
            due = begin + token / talk.rate
            await asyncio.sleep(due - time.monotonic())
            late.append((time.monotonic() - due) * 1e3)
            await say(stamp())
            if token % tenth == tenth - 1:
                marks.append(time.process_time())
    return marks


def speak_in_turns(
    url: str, roads: Sequence[tuple[str, Origin]], rate: float, tokens: int, begin: float
) -> None:
    """Say tokens over several roads, in turns: each moment of the machine, good or bad, is theirs alike."""

    async def take_turns() -> None:
        async with AsyncExitStack() as stack:
            say = []
            for name, attempt in roads:
                road = await stack.enter_async_context(open_road(name, url))
                say.append(await stack.enter_async_context(road.call(attempt)))
            for tick in range(tokens * len(say)):
                await asyncio.sleep(begin + tick / (rate * len(say)) - time.monotonic())
                await say[tick % len(say)](stamp())

    asyncio.run(take_turns())


@contextmanager
def _stops() -> Iterator[list[float]]:
    """Note for how many ms each collection of garbage stopped the process."""
    stops: list[float] = []
    began = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.monotonic()
        else:
            stops.append((time.monotonic() - began) * 1e3)

    gc.callbacks.append(note)
    try:
        yield stops
    finally:
        gc.callbacks.remove(note)
