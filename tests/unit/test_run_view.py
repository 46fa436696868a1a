"""A workflow as streams of calls, tools and updates: pure folding, and one task that reads on demand."""

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage

from temporal_token_interceptor import (
    CallNotCompleted,
    ConfigurationError,
    TokensMissing,
    TokenStreamError,
    TransportUnavailable,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import (
    AttemptStarted,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.support.answers import read_back, said_at_once, scripts
from tests.support.frames import a_call, an_origin

FIRST = an_origin(attempt=1, attempt_id="a1")
SECOND = an_origin(attempt=2, attempt_id="a2", started=5)
DONE = StreamEnded(status="completed")
USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def a_token(text: str, origin: Any = FIRST, **call: Any) -> TokenEvent:
    return TokenEvent(text, "answer", 0, call=a_call(**call), origin=origin)


def an_end(origin: Any = FIRST, *, ordinal: int = 0, **facts: Any) -> CallEnded:
    return CallEnded(call=a_call(ordinal=ordinal), origin=origin, **facts)


class Source:
    """A subscription that counts what is taken from it, and knows whether it was closed."""

    def __init__(self, *events: Event | Exception) -> None:
        self.taken = 0
        self.closed = False
        self._events = events

    async def __call__(self):
        try:
            for event in self._events:
                self.taken += 1
                if isinstance(event, Exception):
                    raise event
                yield event
            if not isinstance(self._events[-1], StreamEnded):
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def no_result() -> None:
    raise AssertionError("nobody asked for it")


def a_run(*events: Event | Exception, **options: Any) -> WorkflowRun:
    return WorkflowRun(Source(*events)(), no_result, **options)


# ------------------------------------------------------------------ calls


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts=scripts, bite=st.sampled_from([1, 700, 2**30]))
def test_each_call_is_the_message_that_its_model_returned(scripts, bite):
    """Calls mixed in any way: text, reasoning, tool calls, usage and id of each are those of its message."""
    buffer, returned = said_at_once(scripts)
    events = read_back(buffer, bite)

    async def read() -> dict[str | None, tuple[AIMessage, str, str, list[str]]]:
        async with a_run(*events, DONE) as run:
            calls = [call async for call in run.messages]
        return {
            call.message_id: (
                await call.output,
                await call.text,
                await call.reasoning,
                [text async for text in call.text],
            )
            for call in calls
        }

    read_calls = asyncio.run(read())

    assert len(read_calls) == len(returned)
    for message in returned:
        assert isinstance(message, AIMessage)
        output, text, reasoning, deltas = read_calls[message.id]
        assert (output.id, output.text, text, "".join(deltas)) == (message.id, *[message.text] * 3)
        assert reasoning == message.additional_kwargs.get("reasoning_content", "")
        assert output.tool_calls == message.tool_calls
        assert output.usage_metadata == message.usage_metadata
        assert output.response_metadata["finish_reason"] == message.response_metadata["finish_reason"]


async def test_a_call_may_be_read_while_hundreds_of_others_begin():
    """200 calls at once, each read to its end before the next one: nobody waits for anybody."""
    calls = range(200)
    begun = [CallStarted(call=a_call(ordinal=n), origin=FIRST) for n in calls]
    said = [a_token(f"{n}", ordinal=n) for n in calls]
    ended = [an_end(ordinal=n) for n in reversed(calls)]

    async with asyncio.timeout(10), a_run(*begun, *said, *ended, DONE) as run:
        texts = [await call.text async for call in run.messages]

    assert texts == [str(n) for n in calls]


async def test_a_call_has_its_place_and_its_blocks():
    """Where it is said, and images and broken tool calls among its blocks, as LangChain has them."""
    call = a_call(path=("sub",), provider="openai", model="gpt", run_id="r")
    image = {"type": "image", "mime_type": "image/png", "size": 3}
    odd = {"type": "odd", "x": 1}
    events: list[Event] = [
        ContentBlock(block=image, call=call, origin=FIRST),
        ContentBlock(block=odd, call=call, origin=FIRST),
        TokenEvent("so", "answer", 0, call=call, origin=FIRST),
        ToolCallChunk(index=0, id="tc", name="find", args='{"q', call=call, origin=FIRST),
        CallEnded(call=call, origin=FIRST),
    ]

    async with a_run(*events, DONE, subgraphs=True) as run:
        (one,) = [call async for call in run.messages]
        output = await one.output

    assert (one.namespace, one.node, one.call, one.origin) == (["sub"], "answer", call, FIRST)
    assert [block["type"] for block in output.content_blocks] == [
        "image",
        "non_standard",
        "text",
        "invalid_tool_call",
    ]
    assert output.invalid_tool_calls[0]["args"] == '{"q'


@pytest.mark.parametrize("args", ['{"n": %s}' % ("1" * 5_000), "[" * 100_000])
async def test_arguments_that_python_does_not_parse_are_those_of_an_invalid_tool_call(args):
    """A model may write any nonsense: it costs that one tool call, and no other stream of the run."""
    call = a_call()
    chunk = ToolCallChunk(index=0, id="tc", name="search", args=args, call=call, origin=FIRST)

    async with a_run(chunk, an_end(), a_token("next", ordinal=1), an_end(ordinal=1), DONE) as run:
        nonsense, following = [await call.output async for call in run.messages]

    assert nonsense.invalid_tool_calls[0]["args"] == args
    assert following.text == "next"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"error": "ConnectionError"}, "ConnectionError"), ({"unfinished": True}, "unfinished")],
)
async def test_a_call_that_broke_off_raises_after_what_it_said(facts, reason):
    async with a_run(a_token("ha"), an_end(**facts), DONE) as run:
        (call,) = [call async for call in run.messages]
        texts, error = await _until_error(call.text)
        with pytest.raises(CallNotCompleted, match=reason):
            await call.output

    assert (texts, type(error)) == (["ha"], CallNotCompleted)


