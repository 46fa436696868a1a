"""Tokens through Temporal alone: the same events, activity by activity, from the results in history."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError

from temporal_token_interceptor import (
    CallEnded,
    ConfigurationError,
    Event,
    Gap,
    RedisStreamBackend,
    RunContinued,
    StreamEnded,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel, tool_call
from tests.support.streams import kinds, read_all, standing_text, streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity, RunMany, Waiting

WORDS = ["From ", "his", "tory", ", ", "late", " ☂", " 🎈."]
TEXT = "".join(WORDS)


@dataclass
class Answer:
    text: str
    custom_data: list[Any] | None = None


@activity.defn
async def answer(argument: Any) -> Answer:
    return Answer((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)


@activity.defn
def answer_in_thread(argument: Any) -> Answer:
    return Answer(ScriptedChatModel.saying(*WORDS).invoke("?").text)


def worker_for(client, backend, activities, **options):
    """A worker that streams to a backend, or, without one, into `custom_data`."""
    ours = [] if backend is not None else [TokenStreamingInterceptor(**options)]
    return streaming_worker(client, backend, activities, interceptors=ours)


def told(events: list[Event]) -> list[Any]:
    """What events tell, apart from where they were read and which run of the model it was."""
    return [
        (type(event).__name__, getattr(event, "token", None), getattr(event, "index", None),
         getattr(event, "usage", None), getattr(event, "finish_reason", None),
         getattr(event, "args", None), getattr(event, "outcome", None), getattr(event, "status", None),
         event.origin and (event.origin.activity_id, event.origin.activity_type, event.origin.attempt))
        for event in events
    ]  # fmt: skip


@pytest.mark.parametrize("local", [False, True], ids=["regular", "local"])
@pytest.mark.parametrize("name", ["answer", "answer_in_thread", "looks_up"])
async def test_the_same_events_come_without_a_backend(client, redis_url, name, local):
    """I have no Redis. I get what I would get with it, once each activity has completed."""

    @activity.defn
    async def looks_up(argument: Any) -> Answer:
        model = ScriptedChatModel.saying("I look", tool_call("find", '{"q": 1}', id="t"))
        await model.ainvoke("?")
        return Answer((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)

    seen: dict[bool, list[Event]] = {}
    async with RedisStreamBackend(redis_url) as redis:
        for backend in (redis, None):
            workflow_id = unique("same")
            async with worker_for(client, backend, [answer, answer_in_thread, looks_up]) as queue:
                reading = asyncio.ensure_future(read_all(client, backend, workflow_id))
                await client.execute_workflow(
                    RunActivity.run, args=[name, None, local], id=workflow_id, task_queue=queue
                )
                seen[backend is None] = await reading

    assert told(seen[True]) == told(seen[False])
    assert standing_text(seen[True]).endswith(TEXT)


async def test_each_activity_is_told_when_it_completes(client):
    """A long workflow tells me of each step while it runs, not only at its end."""
    workflow_id = unique("steps")
    async with worker_for(client, None, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        events = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, CallEnded):
                await handle.signal(Waiting.end, "well")  # only now can the workflow close

    assert standing_text(events) == TEXT
    assert isinstance(events[-1], StreamEnded)


async def test_many_activities_and_runs_are_told_in_order(client):
    """Parallel activities and continue-as-new: each activity's text once, each run in turn."""
    many, continuing = unique("many"), unique("continuing")
    async with worker_for(client, None, [answer]) as queue:
        await client.execute_workflow(RunMany.run, args=["answer", 5], id=many, task_queue=queue)
        first = await client.start_workflow(
            Continuing.run, args=["answer", 2], id=continuing, task_queue=queue
        )
        await first.result()

    assert standing_text(await read_all(client, None, many)) == TEXT * 5
    events = await read_all(client, None, continuing, run_id=first.first_execution_run_id)
    assert standing_text(events) == TEXT * 3
    assert kinds(events).count("RunContinued") == 2


