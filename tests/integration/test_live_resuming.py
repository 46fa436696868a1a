"""A reader of heartbeats that was away: what it had of attempts that were replaced is taken back."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    AttemptStarted,
    CallEnded,
    Event,
    Gap,
    InvalidCursor,
    RunContinued,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, standing_text, unique
from tests.support.workflows import RunActivity

DEADLINE = 20


@dataclass
class Kept:
    custom_data: list[Any] | None = None


class Play:
    """An activity whose first attempts fail once they may; what each says names it."""

    def __init__(self, *, attempts: int, last_is_silent: bool = False, has_place: bool = True) -> None:
        self.attempts = attempts
        self._last_is_silent = last_is_silent
        self._has_place = has_place
        self.may_fail = [asyncio.Event() for _ in range(attempts)]
        self.may_end = asyncio.Event()
        self.ended = [asyncio.Event() for _ in range(attempts)]

    def activity(self) -> Any:
        @activity.defn(name="plays")
        async def plays(argument: Any) -> Any:
            number = activity.info().attempt
            is_last = number == self.attempts
            try:
                if not (is_last and self._last_is_silent):
                    await ScriptedChatModel.saying(f"attempt{number} ", "speaks").ainvoke("?")
                activity.heartbeat("mine")
                if not is_last:
                    await self.may_fail[number - 1].wait()
                    raise RuntimeError("not yet")
                await self.may_end.wait()
                return Kept() if self._has_place else None
            finally:
                self.ended[number - 1].set()

        return plays

    @property
    def text(self) -> str:
        return "" if self._last_is_silent else f"attempt{self.attempts} speaks"


async def until_call_ended(client: Any, workflow_id: str) -> list[Event]:
    """What a viewer has that leaves once the first answer is whole."""
    events: list[Event] = []
    async for event in TokenSubscriber(client).subscribe(workflow_id):
        events.append(event)
        if isinstance(event, CallEnded):
            break
    return events


def a_worker(client: Any, play: Play) -> Worker:
    return Worker(
        client,
        task_queue=unique("live"),
        workflows=[RunActivity],
        activities=[play.activity()],
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TokenStreamingPlugin()],
    )


async def start(client: Any, worker: Worker, attempts: int) -> str:
    workflow_id = unique("live")
    await client.start_workflow(
        RunActivity.run,
        args=["plays", None, False, attempts, 5],
        id=workflow_id,
        task_queue=worker.task_queue,
    )
    return workflow_id


@pytest.mark.parametrize("last_is_silent", [False, True], ids=["speaks", "calls no model"])
@pytest.mark.parametrize("back", ["while it runs", "after its end"])
@pytest.mark.parametrize("attempts", [2, 4])
async def test_who_was_away_while_attempts_failed_takes_back_what_it_had(
    client, attempts, back, last_is_silent
):
    """I left with the first attempt's words on my screen; when I am back, only those of the last stand."""
    play = Play(attempts=attempts, last_is_silent=last_is_silent)
    async with a_worker(client, play) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker, attempts)
        seen = await until_call_ended(client, workflow_id)
        for may_fail in play.may_fail:
            may_fail.set()
        for ended in play.ended[:-1]:
            await ended.wait()
        if back == "after its end":
            play.may_end.set()
            await client.get_workflow_handle(workflow_id).result()
        rest: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id, cursor=seen[-1].cursor):
            rest.append(event)
            if isinstance(event, AttemptStarted) and event.origin.attempt == attempts:
                play.may_end.set()

    assert standing_text(seen) == "attempt1 speaks"
    assert standing_text([*seen, *rest]) == play.text
    assert not [event for event in rest if isinstance(event, Gap)]
    assert rest[-1].status == "completed"


async def test_a_retry_that_calls_no_model_takes_back_what_i_see(client):
    """I watch all the time: the words of the first attempt go as soon as the second has begun."""
    play = Play(attempts=2, last_is_silent=True)
    async with a_worker(client, play) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker, 2)
        events: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, CallEnded):
                play.may_fail[0].set()
            if isinstance(event, AttemptStarted) and event.origin.attempt == 2:
                play.may_end.set()

    assert standing_text(events) == ""
    assert "attempt1" in "".join(event.token for event in events if isinstance(event, TokenEvent))


async def test_what_cannot_be_known_after_the_cursor_is_a_gap(client):
    """The last attempt has ended, and its result holds nothing: that something may be missing is reported."""
    play = Play(attempts=2, has_place=False)
    async with a_worker(client, play) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker, 2)
        seen = await until_call_ended(client, workflow_id)
        play.may_fail[0].set()
        play.may_end.set()
        await client.get_workflow_handle(workflow_id).result()
        rest = await read_all(client, None, workflow_id, cursor=seen[-1].cursor)
        after = await read_all(client, None, workflow_id, cursor=rest[-1].cursor)

    assert [event.reason for event in rest if isinstance(event, Gap)] == ["transport"]
    assert [type(event) for event in after] == [StreamEnded]


async def test_what_the_result_repeats_is_no_duplicate(client):
    """`statistics.duplicates` counts what went wrong, and not that a result has what heartbeats showed."""
    play = Play(attempts=1)
    play.may_end.set()
    subscriber = TokenSubscriber(client)
    async with a_worker(client, play) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker, 1)
        events = [event async for event in subscriber.subscribe(workflow_id)]

    assert standing_text(events) == play.text
    assert subscriber.statistics.duplicates == 0
    assert subscriber.statistics.gaps == 0


@pytest.mark.parametrize("back", ["while it runs", "after its end"])
async def test_who_was_away_during_a_reset_of_the_workflow_takes_back_what_it_had(client, back):
    """An operator resets the workflow while I am away: what its new run says replaces what I have."""
    play = Play(attempts=1)
    async with a_worker(client, play) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker, 1)
        seen = await until_call_ended(client, workflow_id)
        reset = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=seen[0].origin.run_id),
                reason="test",
                workflow_task_finish_event_id=3,
                request_id=workflow_id,
            )
        )
        if back == "after its end":
            play.may_end.set()
            await client.get_workflow_handle(workflow_id, run_id=reset.run_id).result()
        rest: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id, cursor=seen[-1].cursor):
            rest.append(event)
            if isinstance(event, TokenEvent) and event.origin.run_id == reset.run_id:
                play.may_end.set()

    assert standing_text([*seen, *rest]) == play.text
    assert [event.run_id for event in rest if isinstance(event, RunContinued)] == [reset.run_id]
    assert rest[-1].status == "completed"


@pytest.mark.parametrize("entry", ["L", "Lx", f"L{'9' * 23}", f"L{'9' * 25}", f"L-{'9' * 23}"])
async def test_an_edited_place_in_heartbeats_is_refused_at_the_call(client, entry):
    """A client changes the cursor that I gave it: the call says so, and no foreign error comes later."""
    with pytest.raises(InvalidCursor, match="not one of ours"):
        TokenSubscriber(client).subscribe("any", cursor=f"1~run~{entry}~2")