async def test_a_retry_ends_open_calls_and_marks_those_that_had_ended():
    """What I hold of the first attempt says that it is superseded; the second attempt's calls are others."""
    retry = AttemptStarted(origin=SECOND, supersedes=FIRST)
    whole = (a_token("one", ordinal=0), an_end())
    events = (*whole, a_token("tw", ordinal=1), retry, a_token("one", SECOND), an_end(SECOND), DONE)

    async with a_run(*events) as run:
        ended, broken, again = [call async for call in run.messages]
        assert [await one.text for one in (ended, again)] == ["one", "one"]
        with pytest.raises(CallNotCompleted, match="superseded"):
            await broken.output

    assert [call.superseded for call in (ended, broken, again)] == [True, True, False]


async def test_a_message_that_a_node_returned_is_a_handle_that_has_ended():
    """It has the members of a call's, and a retry marks it; a tool's message is none, nor is a chunk."""
    messages = [
        ToolMessage("found", tool_call_id="t", id="m1"),
        AIMessage("whole", id="m1", usage_metadata=USAGE, response_metadata={"model_name": "tea-1"}),
        AIMessageChunk("piece", id="m3"),
    ]
    output = {"messages": [message.model_dump() for message in messages]}
    returned = NodeEnded(node_name="answer", run_id="n", output=output, origin=FIRST)

    async with a_run(returned, AttemptStarted(origin=SECOND, supersedes=FIRST), DONE) as run:
        [call] = [call async for call in run.messages]
        output_message = await call.output
        pieces = [text async for text in call.text]

    assert (call.origin, call.call, call.node, call.message_id) == (FIRST, None, "answer", "m1")
    assert (pieces, output_message.id, await call.usage) == (["whole"], "m1", USAGE)
    assert output_message.response_metadata == {"model_name": "tea-1", "output_version": "v1"}
    assert call.superseded


async def test_a_returned_message_that_langchain_refuses_is_an_error_of_its_own():
    """A node may return any block; what comes after it is read all the same."""
    odd = AIMessage([{"type": "text", "text": 5}], id="m1", response_metadata={"output_version": "v1"})
    output = {"messages": [odd.model_dump(), AIMessage("fine", id="m2").model_dump()]}
    returned = NodeEnded(node_name="answer", run_id="n", output=output, origin=FIRST)

    async with a_run(returned, DONE) as run:
        refused, fine = [call async for call in run.messages]
        with pytest.raises(CallNotCompleted, match="TypeError"):
            await refused.output
        assert await fine.text == "fine"