async def test_a_reader_without_redis_goes_on_after_any_event(client):
    """My cursor is as good as one of Redis: what I had and what I get next are the whole stream."""
    workflow_id = unique("resume")
    async with worker_for(client, None, [answer]) as queue:
        await client.execute_workflow(RunMany.run, args=["answer", 2], id=workflow_id, task_queue=queue)

    whole = await read_all(client, None, workflow_id)
    for place, event in enumerate(whole[:-1], 1):
        rest = await read_all(client, None, workflow_id, cursor=event.cursor)
        assert [e.cursor for e in rest] == [e.cursor for e in whole[place:]]


async def test_an_end_of_my_own_ends_the_reading(client):
    """`until` ends a subscription to history, too, once what is there has been read."""
    workflow_id = unique("until")
    async with worker_for(client, None, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        enough = asyncio.get_running_loop().create_future()
        events: list[Any] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id, until=enough):
            events.append(event)
            if isinstance(event, TokenEvent) and not enough.done():
                enough.set_result(None)
        await handle.signal(Waiting.end, "well")
        await handle.result()

    assert standing_text(events) == TEXT
    assert events[-1].status == "unknown"


async def test_what_a_reset_carries_over_is_told_once(client):
    """An operator resets my workflow: its new history begins with the old one, and no text comes twice."""
    workflow_id = unique("reset")
    # What is read in history has completed: only then is it carried over.
    async with worker_for(client, None, [answer], live="off") as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        events: list[Any] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, RunContinued):
                await client.get_workflow_handle(workflow_id).signal(Waiting.end, "well")
            elif isinstance(event, CallEnded):
                waits = await workflow_waits(handle)
                await handle.signal(Waiting.end, "fail")
                with pytest.raises(WorkflowFailureError):
                    await handle.result()
                await client.workflow_service.reset_workflow_execution(
                    ResetWorkflowExecutionRequest(
                        namespace=client.namespace,
                        workflow_execution=WorkflowExecution(
                            workflow_id=workflow_id, run_id=handle.first_execution_run_id
                        ),
                        reason="test",
                        workflow_task_finish_event_id=waits,
                        reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_NONE,
                        request_id=workflow_id,
                    )
                )
        again = await client.get_workflow_handle(workflow_id).describe()
        assert again.run_id is not None
        if not any(isinstance(event, RunContinued) for event in events):  # it had ended before the reset
            await client.get_workflow_handle(workflow_id).signal(Waiting.end, "well")
        carried_over = await read_all(client, None, workflow_id, run_id=again.run_id)

    assert standing_text(events) == TEXT
    assert kinds(carried_over) == ["StreamEnded"]


async def workflow_waits(handle):
    """Wait until the workflow has taken its activity's result; return the event of history that says so."""
    tasks = []
    # A signal that came before would be part of what a reset carries over.
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_task_completed_event_attributes"):
            tasks.append(event.event_id)
        if len(tasks) == 2:
            return event.event_id
    raise AssertionError("the workflow ended before it took the result")


@pytest.mark.parametrize(("size", "is_cut"), [(5, False), (12, True)], ids=["fits", "does-not-fit"])
async def test_twenty_thousand_tokens_come_within_a_bound(client, size, is_cut):
    """A very long answer arrives as far as 128 KiB go; what is cut is counted to the token."""
    tokens = 20_000
    token = "x" * (size - 1) + " "

    @activity.defn
    async def writes_a_book(argument: Any) -> Answer:
        await ScriptedChatModel.saying(*[token] * tokens).ainvoke("?")
        return Answer("done")

    workflow_id = unique("book")
    async with worker_for(client, None, [writes_a_book]) as queue:
        handle = await client.start_workflow(
            RunMany.run, args=["writes_a_book", 1], id=workflow_id, task_queue=queue
        )
        await handle.result()
    events = await read_all(client, None, workflow_id)
    (payload,) = [
        event.activity_task_completed_event_attributes.result.payloads[0]
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_completed_event_attributes")
    ]

    cut = [event.missing or 0 for event in events if isinstance(event, Gap)]
    arrived = len(standing_text(events)) // size
    assert payload.ByteSize() < 130 * 1024
    assert arrived + sum(cut) == tokens
    assert bool(cut) is is_cut
    assert arrived > 10_000 if is_cut else arrived == tokens
    assert kinds(events)[-3:] == ["CallEnded", "AttemptEnded", "StreamEnded"]


