"""What a token costs each process, measured on small loads, and the capacity model checked on larger ones.

On one server, and on a cluster of six nodes on loopback (three that share the slots, a replica of each). A
worker process produces tokens in many streams, and another one reads them all for several viewers each. From
three small loads the model takes its inputs: a stream that is open, a frame, an event of a viewer. Then it
predicts the CPU of larger loads, which are measured: `error` is what it was wrong by.

The model has no queues. It says how much CPU a load takes, and so how many processes it needs; while each has
at most 70 % of a core, delays are those of the other benchmarks.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from benchmarks.capacity import Costs, Load
from benchmarks.measure import Child, Figure, Size, age, child, origin, percentile, stamp
from benchmarks.peers.ours import Chunks
from benchmarks.stored import server_cpu
from devservers import find_redis, redis_server
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.events import Origin, TokenEvent
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.worker.fetched_session import session_to
from tests.support.cluster import a_cluster

SECONDS = 4.0
SETTLED = 1.0  # seconds from the last viewer to the first token


IDLE, ONE, SEVERAL = Load(200, 1, 0), Load(200, 1, 5), Load(200, 6, 5)
CHECKS = (Load(400, 5, 2), Load(1_000, 5, 1))


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of CPU of each process while a load went on; and how it was delivered."""

    worker: float
    reader: float
    redis: float
    ages: array[float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the streams are: the addresses of the nodes that have slots; one, if it is no cluster."""

    name: str
    ports: tuple[int, ...]
    url: str = ""

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[RedisStreamBackend]:
        """Yield a backend of one's own."""
        if self.url:
            async with RedisStreamBackend(self.url) as backend:
                yield backend
            return
        nodes = [ClusterNode("127.0.0.1", port) for port in self.ports]
        async with RedisCluster(startup_nodes=nodes) as client, RedisStreamBackend(client=client) as backend:
            yield backend

    async def cpu(self) -> float:
        """Return the seconds of CPU that the servers have taken."""
        if self.url:
            async with Redis.from_url(self.url) as client:
                return await server_cpu(client)
        taken = 0.0
        for port in self.ports:
            async with Redis(port=port) as client:
                taken += await server_cpu(client)
        return taken


async def figures(size: Size) -> AsyncIterator[Figure]:
    seconds = size.seconds(SECONDS)
    async with child("benchmarks.scale") as worker, child("benchmarks.scale") as reader, _places() as places:
        for place in places:
            running = partial(_run, place, seconds=seconds, processes=(worker, reader), size=size)
            small = [(load, await running(load)) for load in (IDLE, ONE, SEVERAL)]
            costs = {
                part: Costs.of([(load, getattr(taken, part) / seconds) for load, taken in small])
                for part in ("worker", "reader", "redis")
            }
            for part, cost in costs.items():
                yield Figure(f"scale.{place.name}.{part}.stream", cost.stream * 1e6, "us CPU/stream and s")
                yield Figure(f"scale.{place.name}.{part}.frame", cost.frame * 1e6, "us CPU/frame")
            yield Figure(f"scale.{place.name}.reader.event", costs["reader"].event * 1e6, "us CPU/event")
            for load in CHECKS[: size.count(len(CHECKS))]:
                taken = await running(load)
                name = f"scale.{place.name}.{load.streams}x{load.viewers}"
                wanted = tokens(load.rate, seconds) * size.count(load.streams) * load.viewers
                yield Figure(f"{name}.late", wanted - len(taken.ages), "tokens")
                yield Figure(f"{name}.p50", percentile(taken.ages, 0.5), "ms")
                yield Figure(f"{name}.p99", percentile(taken.ages, 0.99), "ms")
                for part, cost in costs.items():
                    measured = getattr(taken, part) / seconds
                    yield Figure(f"{name}.{part}.measured", measured * 100, "% of a core")
                    error = cost.share(load) / measured - 1 if measured else 0.0
                    yield Figure(f"{name}.{part}.error", error * 100, "%")


@asynccontextmanager
async def _places() -> AsyncIterator[Sequence[Place]]:
    async with redis_server() as url, a_cluster(find_redis()) as cluster:
        ports = tuple(node.port for node in await cluster.masters())
        yield Place("server", (), url), Place("cluster", ports)


async def _run(
    place: Place, load: Load, *, seconds: float, processes: tuple[Child, Child], size: Size
) -> Taken:
    worker, reader = processes
    attempts = tuple(origin(str(number)) for number in range(size.count(load.streams)))
    # Joining takes about a millisecond of each viewer; a machine at rest needs half of this.
    begin = time.monotonic() + size.seconds(SETTLED) + len(attempts) * load.viewers * 0.002
    before = asyncio.create_task(_cpu_at(place, begin))
    after = asyncio.create_task(_cpu_at(place, begin + seconds))
    worked, (read, ages) = await asyncio.gather(
        worker.run(produce, place, attempts, load.rate, begin, seconds),
        reader.run(view, place, attempts, load.viewers, begin, seconds),
    )
    return Taken(worked, read, await after - await before, ages)


def tokens(rate: float, seconds: float) -> int:
    """Return how many tokens each stream has."""
    return max(1, round(rate * seconds))


async def _cpu_at(place: Place, moment: float) -> float:
    await asyncio.sleep(moment - time.monotonic())
    return await place.cpu()


def produce(place: Place, attempts: tuple[Origin, ...], rate: float, begin: float, seconds: float) -> float:
    """Produce tokens in all streams, their times spread evenly; return the seconds of CPU that it took."""
    return asyncio.run(_produce(place, attempts, rate, begin, seconds))


async def _produce(
    place: Place, attempts: tuple[Origin, ...], rate: float, begin: float, seconds: float
) -> float:
    budget = Budget(256 * 1024 * 1024)
    async with place.backend() as backend, AsyncExitStack() as stack:
        calls = []
        for attempt in attempts if rate else ():
            session = session_to(attempt, backend, budget=budget, flush_timeout=timedelta(seconds=10))
            await stack.enter_async_context(session)
            calls.append(Chunks(Observer(session.buffer, default_node="bench")))
        await asyncio.sleep(begin - time.monotonic())
        before = time.process_time()
        total = tokens(rate, seconds) * len(calls)
        for number in range(total):
            due = begin + seconds * number / total
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            elif not number % 16:
                await asyncio.sleep(0)  # late: the sessions have to send, too
            calls[number % len(calls)].say(stamp())
        await asyncio.sleep(begin + seconds - time.monotonic())
        return time.process_time() - before


def view(
    place: Place, attempts: tuple[Origin, ...], viewers: int, begin: float, seconds: float
) -> tuple[float, array[float]]:
    """Read all streams; return the seconds of CPU from the first token on, and the age of each token."""
    return asyncio.run(_view(place, attempts, viewers, begin, seconds))


async def _view(
    place: Place, attempts: tuple[Origin, ...], viewers: int, begin: float, seconds: float
) -> tuple[float, array[float]]:
    ages: array[float] = array("d")
    over = asyncio.get_running_loop().create_future()
    async with place.backend() as backend, asyncio.TaskGroup() as group:
        subscriber = TokenSubscriber(None, backend)

        async def follow(attempt: Origin) -> None:
            async for event in subscriber.subscribe(attempt.workflow_id, attempt.run_id, until=over):
                if isinstance(event, TokenEvent):
                    ages.append(age(event.token))

        for attempt in attempts:
            for _ in range(viewers):
                group.create_task(follow(attempt))
        await asyncio.sleep(begin - time.monotonic())
        before = time.process_time()
        await asyncio.sleep(begin + seconds - time.monotonic())
        taken = time.process_time() - before
        await asyncio.sleep(min(SETTLED, seconds))  # for what is under way; the rest is late
        over.set_result(None)
    return taken, ages