@pytest.mark.parametrize(
    "gap",
    [
        Gap(missing=1, reason="overflow", origin=FIRST, call=a_call()),
        Gap(missing=1, reason="lost", origin=FIRST),
        Gap(missing=None, reason="trimmed"),
    ],
)
async def test_a_call_with_a_hole_has_no_output(gap):
    """Not a message with words missing, but an error; and so ends the loop over the calls."""
    events = (a_token("a"), gap, a_token("c"), an_end(), a_token("whole", SECOND), an_end(SECOND), DONE)

    async with a_run(*events) as run:
        calls, error = await _until_error(run.messages)
        assert isinstance(error, TokensMissing)
        with pytest.raises(TokensMissing, match=gap.reason):
            await calls[0].output
        assert await calls[1].text == "whole"


async def test_a_call_that_nobody_ended_ends_with_the_stream():
    async with a_run(a_token("ha"), StreamEnded(status="terminated")) as run:
        call = await anext(run.messages)
        with pytest.raises(WorkflowNotCompleted, match="terminated"):
            await call.output


# ------------------------------------------------------------------ the other streams


async def test_everything_else_has_a_stream_of_its_own():
    """By LangGraph's names and shapes; and `temporal`, which LangGraph has no name for."""
    facts: dict[str, Any] = {"name": "find", "run_id": "r", "origin": FIRST}
    tools = (ToolStarted(**facts), ToolEnded(**facts, output="found"))
    custom = (CustomEvent(name="progress", data=1, origin=FIRST), a_mode("custom", 2))
    updates = (NodeEnded(node_name="n", output=1, origin=FIRST), a_mode("updates", {"n": 2}))
    states = [a_mode(mode, {"is": mode}) for mode in ("values", "tasks", "checkpoints", "debug")]
    life = (AttemptStarted(origin=FIRST), RunContinued(run_id="next"))
    inner = NodeStarted(node_name="m", path=("sub",), origin=FIRST)

    async with a_run(*life, *tools, *custom, *updates, *states, inner, DONE) as run:
        names = [*run.extensions]
        got = dict(
            zip(names, await asyncio.gather(*(_all(run.extensions[name]) for name in names)), strict=True)
        )

    [tool], [subgraph] = got.pop("tool_calls"), got.pop("subgraphs")
    assert (tool.tool_name, tool.output, tool.error, tool.completed) == ("find", "found", None, True)
    assert (subgraph.path, subgraph.graph_name, subgraph.status) == (("sub",), "sub", "failed")
    assert got == {
        "temporal": [*life, DONE],
        "custom": [{"name": "progress", "payload": 1}, 2],
        "updates": [{"n": 1}, {"n": 2}],
        "messages": [],
        "lifecycle": [
            {"event": "started", "namespace": ["sub"], "graph_name": "sub"},
            {"event": "failed", "namespace": ["sub"], "error": "unfinished"},
        ],
        **{mode: [{"is": mode}] for mode in ("values", "tasks", "checkpoints", "debug")},
    }


def a_mode(mode: str, data: Any) -> GraphEvent:
    return GraphEvent(mode=mode, data=data, origin=FIRST)


async def _until_error(items: Any) -> tuple[list[Any], Exception | None]:
    got: list[Any] = []
    try:
        async for item in items:
            got.append(item)  # noqa: PERF401 - what came before the error counts
    except TokenStreamError as error:
        return got, error
    return got, None


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


async def test_the_streams_may_be_read_one_after_another():
    """What nobody has read yet waits for its reader."""
    custom = CustomEvent(name="progress", origin=FIRST)
    async with a_run(custom, a_token("a"), an_end(), DONE) as run:
        assert [await call.text async for call in run.messages] == ["a"]
        assert await _all(run.custom) == [{"name": "progress", "payload": None}]


async def test_what_nobody_reads_is_bounded_and_reported():
    """A stream that I come back to much too late says so, and goes on with what is left."""
    events = [CustomEvent(name=f"{n}", origin=FIRST) for n in range(1_500)]
    async with a_run(*events, DONE) as run:
        await _all(run.messages)
        with pytest.raises(TokensMissing, match="overflow"):
            await anext(run.custom)

        assert [item["name"] for item in await _all(run.custom)] == [f"{n}" for n in range(500, 1_500)]


