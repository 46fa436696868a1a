"""The end is Temporal's: paused and unpaused, completed from elsewhere, and never said at all."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest
from temporalio.common import RetryPolicy

from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    Gap,
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity

WORDS = ["What ", "stands ", "at ", "the ", "end."]
TEXT = "".join(WORDS)


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


async def test_a_paused_activity_says_so_and_its_stream_goes_on(client, backend):
    """An operator pauses the activity and lets it go on later: the text is taken back, and told once more."""

    @activity.defn
    async def answer(argument: Any) -> str:
        if activity.info().attempt == 1:
            await ScriptedChatModel.saying(*WORDS[:2]).ainvoke("?")
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.1)
        return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text

    workflow_id = unique("paused")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer", None, False, 3], id=workflow_id, task_queue=queue
        )
        run = WorkflowExecution(workflow_id=workflow_id, run_id=handle.first_execution_run_id)
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, TokenEvent) and event.token == WORDS[1] and event.attempt == 1:
                await client.workflow_service.pause_activity(
                    PauseActivityRequest(namespace=client.namespace, execution=run, id="1")
                )
            elif isinstance(event, AttemptEnded) and event.outcome == "paused":
                await client.workflow_service.unpause_activity(
                    UnpauseActivityRequest(namespace=client.namespace, execution=run, id="1")
                )

    ends = [event.outcome for event in events if isinstance(event, AttemptEnded)]
    assert ends == ["paused", "completed_provisional"]
    assert standing_text(events) == TEXT
    assert events[-1] == StreamEnded(status="completed", cursor=events[-1].cursor)


async def test_an_activity_that_is_completed_from_elsewhere_ends_when_it_is(client, backend):
    """My activity hands over to a human: the stream stays open until the workflow has the result."""
    task_tokens = []

    @activity.defn
    async def ask(argument: Any) -> str:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        task_tokens.append(activity.info().task_token)
        activity.raise_complete_async()

    workflow_id = unique("async")
    async with streaming_worker(client, backend, [ask]) as queue:
        handle = await client.start_workflow(RunActivity.run, args=["ask"], id=workflow_id, task_queue=queue)
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, AttemptEnded):
                assert event.outcome == "async_pending"
                await client.get_async_activity_handle(task_token=task_tokens[0]).complete("approved")

    assert standing_text(events) == TEXT
    assert not any(isinstance(event, Gap) for event in events)
    assert isinstance(events[-1], StreamEnded)
    assert await handle.result() == "approved"
    held = await read_all(client, backend, workflow_id, on_retry="hold")
    assert standing_text(held) == TEXT


async def test_a_workflow_that_is_retried_replaces_what_its_first_run_said(client, backend):
    """The whole workflow failed and was retried by its policy: I have one answer on the screen, not two."""

    @activity.defn
    async def answer(argument: Any) -> str:
        text = (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text
        if activity.info().workflow_run_id == first_run[0]:
            raise ValueError("not this time")
        return text

    first_run = [""]
    workflow_id = unique("workflow-retry")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run,
            args=["answer"],
            id=workflow_id,
            task_queue=queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=2),
            start_delay=timedelta(milliseconds=300),
        )
        first_run[0] = handle.first_execution_run_id or ""
        events = await read_all(client, backend, workflow_id)

    started = [event for event in events if isinstance(event, AttemptStarted)]
    assert [event.supersedes for event in started] == [None, started[0].origin]
    assert standing_text(events) == TEXT
    assert events[-1].status == "completed"


class Unreadable(MemoryStreamBackend):
    """A transport that knows of a newest entry, and never hands it over."""

    def __init__(self, *, vanishes: bool) -> None:
        super().__init__()
        self._vanishes = vanishes
        self._asked = 0

    async def last_id(self, stream: StreamKey) -> str:
        self._asked += 1
        return "" if self._vanishes and self._asked > 1 else f"{10**9:015d}"


@pytest.mark.parametrize("vanishes", [True, False], ids=["its-end-vanishes", "its-end-never-comes"])
async def test_a_stream_that_cannot_be_read_to_its_end_still_ends(monkeypatch, vanishes):
    """Redis lost what it had just named, or hands nothing over: I am told, and do not wait forever."""
    monkeypatch.setattr("temporal_token_interceptor.reader.until_closed._DRAIN_TIMEOUT", 0.05)
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)
    subscriber = TokenSubscriber(None, Unreadable(vanishes=vanishes))

    async with asyncio.timeout(5):
        events = [event async for event in subscriber.subscribe("w", "run", until=enough)]

    assert [type(event) for event in events] == [Gap, StreamEnded]
    assert events[0].reason == "transport"
