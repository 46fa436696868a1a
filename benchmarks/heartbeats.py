"""Live with Temporal alone: what the road through heartbeats delays and costs, beside the road through Redis.

1, 10 and 100 activities at once, each in a workflow of its own with a viewer of its own, and a model of 50
tokens a second in each. Worker and viewers are processes of their own, beside one Temporal dev server and one
Redis. Requests are those that the SDKs of both processes sent to Temporal, but for long polls.
"""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.measure import Figure, Size, age, child, percentile
from benchmarks.paced import Paced
from devservers import redis_server, temporal_server
from temporal_token_interceptor import (
    RedisStreamBackend,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)

ACTIVITIES = (1, 10, 100)
RATE = 50  # tokens a second, of each activity
SECONDS = 6.0
ROADS = ("temporal", "redis")

_SPARE = 60.0  # seconds that all of it may take longer

_COUNTED = "temporal_request"  # the SDK's counter; long polls have one of their own


@dataclass(frozen=True)
class Plan:
    """What an activity writes, and when it begins, by the monotonic clock of the machine."""

    tokens: int
    begin: float


@activity.defn
async def answer(plan: Plan) -> dict[str, Any]:
    """Let a model write the time; the result has a place for what heartbeats did not show."""
    message = await Paced(tokens=plan.tokens, begin=plan.begin, rate=RATE, end=";").ainvoke("?")
    return {"length": len(str(message.content)), "custom_data": None}


@workflow.defn
class Chat:
    """Runs one activity."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        await workflow.execute_activity(
            answer,
            plan,
            start_to_close_timeout=timedelta(minutes=2),
            heartbeat_timeout=timedelta(seconds=30),
        )


@dataclass(frozen=True, slots=True)
class Served:
    """What a process did.

    Attributes:
        requests: How many it sent to Temporal.
        cpu: Seconds that it took.
        ages: Of the tokens that it received, in ms.
    """

    requests: float
    cpu: float
    ages: array[float]


def serve(address: str, redis_url: str, queue: str, workflow_ids: Sequence[str], seconds: float) -> Served:
    """Run a worker until workflows have closed, or for so long; through Redis, if there is a URL."""

    async def run() -> Served:
        before = time.process_time()
        client, metrics = await _counted(address)
        backend = (lambda: RedisStreamBackend(redis_url)) if redis_url else None
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Chat],
            activities=[answer],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_activities=200,
            plugins=[TokenStreamingPlugin(backend)],
        ):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(client.get_workflow_handle(one).result() for one in workflow_ids))
        return Served(_requests(metrics), time.process_time() - before, array("d"))

    return asyncio.run(run())


def view(address: str, redis_url: str, workflow_ids: Sequence[str], seconds: float) -> Served:
    """Read each workflow to its end, or for so long."""

    async def run() -> Served:
        before = time.process_time()
        client, metrics = await _counted(address)
        ages: array[float] = array("d")
        async with AsyncExitStack() as stack:
            backend = None
            if redis_url:
                backend = await stack.enter_async_context(RedisStreamBackend(redis_url))
            subscriber = TokenSubscriber(client, backend)
            until = asyncio.ensure_future(asyncio.sleep(seconds))

            async def one(workflow_id: str) -> None:
                async for event in subscriber.subscribe(workflow_id, until=until):
                    if isinstance(event, TokenEvent):
                        ages.extend(age(token) for token in event.token.split(";")[:-1])

            await asyncio.gather(*map(one, workflow_ids))
            until.cancel()
        return Served(_requests(metrics), time.process_time() - before, ages)

    return asyncio.run(run())


async def figures(size: Size) -> AsyncIterator[Figure]:
    tokens = size.count(round(RATE * SECONDS), 2)
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        child(__name__) as worker,
        child(__name__) as reader,
    ):
        address = temporal.client.service_client.config.target_host
        for activities in ACTIVITIES[: size.count(len(ACTIVITIES))]:
            for road in ROADS:
                name = f"heartbeats.{activities}.{road}"
                queue = f"bench-{uuid4().hex}"
                seconds = size.lead + tokens / RATE + _SPARE
                url = redis_url if road == "redis" else ""
                ids = [f"{queue}-{place}" for place in range(activities)]
                plan = Plan(tokens, time.monotonic() + size.lead)
                for workflow_id in ids:
                    await temporal.client.start_workflow(Chat.run, plan, id=workflow_id, task_queue=queue)
                before, since = _server_cpu(address), time.monotonic()
                served, read = await asyncio.gather(
                    worker.run(serve, address, url, queue, ids, seconds),
                    reader.run(view, address, url, ids, seconds),
                )
                cpu, took = _server_cpu(address) - before, time.monotonic() - since
                yield Figure(f"{name}.p50", percentile(read.ages, 0.5), "ms")
                yield Figure(f"{name}.p99", percentile(read.ages, 0.99), "ms")
                yield Figure(f"{name}.lost", activities * tokens - len(read.ages), "tokens", 0)
                yield Figure(f"{name}.requests", (served.requests + read.requests) / took, "requests/s")
                for process, seconds in (("temporal", cpu), ("worker", served.cpu), ("viewers", read.cpu)):
                    yield Figure(f"{name}.cpu.{process}", seconds / took * 100, "% of a core")


async def _counted(address: str) -> tuple[Client, MetricBuffer]:
    """Return a client of a runtime of its own, which counts its requests."""
    metrics = MetricBuffer(100_000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=metrics))
    return await Client.connect(address, runtime=runtime), metrics


def _requests(metrics: MetricBuffer) -> float:
    return sum(update.value for update in metrics.retrieve_updates() if update.metric.name == _COUNTED)


def _server_cpu(address: str) -> float:
    """Return the seconds of CPU that the dev server at an address has taken."""
    port = address.rpartition(":")[2].encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (process / "cmdline").exists():
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"start-dev" in words and port in words:
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"no Temporal dev server at {address!r}: its CPU can only be measured on this machine")
