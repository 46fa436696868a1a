"""Redis is configured, and away: with `fallback="heartbeats"` tokens come through Temporal meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from devservers import RedisServer
from temporal_token_interceptor import (
    AttemptStarted,
    Event,
    Gap,
    RedisStreamBackend,
    StreamEnded,
    StreamKey,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.integration.test_live_heartbeats import Answer
from tests.support.streams import read_all, standing_text, unique
from tests.support.workflows import RunActivity

FIRST = [f"before{number} " for number in range(6)]
LAST = [f"after{number} " for number in range(6)]
TEXT = "".join([*FIRST, *LAST])
DEADLINE = 30


class Talks:
    """An activity that says its first words, waits for the gate, and says the rest."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    @activity.defn(name="talks")
    async def talks(self, argument: Any) -> Answer:
        first = await ScriptedChatModel.saying(*FIRST).ainvoke("?")
        await self.gate.wait()
        last = await ScriptedChatModel.saying(*LAST).ainvoke("?")
        return Answer(first.text + last.text)


@asynccontextmanager
async def running(client: Client, redis_url: str, talks: Talks, **options: Any) -> AsyncIterator[str]:
    """A worker with the plugin, for Redis, and a run of the activity on it; yields the run's workflow id."""
    workflow_id = unique("fallback")
    plugin = TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url), fallback="heartbeats", **options)
    async with Worker(
        client,
        task_queue=workflow_id,
        workflows=[RunActivity],
        activities=[talks.talks],
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[plugin],
    ):
        await client.start_workflow(
            RunActivity.run, args=["talks", None], id=workflow_id, task_queue=workflow_id
        )
        yield workflow_id


@asynccontextmanager
async def redis() -> AsyncIterator[RedisServer]:
    """A Redis that a test may hurt."""
    async with AsyncExitStack() as stack:
        server = RedisServer()
        await server.start()
        stack.push_async_callback(server.kill)
        yield server


def tokens(events: list[Event]) -> list[str]:
    return [event.token for event in events if isinstance(event, TokenEvent)]


async def test_tokens_come_live_while_redis_is_away_for_a_whole_run(client):
    """Redis is down for worker and viewers. I see the first words while the activity runs, then all, once.

    Another viewer comes back with a cursor from a heartbeat, and gets what comes after it.
    """
    talks = Talks()

    async def whole(subscriber: TokenSubscriber, workflow_id: str) -> list[Event]:
        return [event async for event in subscriber.subscribe(workflow_id)]

    async def resumed(subscriber: TokenSubscriber, workflow_id: str) -> tuple[list[Event], list[Event]]:
        seen: list[Event] = []
        async with aclosing(subscriber.subscribe(workflow_id)) as reading:
            async for event in reading:
                seen.append(event)
                if len(tokens(seen)) == len(FIRST):
                    break
        talks.gate.set()  # only now can the activity end
        return seen, [event async for event in subscriber.subscribe(workflow_id, cursor=seen[-1].cursor)]

    async with redis() as server, asyncio.timeout(DEADLINE):
        await server.kill()
        async with (
            running(client, server.url, talks) as workflow_id,
            RedisStreamBackend(server.url) as backend,
        ):
            subscriber = TokenSubscriber(client, backend, fallback="heartbeats")
            events, (seen, rest) = await asyncio.gather(
                whole(subscriber, workflow_id), resumed(subscriber, workflow_id)
            )

    assert "".join(tokens(events)) == standing_text([*seen, *rest]) == TEXT
    assert not [event for event in (*events, *rest) if isinstance(event, Gap)]
    assert isinstance(events[-1], StreamEnded)
    assert events[-1].status == "completed"
    assert sum(isinstance(event, AttemptStarted) for event in events) == 1
    assert "".join(tokens(rest)) == "".join(LAST)


async def test_redis_that_comes_back_gets_what_the_heartbeats_carried(client):
    """Who was there has each token once; who comes later, and knows only Redis, has all of them, too."""
    talks = Talks()
    async with redis() as server, asyncio.timeout(DEADLINE):
        await server.kill()
        async with (
            running(client, server.url, talks) as workflow_id,
            RedisStreamBackend(server.url) as backend,
        ):
            events: list[Event] = []
            subscriber = TokenSubscriber(client, backend, fallback="heartbeats")
            async with aclosing(subscriber.subscribe(workflow_id)) as reading:
                async for event in reading:
                    events.append(event)
                    if isinstance(event, TokenEvent) and not talks.gate.is_set():
                        await server.start()
                        stream = StreamKey.of(event.origin)
                        async with aclosing(backend.read(stream)) as entries:
                            await anext(entries)  # the worker has sent it again
                        talks.gate.set()
            late = await read_all(client, backend, workflow_id)

    for seen in (events, late):
        assert "".join(tokens(seen)) == TEXT
        assert not [event for event in seen if isinstance(event, Gap)]
    assert not any(event.from_history for event in late)


async def test_a_healthy_redis_is_all_that_is_used(client, redis_url):
    """No heartbeat carries a token, and readers do not describe the run, while Redis delivers."""
    talks = Talks()
    talks.gate.set()
    async with (
        asyncio.timeout(DEADLINE),
        RedisStreamBackend(redis_url) as backend,
        running(client, redis_url, talks, flush_timeout=timedelta(seconds=5)) as workflow_id,
    ):
        subscriber = TokenSubscriber(client, backend, fallback="heartbeats")
        events = [event async for event in subscriber.subscribe(workflow_id)]

    assert "".join(tokens(events)) == TEXT
    assert not any(".L" in event.cursor or "~L" in event.cursor for event in events)
