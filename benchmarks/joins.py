"""Join storms: many viewers that come to one run within a second, as when a gateway was restarted.

One process, one `TokenSubscriber`, a real Temporal that knows the run, and 200 tokens in Redis; then the same
while the run says 50 tokens a second. A viewer's time counts from when it was due, so that a process which is
late to begin with it has no advantage (coordinated omission); it ends with the first token; viewers read on.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median

from redis.asyncio import Redis
from temporalio.client import Client

from benchmarks.measure import Figure, Size, child, origin, percentile
from devservers import redis_server, temporal_server
from temporal_token_interceptor.events import Call, CallStarted, Frame, Origin, Record, TextRun, TokenEvent
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend

VIEWERS = 1_000
STORED = 200  # tokens before any viewer comes
RATE = 50  # a second, while the run says more
ROUNDS = 3
LAST_MS = 300.0


@dataclass(frozen=True, slots=True)
class Storm:
    """Who comes, where to, and when.

    Attributes:
        temporal: The address of the server.
        redis: The URL.
        workflow_id: What they all want to see.
        viewers: How many.
        begin: When the first one is due, by the monotonic clock.
        seconds: Within which all are due.
    """

    temporal: str
    redis: str
    workflow_id: str
    viewers: int
    begin: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What the viewers noticed.

    Attributes:
        waited: How many ms after it was due each one had its first token.
        cpu: Seconds that their process took from when the first was due until the last had its first token.
    """

    waited: array[float]
    cpu: float


async def figures(size: Size) -> AsyncIterator[Figure]:
    viewers = size.count(VIEWERS)
    async with (
        child("benchmarks.joins") as process,
        redis_server() as url,
        temporal_server() as server,
        RedisStreamBackend(url) as backend,
        Redis.from_url(url) as counting,
    ):
        target = server.client.service_client.config.target_host
        for name, spread, is_live in (("at_once", 0.0, False), ("idle", 1.0, False), ("live", 1.0, True)):
            rounds: list[array[float]] = []
            asked = 0
            cpu: list[float] = []
            for _ in range(size.count(ROUNDS)):
                attempt = await _stored(server.client, backend)
                storm = Storm(target, url, attempt.workflow_id, viewers, time.monotonic() + size.lead, spread)
                before = await _commands(counting)
                writing = asyncio.create_task(_write_on(backend, attempt)) if is_live else None
                watched = await process.run(watch, storm)
                rounds.append(watched.waited)
                cpu.append(watched.cpu / viewers * 1e3)
                asked += await _commands(counting) - before
                if writing is not None:
                    writing.cancel()
                await server.client.get_workflow_handle(attempt.workflow_id).terminate()
            yield Figure(f"joins.{name}.p50", median(percentile(each, 0.5) for each in rounds), "ms")
            yield Figure(f"joins.{name}.p99", median(percentile(each, 0.99) for each in rounds), "ms")
            budget = None if name == "at_once" else LAST_MS
            yield Figure.of_rounds(f"joins.{name}.last", map(max, rounds), "ms", budget)
            yield Figure(f"joins.{name}.redis", asked / len(rounds) / viewers, "commands/viewer")
            yield Figure.of_rounds(f"joins.{name}.cpu", cpu, "ms CPU/viewer")


async def _commands(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("xrange", "get", "xread")
    )


async def _stored(client: Client, backend: RedisStreamBackend) -> Origin:
    """Start a workflow that no worker takes up, and store what a model in it has said so far."""
    unnamed = origin()
    handle = await client.start_workflow("Bench", id=unnamed.workflow_id, task_queue=unnamed.workflow_id)
    attempt = origin(workflow_id=handle.id, run_id=handle.first_execution_run_id or "")
    call = Call(ordinal=0, id="1:0", node_name="bench")
    backend.keep(StreamKey.of(attempt))
    for seq in range(STORED + 1):
        await _write(backend, attempt, seq, CallStarted(call=call) if seq == 0 else _token(seq - 1))
    return attempt


async def _write_on(backend: RedisStreamBackend, attempt: Origin) -> None:
    begin = time.monotonic()
    for place in range(STORED, STORED + 3_600 * RATE):
        await asyncio.sleep(begin + (place - STORED) / RATE - time.monotonic())
        await _write(backend, attempt, place + 1, _token(place))


def _token(index: int) -> Record:
    return TextRun("text", 0, index, ("token ",), 1)


async def _write(backend: RedisStreamBackend, attempt: Origin, seq: int, record: Record) -> None:
    await backend.write(StreamKey.of(attempt), encode(Frame(attempt, seq, (record,), header=seq == 0)))


def watch(storm: Storm) -> Watched:
    """Let all viewers come, and stay until the last of them has its first token."""
    return asyncio.run(_watch(storm))


async def _watch(storm: Storm) -> Watched:
    client = await Client.connect(storm.temporal)
    begun = ended = 0.0  # by the CPU's clock
    waited: array[float] = array("d")
    all_came = asyncio.get_running_loop().create_future()

    async def view(place: int) -> None:
        nonlocal begun, ended
        due = storm.begin + storm.seconds * place / storm.viewers
        await asyncio.sleep(due - time.monotonic())
        begun = begun or time.process_time()
        is_new = True
        events = subscriber.subscribe(storm.workflow_id, until=all_came)
        async for event in events:  # they stay, and read on
            if is_new and isinstance(event, TokenEvent):
                is_new = False
                waited.append((time.monotonic() - due) * 1e3)
                if len(waited) == storm.viewers:
                    ended = time.process_time()
                    all_came.set_result(None)

    async with RedisStreamBackend(storm.redis) as backend, asyncio.timeout(60):
        subscriber = TokenSubscriber(client, backend)
        async with asyncio.TaskGroup() as group:
            for place in range(storm.viewers):
                group.create_task(view(place))
    return Watched(waited, ended - begun)
