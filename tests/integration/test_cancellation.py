"""Stop stops: the provider's connection closes, the partial text stays, the reader learns why it ended."""

import asyncio
import time
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
)
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

from temporal_token_interceptor import (
    AttemptEnded,
    CallEnded,
    MemoryStreamBackend,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.provider import ProvidedModel, provider
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity, RunBeating

HEARTBEAT_TIMEOUT = 1.0  # seconds, as RunActivity sets it
LONGEST_DELAY = (
    2 * HEARTBEAT_TIMEOUT
)  # the SDK sends a beat every 0.8 timeouts; the rest is for a full machine


@pytest.fixture
def backend():
    return MemoryStreamBackend()


def outcomes(events) -> list[str]:
    return [event.outcome for event in events if isinstance(event, AttemptEnded)]


async def read_and(client, backend, workflow_id, act) -> list[Any]:
    """Read a stream to its end; at the first token, act."""
    events: list[Any] = []
    async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
        if isinstance(event, TokenEvent) and not any(isinstance(e, TokenEvent) for e in events):
            await act()
        events.append(event)
    return events


# ---------------------------------------------------------------------- the workflow is cancelled


@pytest.mark.parametrize("name", ["listens", "listens_in_thread"], ids=["async", "thread"])
async def test_cancelling_the_workflow_hangs_up_on_the_provider(client, backend, name):
    """I press Stop: no more tokens are paid for, what was said stays, and I am told that it was cancelled.

    The activity never heartbeats by itself: without the interceptor it would not learn of it.
    """
    async with provider() as serving:

        @activity.defn
        async def listens(argument: Any) -> str:
            return (await ProvidedModel.at(serving.port).ainvoke("?")).text

        @activity.defn
        def listens_in_thread(argument: Any) -> str:
            return ProvidedModel.at(serving.port).invoke("?").text

        workflow_id = unique("stop")
        cancelled_at = 0.0

        async def cancel() -> None:
            nonlocal cancelled_at
            cancelled_at = time.monotonic()
            await handle.cancel()

        async with streaming_worker(client, backend, [listens, listens_in_thread]) as queue:
            handle = await client.start_workflow(
                RunActivity.run, args=[name], id=workflow_id, task_queue=queue
            )
            events = await read_and(client, backend, workflow_id, cancel)
            ended_at = time.monotonic()
            async with asyncio.timeout(5):
                await serving.hung_up.wait()

    delay = serving.hung_up_at - cancelled_at
    seen = f"provider saw the end {delay:.2f} s after the cancel, reader {ended_at - cancelled_at:.2f} s"
    print(f"\n{name}: {seen}")  # noqa: T201 - figures are to be seen
    assert delay < LONGEST_DELAY
    assert outcomes(events) == ["cancelled"]
    assert standing_text(events).startswith("again ")
    assert [
        event.unfinished or event.error is not None for event in events if isinstance(event, CallEnded)
    ] == [True]
    assert events[-1].status == "canceled"


async def test_a_swallowed_cancellation_is_what_temporal_recorded(client, backend):
    """An activity that catches its cancellation and returns has completed, and so says the stream."""

    @activity.defn
    async def returns_what_it_has(argument: Any) -> str:
        try:
            await ScriptedChatModel.saying(*["again "] * 10_000, delay=0.01).ainvoke("?")
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    workflow_id = unique("swallowed")
    async with streaming_worker(client, backend, [returns_what_it_has]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["returns_what_it_has"], id=workflow_id, task_queue=queue
        )
        events = await read_and(client, backend, workflow_id, handle.cancel)
        result = await handle.result()

    assert result == "partial"
    assert outcomes(events) == ["completed_provisional"]
    assert events[-1].status == "completed"


async def test_an_activity_that_cancels_itself_has_failed(client, backend):
    """A CancelledError that nobody asked for is a failure to Temporal, and so it is to the reader."""

    @activity.defn
    async def gives_up(argument: Any) -> str:
        await ScriptedChatModel.saying("no").ainvoke("?")
        raise asyncio.CancelledError

    workflow_id = unique("gives-up")
    async with streaming_worker(client, backend, [gives_up]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["gives_up"], id=workflow_id, task_queue=queue
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
        events: list[Any] = await read_all(client, backend, workflow_id)

    assert isinstance(failure.value.cause, ActivityError)
    assert isinstance(failure.value.cause.cause, ApplicationError)
    assert outcomes(events) == ["failed"]
    assert events[-1].status == "failed"


# ---------------------------------------------------------------------- other reasons to stop


@activity.defn
async def long_once(argument: Any) -> str:
    """Says little and waits; to the attempt after that it says all at once."""
    if not long_once.interrupted:  # type: ignore[attr-defined]
        long_once.interrupted = True  # type: ignore[attr-defined]
        await ScriptedChatModel.saying(*["again "] * 10_000, delay=0.05).ainvoke("?")
    return (await ScriptedChatModel.saying("at ", "last").ainvoke("?")).text


@pytest.fixture(autouse=True)
def not_interrupted_yet():
    long_once.interrupted = False  # type: ignore[attr-defined]


async def test_an_activity_that_is_reset_says_so(client, backend):
    """Somebody resets my activity: its text is taken back, and the next attempt told."""
    workflow_id = unique("reset")

    async def reset() -> None:
        await client.workflow_service.reset_activity(
            ResetActivityRequest(
                namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id), id="1"
            )
        )

    async with streaming_worker(client, backend, [long_once]) as queue:
        await client.start_workflow(
            RunActivity.run, args=["long_once", None, False, 0], id=workflow_id, task_queue=queue
        )
        events = await read_and(client, backend, workflow_id, reset)

    assert outcomes(events)[0] in {"reset", "abandoned"}
    assert outcomes(events)[1:] == ["completed_provisional"]
    assert standing_text(events) == "at last"


async def test_an_activity_that_is_paused_says_so(client, backend):
    """Somebody pauses my activity: the stream says paused, and goes on when the activity does."""
    workflow_id = unique("pause")
    execution = WorkflowExecution(workflow_id=workflow_id)

    async def pause() -> None:
        await client.workflow_service.pause_activity(
            PauseActivityRequest(namespace=client.namespace, execution=execution, id="1")
        )

    async with streaming_worker(client, backend, [long_once]) as queue:
        await client.start_workflow(
            RunActivity.run, args=["long_once", None, False, 0], id=workflow_id, task_queue=queue
        )
        events: list[Any] = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            if isinstance(event, TokenEvent) and not any(isinstance(e, TokenEvent) for e in events):
                await pause()
            events.append(event)
            if isinstance(event, AttemptEnded) and event.outcome == "paused":
                await client.workflow_service.unpause_activity(
                    UnpauseActivityRequest(namespace=client.namespace, execution=execution, id="1")
                )

    assert outcomes(events) == ["paused", "completed_provisional"]
    assert standing_text(events) == "at last"


async def test_a_worker_that_shuts_down_says_so(client, backend):
    """I deploy in mid-answer: the attempt ends as worker_shutdown, and the next worker answers anew."""
    workflow_id = unique("shutdown")
    reading = asyncio.ensure_future(read_all(client, backend, workflow_id))
    first_token = asyncio.Event()

    async with streaming_worker(client, backend, [long_once]) as queue:
        await client.start_workflow(
            RunActivity.run, args=["long_once", None, False, 0], id=workflow_id, task_queue=queue
        )
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            if isinstance(event, TokenEvent):
                first_token.set()
                break
    async with streaming_worker(client, backend, [long_once], task_queue=queue):
        events = await reading

    assert first_token.is_set()
    assert outcomes(events) == ["worker_shutdown", "completed_provisional"]
    assert standing_text(events) == "at last"


async def test_an_attempt_that_temporal_gave_up_says_so(client, backend):
    """An attempt that took too long learns it with its next beat; it is not called cancelled."""
    workflow_id = unique("too-long")
    async with streaming_worker(client, backend, [long_once]) as queue:
        await client.start_workflow(
            RunBeating.run, args=[["long_once"], 0.5, 2, 1], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    assert outcomes(events)[0] in {"timed_out", "abandoned"}
    assert outcomes(events)[1:] == ["completed_provisional"]
    assert standing_text(events) == "at last"
