"""What a thousand tokens cost in Temporal's history, by the way they travel."""

from dataclasses import dataclass
from typing import Any

import pytest
from temporalio import activity

from temporal_token_interceptor import MemoryStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

TOKENS = 1_000


@dataclass
class Answer:
    custom_data: list[Any] | None = None


@activity.defn
async def with_the_field(argument: Any) -> Answer:
    await ScriptedChatModel.saying(*["four "] * TOKENS).ainvoke("?")
    return Answer()


@activity.defn
async def without_the_field(argument: Any) -> None:
    await ScriptedChatModel.saying(*["four "] * TOKENS).ainvoke("?")


async def _activity_history(client, name, interceptors):
    """How many events a run's history has, and how many bytes its activity's result."""
    workflow_id = unique("growth")
    activities = [with_the_field, without_the_field]
    async with streaming_worker(client, None, activities, interceptors=interceptors) as queue:
        handle = await client.start_workflow(RunActivity.run, args=[name], id=workflow_id, task_queue=queue)
        await handle.result()
    history = await handle.fetch_history()
    (completed,) = [
        event for event in history.events if event.HasField("activity_task_completed_event_attributes")
    ]
    return len(history.events), completed.activity_task_completed_event_attributes.result.ByteSize()


@pytest.mark.parametrize(
    ("name", "backend", "most"),
    [
        ("without_the_field", MemoryStreamBackend, 0),
        ("without_the_field", None, 0),
        ("with_the_field", MemoryStreamBackend, 300),
        ("with_the_field", None, 7_500),
    ],
    ids=["redis", "no-place", "redis-and-counts", "custom-data"],
)
async def test_a_thousand_tokens_add_no_event_and_few_bytes(client, name, backend, most):
    """With Redis my history grows by nothing, with counts by a few bytes, without by the text.

    The activity result stands in history once; a workflow that returns it has it there a second time.
    """
    ours = TokenStreamingInterceptor(backend() if backend else None)

    events, size = await _activity_history(client, name, [ours])
    plain_events, plain_size = await _activity_history(client, name, [])

    print(f"\n{TOKENS} tokens of 5 characters add {size - plain_size} bytes to the result")  # noqa: T201 - a figure
    assert events == plain_events
    assert size - plain_size <= most