async def test_an_end_is_reported_by_temporal_and_raised_by_the_others():
    end = StreamEnded(status="failed")
    async with a_run(end) as run:
        assert await _all(run.temporal) == [end]
        for items in (run.messages, run.tool_calls, run.custom, run.updates):
            with pytest.raises(WorkflowNotCompleted):
                await _all(items)


# ------------------------------------------------------------------ the one task


async def test_nothing_is_read_before_it_is_asked_for_nor_far_ahead():
    """A slow reader reads slowly: most of what it has not asked for stays in Redis."""
    source = Source(*(a_token(f"{n} ") for n in range(1_000)), an_end(), DONE)
    async with WorkflowRun(source(), no_result) as run:
        await asyncio.sleep(0)
        assert source.taken == 0
        call = await anext(run.messages)
        for _ in range(100):
            await asyncio.sleep(0)

        assert source.taken == 64
        assert await call.text == "".join(f"{n} " for n in range(1_000))


async def test_an_error_of_the_subscription_reaches_every_reader():
    async with a_run(a_token("a"), TransportUnavailable("Redis is away")) as run:
        call = await anext(run.messages)
        for reading in (call.output, anext(run.messages), anext(run.custom), anext(run.temporal)):
            with pytest.raises(TransportUnavailable):
                await reading


async def test_a_reader_that_gives_up_disturbs_nobody():
    """A timeout on one token cancels my wait, not the subscription."""
    arrived = asyncio.Event()

    async def events():
        yield a_token("a")
        await arrived.wait()
        yield a_token("b")
        yield an_end()
        yield DONE

    async with WorkflowRun(events(), no_result) as run:
        call = await anext(run.messages)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_all(call.tool_calls), 0.01)
        arrived.set()
        assert await call.text == "ab"


async def test_whoever_leaves_a_run_ends_its_task_its_subscription_and_its_readers():
    source = Source(a_token("a"))
    before = asyncio.all_tasks()
    async with WorkflowRun(source(), no_result) as run:
        call = await anext(run.messages)
        reading = asyncio.ensure_future(_all(run.custom))
        await asyncio.sleep(0)

    for waits in (reading, call.output):
        with pytest.raises(ConfigurationError, match="the run was left"):
            await waits
    assert source.closed
    assert asyncio.all_tasks() == before


async def test_a_reader_hears_that_the_run_was_left_also_if_leaving_was_cut_short():
    """A subscription that is slow to end, and an impatient owner: nobody waits for ever."""
    slow, leaving = asyncio.Event(), asyncio.Event()

    async def events():
        try:
            yield AttemptStarted(origin=FIRST)
            await asyncio.Event().wait()
        finally:
            leaving.set()
            await slow.wait()

    async def leave() -> None:
        async with run:
            await anext(run.temporal)

    run = WorkflowRun(events(), no_result)
    owner = asyncio.create_task(leave())
    await asyncio.sleep(0)
    reader = asyncio.create_task(anext(run.messages))
    async with asyncio.timeout(5):
        await leaving.wait()

        owner.cancel()

        with pytest.raises(ConfigurationError, match="the run was left"):
            await reader
    slow.set()
    with pytest.raises(asyncio.CancelledError):
        await owner


async def test_a_run_is_read_within_async_with():
    run = a_run(DONE)
    with pytest.raises(ConfigurationError, match="async with"):
        await anext(run.messages)


async def test_the_output_is_asked_for_when_it_is_awaited():
    """Whoever looks at a run in a debugger awaits nothing."""
    asked = []

    async def result() -> str:
        asked.append(1)
        return "tea"

    run = WorkflowRun(Source(DONE)(), result)
    assert hasattr(run.output, "__await__")
    gc.collect()  # a coroutine that nobody awaited would warn, and a warning is an error here
    assert asked == []
    assert await run.output == "tea"


async def test_a_run_keeps_no_call_that_its_reader_has_let_go():
    """A workflow of years: what has been read and ended costs nothing any more."""
    events: list[Event] = []
    for n in range(50):
        events += [a_token("x", ordinal=n), an_end(ordinal=n)]
    async with a_run(*events, DONE) as run:
        async for call in run.messages:
            await call.output
        del call
        gc.collect()

        assert [len(calls) for calls in run._shared.reported[-1].values()] == [0]