async def test_a_result_without_a_place_is_named_in_the_log_once(client, caplog):
    """My result has no `custom_data` and live is off: the log tells why nothing streams, and only once."""

    @activity.defn
    async def placeless(argument: Any) -> str:
        return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text

    workflow_id = unique("placeless")
    with caplog.at_level(logging.WARNING, logger="temporal_token_interceptor"):
        async with worker_for(client, None, [placeless], live="off") as queue:
            await client.execute_workflow(
                RunMany.run, args=["placeless", 3], id=workflow_id, task_queue=queue
            )

    named = [record.message for record in caplog.records if "cannot hold" in record.message]
    assert ["placeless" in message for message in named] == [True]
    assert kinds(await read_all(client, None, workflow_id)) == ["StreamEnded"]


async def test_who_reads_without_the_workers_redis_is_told_how_much_is_in_it(client, redis_url):
    """My workers write to Redis, and my reader was not told of it: not a word comes, and I learn how many."""
    workflow_id = unique("not-told")
    async with (
        RedisStreamBackend(redis_url) as redis,
        worker_for(client, redis, [answer]) as queue,
    ):
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        events = await read_all(client, None, workflow_id)
        seen = await read_all(client, redis, workflow_id)
        going_on = await read_all(client, None, workflow_id, cursor=seen[4].cursor)

    assert kinds(events) == ["AttemptStarted", "Gap", "AttemptEnded", "StreamEnded"]
    assert [(e.missing, e.reason) for e in events if isinstance(e, Gap)] == [(len(WORDS), "transport")]
    assert events[0].origin == seen[0].origin
    assert kinds(going_on) == ["StreamEnded"]  # who has read in Redis may have read it


# ---------------------------------------------------------------------- where Redis should have been


async def test_a_run_that_redis_missed_is_read_from_history(client, redis_url):
    """My workers could not reach Redis for a whole run. My reader, who can, gets the text all the same."""
    workflow_id = unique("missed")
    async with (
        RedisStreamBackend("redis://127.0.0.1:1") as unreachable,
        RedisStreamBackend(redis_url) as reachable,
        streaming_worker(client, unreachable, [answer]) as queue,
    ):
        reading = asyncio.ensure_future(read_all(client, reachable, workflow_id))
        await client.execute_workflow(RunMany.run, args=["answer", 3], id=workflow_id, task_queue=queue)
        events = await reading
        again = await read_all(client, reachable, workflow_id, cursor=events[5].cursor)

    assert standing_text(events) == TEXT * 3
    assert not [event for event in events if isinstance(event, Gap)]
    assert [event.cursor for event in again] == [event.cursor for event in events[6:]]


async def test_a_reader_who_cannot_reach_redis_reads_history(client):
    """Redis is away for all of us. After its patience my reader goes on with history, by itself."""
    workflow_id = unique("away")
    async with (
        RedisStreamBackend("redis://127.0.0.1:1", patience=timedelta(seconds=0.5)) as unreachable,
        streaming_worker(client, unreachable, [answer]) as queue,
    ):
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        events = await read_all(client, unreachable, workflow_id)

    assert standing_text(events) == TEXT


def test_nowhere_to_write_to_and_nowhere_to_read_from_is_refused_at_once():
    """A configuration that could never show a token is an error where I write it."""
    with pytest.raises(ConfigurationError, match="summary"):
        TokenStreamingInterceptor(summary="off")
    with pytest.raises(ConfigurationError, match="nothing to read from"):
        TokenSubscriber(None)
