"""What 1,000 tokens add to Temporal's history: with Redis nothing.

The same workflow runs with the interceptor and without; what counts is the difference. Bytes are those of the
activity's result, the one event that a summary can make longer: ids and times differ from run to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, Worker

from benchmarks.measure import Figure, Size
from devservers import redis_server, temporal_server
from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel

TOKENS = 1_000


class _Grown(NamedTuple):
    events: int
    size: int


@activity.defn
async def talk(tokens: int) -> int:
    """Let a model say so many tokens."""
    model = ScriptedChatModel.saying(*["word "] * tokens)
    return len((await model.ainvoke("?")).text)


@workflow.defn
class Talking:
    """Runs one activity."""

    @workflow.run
    async def run(self, tokens: int) -> int:
        return await workflow.execute_activity(talk, tokens, start_to_close_timeout=timedelta(minutes=1))


async def figures(size: Size) -> AsyncIterator[Figure]:
    tokens = size.count(TOKENS, 2)
    async with redis_server() as url, temporal_server() as temporal, RedisStreamBackend(url) as backend:
        ours = await _run(temporal.client, tokens, [TokenStreamingInterceptor(backend)])
        plain = await _run(temporal.client, tokens, [])
    yield Figure("history.events", (ours.events - plain.events) * 1_000 / tokens, "events/1,000 tokens", 0)
    yield Figure("history.result", (ours.size - plain.size) * 1_000 / tokens, "bytes/1,000 tokens", 0)


async def _run(client: Client, tokens: int, interceptors: Sequence[Interceptor]) -> _Grown:
    queue = f"bench-{uuid4().hex}"
    async with (
        asyncio.timeout(60),
        Worker(
            client,
            task_queue=queue,
            workflows=[Talking],
            activities=[talk],
            interceptors=interceptors,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        handle = await client.start_workflow(Talking.run, tokens, id=queue, task_queue=queue)
        await handle.result()
        history = await handle.fetch_history()
    results = [
        event.activity_task_completed_event_attributes.result.ByteSize()
        for event in history.events
        if event.HasField("activity_task_completed_event_attributes")
    ]
    return _Grown(len(history.events), sum(results))
