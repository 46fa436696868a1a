"""From a plain `ainvoke` inside an activity to a subscriber, on real servers."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    MemoryStreamBackend,
    ReasoningEvent,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
    ToolCallChunk,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import kinds, read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity

WORDS = ["To", "kens ", "travel", " light", ".", " ☂"]
TEXT = "".join(WORDS)


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text


@activity.defn
def answer_in_thread(argument: Any) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return ScriptedChatModel.saying(*WORDS).invoke("?").text


@activity.defn(dynamic=True)
async def answer_anything(arguments: Sequence[RawValue]) -> str:
    return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text


@pytest.fixture(params=["redis", "memory"])
async def backend(request, redis_url):
    if request.param == "memory":
        yield MemoryStreamBackend()
    else:
        async with RedisStreamBackend(redis_url) as redis:
            yield redis


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("answer", False),
        ("answer_in_thread", False),
        ("no such name", False),
        ("answer", True),
        ("answer_in_thread", True),
    ],
    ids=["async", "thread", "dynamic", "local-async", "local-thread"],
)
async def test_every_kind_of_activity_streams(client, backend, name, local):
    """I add the interceptor and change nothing else; what my model says arrives token by token."""
    workflow_id = unique("kinds")

    async with streaming_worker(client, backend, [answer, answer_in_thread, answer_anything]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=[name, None, local], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    assert [event.token for event in events if isinstance(event, TokenEvent)] == WORDS
    assert kinds(events) == [
        "AttemptStarted",
        "CallStarted",
        "TokenEvent",
        "CallEnded",
        "AttemptEnded",
        "StreamEnded",
    ]
    assert events[-1].status == "completed"
    assert await handle.result() == TEXT
    assert {event.node_name for event in events if isinstance(event, TokenEvent)} == {name}
    assert [event.index for event in events if isinstance(event, TokenEvent)] == list(range(len(WORDS)))


async def test_the_first_token_arrives_while_the_activity_still_runs(client, backend):
    """A viewer sees the beginning of the answer before its end exists."""
    gate = asyncio.Event()

    @activity.defn
    async def slow(argument: Any) -> str:
        class Gated(ScriptedChatModel):
            async def _astream(self, *args, **kwargs):
                async for chunk in super()._astream(*args, **kwargs):
                    yield chunk
                    await gate.wait()

        return (await Gated.saying(*WORDS).ainvoke("?")).text

    workflow_id = unique("live")
    async with streaming_worker(client, backend, [slow]) as queue:
        await client.start_workflow(RunActivity.run, args=["slow"], id=workflow_id, task_queue=queue)
        seen = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            seen.append(event)
            if isinstance(event, TokenEvent):
                gate.set()  # only now can the model go on

    assert standing_text(seen) == TEXT


async def test_a_graph_names_its_nodes(client, backend):
    """Tokens of a LangGraph graph say which node they come from, also from a sync node."""
    first, second = ScriptedChatModel.saying("pl", "an"), ScriptedChatModel.saying("wri", "te")

    async def planner(state: MessagesState) -> dict[str, object]:
        return {"messages": [await first.ainvoke(state["messages"])]}

    def writer(state: MessagesState) -> dict[str, object]:
        return {"messages": [second.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("planner", planner)
    builder.add_node("writer", writer)
    builder.add_edge(START, "planner")
    builder.add_edge("planner", "writer")
    builder.add_edge("writer", END)
    graph = builder.compile()

    @activity.defn
    async def run_graph(argument: Any) -> str:
        state = await graph.ainvoke({"messages": [("user", "?")]})
        return " ".join(message.text for message in state["messages"])

    workflow_id = unique("graph")
    async with streaming_worker(client, backend, [run_graph]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["run_graph"], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [(token.node_name, token.token) for token in tokens] == [
        ("planner", "pl"),
        ("planner", "an"),
        ("writer", "wri"),
        ("writer", "te"),
    ]
    assert [token.call.ordinal for token in tokens] == [0, 0, 1, 1]
    assert await handle.result() == "? plan write"


async def test_everything_a_model_says_arrives_by_its_kind(client, backend):
    """Reasoning, tool calls, usage and the finish reason come as what they are; text is only text."""
    pieces = [
        AIMessageChunk([{"type": "reasoning", "reasoning": "hm, ", "index": 0}]),
        AIMessageChunk([{"type": "reasoning", "reasoning": "yes", "index": 0}]),
        AIMessageChunk([{"type": "text", "text": "I look ", "index": 1}]),
        AIMessageChunk([{"type": "text", "text": "it up.", "index": 1}]),
        AIMessageChunk(
            "",
            tool_call_chunks=[
                {"type": "tool_call_chunk", "name": "find", "args": '{"q": ', "id": "c1", "index": 2}
            ],
        ),
        AIMessageChunk(
            "",
            tool_call_chunks=[
                {"type": "tool_call_chunk", "name": None, "args": '"tea"}', "id": None, "index": 2}
            ],
        ),
        AIMessageChunk(
            "",
            usage_metadata={"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
            response_metadata={"finish_reason": "tool_calls"},
        ),
    ]

    @activity.defn
    async def look_up(argument: Any) -> list[dict[str, object]]:
        message = await ScriptedChatModel.saying(*pieces).ainvoke("?")
        return [dict(call) for call in message.tool_calls]

    workflow_id = unique("kinds-of-content")
    async with streaming_worker(client, backend, [look_up]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["look_up"], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    assert "".join(e.token for e in events if isinstance(e, ReasoningEvent)) == "hm, yes"
    assert "".join(e.token for e in events if isinstance(e, TokenEvent)) == "I look it up."
    chunks = [event for event in events if isinstance(event, ToolCallChunk)]
    assert [(chunk.index, chunk.id, chunk.name) for chunk in chunks] == [(2, "c1", "find"), (2, None, None)]
    assert "".join(chunk.args for chunk in chunks) == '{"q": "tea"}'
    (ended,) = (event for event in events if isinstance(event, CallEnded))
    assert ended.usage is not None
    assert ended.usage["total_tokens"] == 8
    assert ended.finish_reason == "tool_calls"
    assert (await handle.result())[0]["args"] == {"q": "tea"}


async def test_a_model_that_cannot_stream_is_sent_whole(client, backend):
    """A call that does not stream still arrives: in one piece, and it says so."""

    @activity.defn
    async def whole(argument: Any) -> str:
        model = ScriptedChatModel.saying(*WORDS)
        model.disable_streaming = True
        return (await model.ainvoke("?")).text

    workflow_id = unique("whole")
    async with streaming_worker(client, backend, [whole]) as queue:
        await client.start_workflow(RunActivity.run, args=["whole"], id=workflow_id, task_queue=queue)
        events = await read_all(client, backend, workflow_id)

    assert [event.token for event in events if isinstance(event, TokenEvent)] == [TEXT]
    assert [event.streamed for event in events if isinstance(event, CallEnded)] == [False]


async def test_a_retry_takes_back_what_the_failed_attempt_said(client, backend):
    """When an attempt dies in mid-sentence I am told whose text to clear; then I read it anew, once."""

    @activity.defn
    async def flaky(argument: Any) -> str:
        pieces = [*WORDS[:3], RuntimeError("lost the line")] if activity.info().attempt == 1 else WORDS
        return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text

    workflow_id = unique("retry")
    async with streaming_worker(client, backend, [flaky]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["flaky", None, False, 2], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    starts = [event for event in events if isinstance(event, AttemptStarted)]
    ends = [event for event in events if isinstance(event, AttemptEnded)]
    assert [start.origin.attempt for start in starts] == [1, 2]
    assert [start.supersedes for start in starts] == [None, starts[0].origin]
    assert [(end.outcome, end.will_retry) for end in ends] == [
        ("failed", True),
        ("completed_provisional", None),
    ]
    assert [event.error for event in events if isinstance(event, CallEnded)] == ["RuntimeError", None]
    assert standing_text(events) == TEXT == await handle.result()
    assert await TokenSubscriber(client, backend).text(workflow_id) == TEXT


async def test_an_activity_fails_exactly_as_it_would_without_us(client, backend):
    """My exception reaches the workflow with its type, its details and its verdict on retries."""

    @activity.defn
    async def fails(argument: Any) -> str:
        await ScriptedChatModel.saying("a").ainvoke("?")
        raise ApplicationError("no credit", {"left": 0}, type="Billing", non_retryable=True)

    workflow_id = unique("fails")
    async with streaming_worker(client, backend, [fails]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["fails", None, False, 5], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()

    cause = failure.value.cause
    assert isinstance(cause, ActivityError)
    assert isinstance(cause.cause, ApplicationError)
    assert (cause.cause.type, cause.cause.message, list(cause.cause.details)) == (
        "Billing",
        "no credit",
        [{"left": 0}],
    )
    assert [(e.outcome, e.will_retry) for e in events if isinstance(e, AttemptEnded)] == [("failed", False)]
    assert events[-1].status == "failed"


@pytest.mark.parametrize("name", ["endless", "endless_in_thread"])
async def test_a_cancelled_activity_is_cancelled_and_its_text_stays(client, backend, name):
    """Stop stops the model; what it had said stays on the screen, its call marked as unfinished."""

    @activity.defn
    async def endless(argument: Any) -> str:
        async def beat() -> None:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.05)

        beating = asyncio.ensure_future(beat())
        try:
            return (await ScriptedChatModel.saying(*["again "] * 10_000, delay=0.01).ainvoke("?")).text
        finally:
            beating.cancel()

    @activity.defn
    def endless_in_thread(argument: Any) -> str:
        for _ in range(10_000):
            activity.heartbeat()
            ScriptedChatModel.saying("again ", delay=0.01).invoke("?")
        return ""

    workflow_id = unique("cancel")
    async with streaming_worker(client, backend, [endless, endless_in_thread]) as queue:
        handle = await client.start_workflow(RunActivity.run, args=[name], id=workflow_id, task_queue=queue)
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            if isinstance(event, TokenEvent) and not any(isinstance(e, TokenEvent) for e in events):
                await handle.cancel()
            events.append(event)
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()

    assert isinstance(failure.value.cause, CancelledError)
    assert [event.outcome for event in events if isinstance(event, AttemptEnded)] == ["cancelled"]
    assert standing_text(events).startswith("again ")
    assert len([e for e in events if isinstance(e, CallStarted)]) == len(
        [e for e in events if isinstance(e, CallEnded)]
    )
    assert isinstance(events[-1], StreamEnded)
    assert events[-1].status == "canceled"


async def test_an_activity_without_a_model_leaves_no_trace(client, redis_url, redis_client):
    """Workers run activities of all kinds; those that call no model write nothing to Redis."""

    @activity.defn
    async def plain(argument: Any) -> int:
        return 7

    workflow_id = unique("plain")
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [plain]) as queue,
    ):
        result = await client.execute_workflow(
            RunActivity.run, args=["plain"], id=workflow_id, task_queue=queue
        )

    assert result == 7
    assert [key async for key in redis_client.scan_iter(f"*{workflow_id}*")] == []


async def test_only_chosen_activities_and_nodes_stream(client, backend):
    """Filters at the source: what I did not choose is not captured at all."""

    @activity.defn
    async def other(argument: Any) -> str:
        return (await ScriptedChatModel.saying("other").ainvoke("?")).text

    for options in ({"activities": ["answer"]}, {"nodes": ["answer"]}):
        async with streaming_worker(client, backend, [answer, other], **options) as queue:
            chosen, left_out = unique("chosen"), unique("left-out")
            for name, workflow_id in (("answer", chosen), ("other", left_out)):
                await client.execute_workflow(RunActivity.run, args=[name], id=workflow_id, task_queue=queue)

            assert await TokenSubscriber(client, backend).text(chosen) == TEXT
            assert kinds(await read_all(client, backend, left_out)) == ["StreamEnded"]
