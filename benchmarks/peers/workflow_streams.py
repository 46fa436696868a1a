"""Temporal's own `temporalio.contrib.workflow_streams`, on the same machine's dev server.

An activity publishes 50 tokens a second through signals; viewers poll by updates, from a process of their
own. Measured with the library's defaults (a batch every 2 s, at least 100 ms from poll to poll), and with a
batch every 100 ms, the round trip that its own documents state. Then more and more viewers, until one of
them fails or does not have all within `GRACE` of the end.

Its strengths are not figures: no Redis, a log that is as durable as the workflow, exactly-once publishing.
"""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.workflow_streams import WorkflowStream, WorkflowStreamClient
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.measure import Child, Figure, Size, age, child, percentile, stamp
from devservers import temporal_server

RATE = 50
SECONDS = 8.0
BATCHES = {"default": timedelta(seconds=2), "quick": timedelta(milliseconds=100)}
COOLDOWN = timedelta(milliseconds=100)

VIEWERS = (5, 10, 20, 40, 80)
VIEWER_SECONDS = 4.0
GRACE = 5.0  # seconds

TOPIC = "tokens"


@dataclass(frozen=True)
class Plan:
    tokens: int
    batch_seconds: float


@activity.defn
async def publish(plan: Plan) -> None:
    """Say tokens at the rate, as a model does."""
    async with WorkflowStreamClient.from_within_activity(
        batch_interval=timedelta(seconds=plan.batch_seconds)
    ) as stream:
        topic = stream.topic(TOPIC, type=str)
        begin = time.monotonic()
        for token in range(plan.tokens):
            await asyncio.sleep(begin + token / RATE - time.monotonic())
            topic.publish(stamp())


@workflow.defn
class Streaming:
    """Hosts a stream for one activity."""

    @workflow.init
    def __init__(self, _plan: Plan) -> None:
        self.stream = WorkflowStream()

    @workflow.run
    async def run(self, plan: Plan) -> None:
        await workflow.execute_activity(publish, plan, start_to_close_timeout=timedelta(minutes=2))


class Viewed(NamedTuple):
    ages: array[float]
    failures: list[str]


class _Written(NamedTuple):
    events: int
    size: int


def view(address: str, workflow_id: str, viewers: int, tokens: int, seconds: float) -> Viewed:
    """Subscribe so many times; return the ages of what was received, and which subscriptions failed."""
    return asyncio.run(_view(address, workflow_id, viewers, tokens, seconds))


async def _view(address: str, workflow_id: str, viewers: int, tokens: int, seconds: float) -> Viewed:
    client = await Client.connect(address)
    viewed = Viewed(array("d"), [])

    async def one() -> None:
        stream, received = WorkflowStreamClient.create(client, workflow_id), 0
        try:
            async with asyncio.timeout(seconds):
                async for item in stream.subscribe(TOPIC, result_type=str, poll_cooldown=COOLDOWN):
                    viewed.ages.append(age(item.data))
                    received += 1
                    if received == tokens:
                        return
        except Exception as error:  # noqa: BLE001 - whatever it is, this viewer has lost its stream
            viewed.failures.append(type(error).__name__)
        else:
            viewed.failures.append("ended early")

    await asyncio.gather(*(one() for _ in range(viewers)))
    return viewed


async def figures(size: Size) -> AsyncIterator[Figure]:
    with _silence():
        measured = [figure async for figure in _measured(size)]
    for figure in measured:
        yield figure


async def _measured(size: Size) -> AsyncIterator[Figure]:
    tokens = size.count(round(RATE * SECONDS), 2)
    async with _worker() as (client, queue), child(__name__) as reader:
        _, idle = await _stream(client, queue, reader, Plan(0, 1), viewers=0)
        for name, batch in BATCHES.items():
            plan = Plan(tokens, size.seconds(batch.total_seconds()))
            viewed, written = await _stream(client, queue, reader, plan, viewers=1)
            per_thousand = 1_000 / tokens
            yield Figure(f"peers.delay.workflow_streams.{name}.p50", percentile(viewed.ages, 0.5), "ms")
            yield Figure(f"peers.delay.workflow_streams.{name}.p99", percentile(viewed.ages, 0.99), "ms")
            for what, more, unit in (
                ("events", written.events - idle.events, "events/1,000 tokens"),
                ("bytes", (written.size - idle.size) / 1024, "KiB/1,000 tokens"),
            ):
                yield Figure(f"peers.history.workflow_streams.{name}.{what}", more * per_thousand, unit)
        served = 0
        for viewers in VIEWERS[: size.count(len(VIEWERS))]:
            plan = Plan(size.count(round(RATE * VIEWER_SECONDS), 2), BATCHES["quick"].total_seconds())
            viewed, _ = await _stream(client, queue, reader, plan, viewers=viewers)
            p99 = percentile(viewed.ages, 0.99) if viewed.ages else float("nan")
            yield Figure(f"peers.viewers.workflow_streams.{viewers}.p99", p99, "ms")
            if viewed.failures:
                failed = len(viewed.failures)
                yield Figure(f"peers.viewers.workflow_streams.{viewers}.failed", failed, "viewers")
                break
            served = viewers
        yield Figure("peers.viewers.workflow_streams.served", served, "viewers")


async def _stream(
    client: Client, queue: str, reader: Child, plan: Plan, *, viewers: int
) -> tuple[Viewed, _Written]:
    workflow_id = f"bench-{uuid4().hex}"
    handle = await client.start_workflow(Streaming.run, plan, id=workflow_id, task_queue=queue)
    viewed = Viewed(array("d"), [])
    if viewers:
        seconds = plan.tokens / RATE + GRACE
        viewed = await reader.run(
            view, client.service_client.config.target_host, workflow_id, viewers, plan.tokens, seconds
        )
    async with asyncio.timeout(60):
        await handle.result()
    history = await handle.fetch_history()
    return viewed, _Written(len(history.events), sum(event.ByteSize() for event in history.events))


@contextmanager
def _silence() -> Iterator[None]:
    """Send standard error to nowhere: beyond ten viewers server and SDK log a line for each refused poll."""
    standing = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(standing, 2)
        os.close(nowhere)
        os.close(standing)


@asynccontextmanager
async def _worker() -> AsyncIterator[tuple[Client, str]]:
    queue = f"bench-{uuid4().hex}"
    async with (
        temporal_server() as temporal,
        Worker(
            temporal.client,
            task_queue=queue,
            workflows=[Streaming],
            activities=[publish],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        yield temporal.client, queue
