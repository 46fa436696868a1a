"""No trace: histories are the same with and without us, and replay both ways."""

from collections import Counter
from typing import Any

import pytest
from temporalio import activity
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from temporal_token_interceptor import MemoryStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity, RunMany, Waiting


@activity.defn
async def thousand_tokens(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*["token "] * 1000).ainvoke("?")).text


async def _history(client, backend):
    workflow_id = unique("history")
    async with streaming_worker(client, backend, [thousand_tokens]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["thousand_tokens"], id=workflow_id, task_queue=queue
        )
        await handle.result()
        return await handle.fetch_history()


async def test_a_thousand_tokens_add_no_event_and_no_byte_to_history(client):
    """History has the same events, and the activity result the same payload, with and without us."""
    without = await _history(client, None)
    streamed = await _history(client, MemoryStreamBackend())

    def events(history):
        return Counter(event.event_type for event in history.events)

    def result(history):
        (completed,) = (
            event.activity_task_completed_event_attributes
            for event in history.events
            if event.HasField("activity_task_completed_event_attributes")
        )
        return completed.result

    assert events(streamed) == events(without)
    assert result(streamed) == result(without)


@pytest.mark.parametrize("recorded_with", [True, False], ids=["recorded-with-us", "recorded-without-us"])
@pytest.mark.parametrize("replayed_with", [True, False], ids=["replayed-with-us", "replayed-without-us"])
async def test_histories_replay_with_and_without_us(client, recorded_with, replayed_with):
    """I may add the interceptor to a running system, and take it away again."""
    history = await _history(client, MemoryStreamBackend() if recorded_with else None)
    ours = [TokenStreamingInterceptor(MemoryStreamBackend())] if replayed_with else []

    replayer = Replayer(
        workflows=[RunActivity, RunMany, Continuing, Waiting],
        interceptors=ours,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    result = await replayer.replay_workflow(history)

    assert result.replay_failure is None
