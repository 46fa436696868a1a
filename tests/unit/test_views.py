"""A subscription in LangGraph's shape: pure folding of events into chunks of messages."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, RemoveMessage

from temporal_token_interceptor import TokensMissing, TokenStreamError, WorkflowNotCompleted
from temporal_token_interceptor.events import (
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Event,
    Gap,
    NodeEnded,
    Origin,
    ReasoningEvent,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.langgraph_messages import Chunks, Message
from temporal_token_interceptor.views.message_stream import messages
from tests.support.answers import read_back, said_at_once, scripts
from tests.support.frames import a_call, an_origin

FIRST = an_origin(attempt=1, attempt_id="a1")
SECOND = an_origin(attempt=2, attempt_id="a2", started=5)


def at(place: int) -> dict[str, str]:
    """The cursor of the n-th event."""
    return {"cursor": str(Cursor("run", f"{place:03d}"))}


def a_token(text: str, place: int = 1, origin: Origin = FIRST, **call: Any) -> TokenEvent:
    made = a_call(**({"run_id": f"run-{origin.attempt_id}"} | call))
    return TokenEvent(text, "answer", place, attempt=origin.attempt, call=made, origin=origin, **at(place))


def a_thought(text: str, index: int, block: int = 0) -> ReasoningEvent:
    return ReasoningEvent(token=text, index=index, block=block, call=a_call(), origin=FIRST, **at(index))


def a_retry(place: int) -> AttemptStarted:
    return AttemptStarted(origin=SECOND, supersedes=FIRST, **at(place))


def chunks_of(events: list[Event], **options: Any) -> list[Message]:
    view = Chunks(**options)
    return [message for event in events for message in view.read(event)]


def held(stream: list[Message]) -> dict[str | None, AIMessageChunk]:
    """What somebody holds who adds chunks by id, and removes what is to be removed."""
    messages: dict[str | None, AIMessageChunk] = {}
    for chunk, _ in stream:
        if isinstance(chunk, RemoveMessage):
            del messages[chunk.id]
        elif isinstance(chunk, AIMessageChunk):
            messages[chunk.id] = messages[chunk.id] + chunk if chunk.id in messages else chunk
    return messages


def a_node_end(place: int, *texts: str, origin: Origin = FIRST, **facts: Any) -> NodeEnded:
    said = [AIMessage(text, id=f"m-{text}").model_dump() for text in texts]
    return NodeEnded(
        node_name="n", run_id="r", origin=origin, output={"messages": said}, **facts, **at(place)
    )


# ------------------------------------------------------------------ what nodes return


def ids_of(events: list[Event], **options: Any) -> list[str | None]:
    return [message.id for message, _ in chunks_of(events, **options)]


def test_what_a_node_returned_and_no_model_streamed_is_whole():
    """A reader of subgraphs has seen more: what is known of them is not new to it alone."""
    end = a_node_end(1, "a", "b", "c", known_ids=("m-a",), known_inner_ids=("m-b",), agent_name="clerk")

    assert ids_of([end]) == ["m-b", "m-c"]
    assert ids_of([end], subgraphs=True) == ["m-c"]
    assert ids_of([end], returned=False) == []
    assert ids_of([replace(end, path=("sub",))]) == []
    assert ids_of([replace(end, node_name="__start__")]) == []
    ((message, metadata),) = chunks_of([end], subgraphs=True)
    assert (type(message), message.text) == (AIMessage, "c")
    assert {"langgraph_node": "n", "lc_agent_name": "clerk", **at(1)}.items() <= metadata.items()


def test_messages_without_an_id_get_that_of_the_worker():
    output = {"messages": [AIMessage(text).model_dump() for text in "ab"]}
    end = NodeEnded(node_name="n", run_id="r", origin=FIRST, output=output, **at(1))

    assert ids_of([replace(end, made_ids=("x", "y"))]) == ["x", "y"]
    assert ids_of([replace(end, made_ids=("x", "y"), known_ids=("x",))]) == ["y"]
    assert ids_of([end]) == ["r-0", "r-1"], "of an earlier worker"


def test_a_retry_takes_back_what_nodes_returned():
    events = [AttemptStarted(origin=FIRST, **at(0)), a_node_end(1, "a", "b"), a_retry(2)]

    stream = chunks_of(events)

    assert [type(message) for message, _ in stream] == [AIMessage] * 2 + [RemoveMessage] * 2
    assert [message.id for message, _ in stream] == ["m-a", "m-b"] * 2
    assert [metadata["cursor"] for _, metadata in stream] == [at(place)["cursor"] for place in (0, 1, 1, 2)]


# ------------------------------------------------------------------ a message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts=scripts, bite=st.sampled_from([1, 700, 2**30]), cut=st.integers(0, 300))
def test_the_chunks_of_a_call_summed_are_its_message(scripts, bite, cut):
    """Calls mixed in any way, and another reader from any place on: the sums are what the models returned."""
    buffer, returned = said_at_once(scripts)
    events = read_back(buffer, bite)

    sums = held(chunks_of(events[:cut]) + chunks_of(events[cut:]))

    assert len(sums) == len(returned)
    for message in returned:
        assert isinstance(message, AIMessage)
        whole = sums[message.id]
        assert whole.text == message.text
        assert whole.tool_calls == message.tool_calls
        assert whole.invalid_tool_calls == message.invalid_tool_calls
        assert whole.usage_metadata == message.usage_metadata
        assert whole.response_metadata["finish_reason"] == message.response_metadata["finish_reason"]
        assert whole.chunk_position == "last"
        reasoning = message.additional_kwargs.get("reasoning_content", "")
        if not reasoning:
            assert whole.content == message.content
        blocks = whole.content_blocks
        assert "".join(block["reasoning"] for block in blocks if block["type"] == "reasoning") == reasoning


def test_text_is_a_plain_string_and_everything_else_a_standard_block():
    """`chunk.content` of text is what I print; `chunk.content_blocks` has the rest, in order."""
    call = a_call()
    facts: dict[str, Any] = {"call": call, "origin": FIRST}
    image = {"type": "image", "mime_type": "image/png", "size": 3}

    stream = chunks_of(
        [
            a_thought("h", 0),
            a_thought("m", 1),
            TokenEvent("so ", "answer", 0, **facts, **at(3)),
            TokenEvent("far", "answer", 1, **facts, **at(4)),
            a_thought("but", 2, block=1),
            ContentBlock(block=image, **facts, **at(6)),
            ToolCallChunk(index=0, id="tc", name="find", args='{"q"', **facts, **at(7)),
            ToolCallChunk(index=0, id=None, name=None, args=": 1}", **facts, **at(8)),
        ]
    )

    assert [chunk.content for chunk, _ in stream[2:4]] == ["so ", "far"]
    ((_, whole),) = held(stream).items()
    assert whole.text == "so far"
    assert [
        {name: value for name, value in block.items() if name != "index"} for block in whole.content_blocks
    ] == [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "so far"},
        {"type": "reasoning", "reasoning": "but"},
        image,
        {"type": "tool_call", "id": "tc", "name": "find", "args": {"q": 1}},
    ]


def test_metadata_has_the_keys_of_langgraph_and_ours():
    call = a_call(
        step=3,
        agent_name="researcher",
        provider="openai",
        model="gpt",
        tags=("seq:step:1", "public"),
        tool_call_id="tc-1",
        metadata={"tenant": "blue", "langgraph_node": "no node"},
        id="1:0",
    )

    ((_, metadata),) = chunks_of([TokenEvent("a", "answer", 0, call=call, origin=FIRST, **at(1))])

    assert metadata == {
        "langgraph_node": "answer",
        "langgraph_step": 3,
        "lc_agent_name": "researcher",
        "ls_provider": "openai",
        "ls_model_name": "gpt",
        "tags": ["public"],
        "tenant": "blue",
        "path": (),
        "call_id": "1:0",
        "tool_call_id": "tc-1",
        "workflow_id": "wf",
        "workflow_run_id": "run",
        "activity_id": "1",
        "attempt": 1,
        **at(1),
    }


def test_the_first_step_of_the_functional_api_is_nought():
    """What LangGraph says of a chunk is there, also where it says 0."""
    call = a_call(step=0)

    ((_, metadata),) = chunks_of([TokenEvent("a", "answer", 0, call=call, origin=FIRST, **at(1))])

    assert metadata["langgraph_step"] == 0


def test_a_call_that_was_cut_off_is_never_whole():
    """No last chunk, and the metadata say why: half a tool call must not be called."""
    events = [
        a_token("ha", 1),
        CallEnded(call=a_call(run_id="run-a1"), origin=FIRST, unfinished=True, **at(2)),
    ]

    stream = chunks_of(events)

    (whole,) = held(stream).values()
    assert (whole.text, whole.chunk_position) == ("ha", None)
    assert stream[-1][1]["unfinished"] is True


def test_a_call_that_failed_is_taken_back_once():
    """The graph tries again or falls back: the failed half is removed, and a retry removes it no more."""
    events = [
        a_token("ha", 1),
        CallEnded(call=a_call(run_id="run-a1"), origin=FIRST, error="ConnectionError", **at(2)),
        AttemptStarted(origin=SECOND, supersedes=FIRST, **at(3)),
    ]

    stream = chunks_of(events)

    assert held(stream) == {}
    [(removal, metadata)] = [pair for pair in stream if isinstance(pair[0], RemoveMessage)]
    assert removal.id == stream[0][0].id
    assert metadata["error"] == "ConnectionError"


def test_subgraphs_are_shown_if_asked_for():
    """As in LangGraph: what a sub-agent says is not the agent's answer."""
    events = [a_token("inner", 1, path=("sub",), run_id="r1"), a_token("outer", 2, ordinal=1, run_id="r2")]

    assert [chunk.content for chunk, _ in chunks_of(events)] == ["outer"]
    with_them = chunks_of(events, subgraphs=True)
    assert [(chunk.content, facts["path"]) for chunk, facts in with_them] == [
        ("inner", ("sub",)),
        ("outer", ()),
    ]


def test_a_call_whose_start_was_lost_has_an_id_of_its_own():
    """Two calls of which nothing is known are still two messages."""
    unknown = [Call(ordinal=n, node_name="answer") for n in (0, 1)]
    stream = chunks_of(
        [TokenEvent("a", "answer", 0, call=call, origin=FIRST, **at(n)) for n, call in enumerate(unknown)]
    )

    assert len(held(stream)) == 2


# ------------------------------------------------------------------ a retry


def test_a_retry_removes_the_messages_of_the_attempt_that_failed():
    """What the first attempt said is gone from my list, what the second says is there once."""
    events = [
        AttemptStarted(origin=FIRST, **at(0)),
        a_token("half ", 1),
        a_token("other", 2, ordinal=1, run_id="other-a1"),
        a_retry(3),
        a_token("whole", 4, SECOND),
    ]

    stream = chunks_of(events)

    assert [chunk.text for chunk in held(stream).values()] == ["whole"]
    removals = [(chunk.id, facts["cursor"]) for chunk, facts in stream if isinstance(chunk, RemoveMessage)]
    # Whoever stops between the two and goes on from the first one's cursor must get the second again.
    assert removals == [("lc_run--run-a1", at(2)["cursor"]), ("lc_run--other-a1", at(3)["cursor"])]


def test_a_retry_of_an_attempt_that_said_nothing_removes_nothing():
    """LangGraph's state refuses to remove what it never had."""
    events = [AttemptStarted(origin=FIRST, **at(0)), CallStarted(call=a_call(), origin=FIRST), a_retry(3)]

    assert chunks_of(events) == []


def test_a_workflow_reset_removes_what_the_run_before_said():
    """The run that does it again takes back what I have of the one before."""
    again = an_origin(run_id="run2", attempt_id="b1", started=9)
    events = [
        AttemptStarted(origin=FIRST, **at(0)),
        a_token("first", 1),
        RunContinued(run_id="run2", cursor=str(Cursor("run2"))),
        AttemptStarted(origin=again, supersedes=FIRST, cursor=str(Cursor("run2", "001"))),
        a_token("second", 2, again),
    ]

    assert [chunk.text for chunk in held(chunks_of(events)).values()] == ["second"]


async def said(*events: Event):
    for event in events:
        yield event


async def batches_of(events: tuple[Event, ...]):
    """As a run's stream has them: in lists."""
    yield list(events)


async def read(*events: Event, earlier: tuple[Event, ...] = (), cursor: str | None = None):
    """What a loop gets, and the error that ends it."""
    asked: list[Origin] = []

    def past(origin: Origin):
        asked.append(origin)
        return batches_of(earlier)

    got: list[Message] = []
    try:
        async for message in messages(said(*events), past, cursor=cursor):
            got.append(message)  # noqa: PERF401 - what came before an error counts
    except TokenStreamError as error:
        return got, error, asked
    return got, None, asked


async def test_a_reader_that_resumes_removes_what_the_reader_before_it_showed():
    """I reloaded the page in mid-answer; then the worker died. The old half goes away all the same."""
    other = a_token("of another activity", 2, replace(FIRST, activity_id="2", attempt_id="c1"))
    earlier = (AttemptStarted(origin=FIRST, **at(0)), a_token("ha", 1), other, a_token("lf", 2))
    rest = (a_retry(5), a_token("whole", 6, SECOND))

    got, _, asked = await read(*rest, earlier=earlier, cursor=at(2)["cursor"])

    assert [chunk.id for chunk, _ in got] == ["lc_run--run-a1", "lc_run--run-a2"]
    assert isinstance(got[0][0], RemoveMessage)
    assert asked == [FIRST]


async def test_an_empty_cursor_is_the_start():
    """As for `subscribe`: what a viewer keeps its place in may still be empty."""
    got, _, _ = await read(a_token("ha"), cursor="")

    assert [chunk.text for chunk, _ in got if isinstance(chunk, AIMessageChunk)] == ["ha"]


async def test_the_past_is_not_asked_for_what_was_seen():
    """Reading from the start costs nothing more; and an attempt after the cursor was seen whole."""
    events = (AttemptStarted(origin=FIRST, **at(3)), a_token("ha", 4), a_retry(5))

    assert (await read(*events))[2] == []
    assert (await read(*events, cursor=at(2)["cursor"]))[2] == []


# ------------------------------------------------------------------ what is missing, and the end


def a_gap(**facts: Any) -> Gap:
    return Gap(**({"missing": 2, "reason": "overflow", "origin": FIRST} | at(2) | facts))


async def test_a_gap_is_told_in_its_place_and_at_the_end():
    """A hole in an answer is a chunk that says so; and my loop does not end as if all were well."""
    gap = a_gap(call=a_call(run_id="run-a1"))
    end = StreamEnded(status="completed", **at(9))

    got, error, _ = await read(a_token("a", 1), gap, a_token("c", 3), end)

    assert [(chunk.content, facts.get("gap")) for chunk, facts in got] == [
        ("a", None),
        ("", gap),
        ("c", None),
    ]
    assert len({chunk.id for chunk, _ in got}) == 1
    assert isinstance(error, TokensMissing)
    assert (error.reasons, error.cursor) == (("overflow",), at(9)["cursor"])


@pytest.mark.parametrize("facts", [{"origin": None}, {"call": None}])
def test_a_gap_of_nobody_knows_what_can_be_filtered_as_any_chunk(facts):
    """`metadata["langgraph_node"]` is always there."""
    ((chunk, metadata),) = chunks_of([a_gap(**facts)])

    assert (chunk.content, chunk.id) == ("", None)
    assert metadata["langgraph_node"] == (
        "answer" if metadata["gap"].origin else ""
    )  # the activity's type, if known


async def test_what_a_superseded_attempt_missed_is_not_missing():
    got, error, _ = await read(
        AttemptStarted(origin=FIRST, **at(0)),
        a_gap(),
        a_retry(3),
        a_token("whole", 4, SECOND),
        StreamEnded(status="completed", **at(9)),
    )

    assert error is None
    assert got[-1][0].content == "whole"


async def test_a_gap_within_a_subgraph_that_is_not_shown_is_not_told():
    got, error, _ = await read(a_gap(call=a_call(path=("sub",))), StreamEnded(status="completed"))

    assert (got, error) == ([], None)


@pytest.mark.parametrize("status", ["failed", "canceled", "terminated", "timed_out"])
async def test_a_workflow_that_did_not_complete_ends_the_loop_with_an_error(status):
    """As `astream` raises what the graph raised; here with Temporal's word, after all that was said."""
    got, error, _ = await read(a_token("half"), a_gap(), StreamEnded(status=status, **at(9)))

    assert got[0][0].content == "half"
    assert isinstance(error, WorkflowNotCompleted)
    assert (error.status, error.cursor) == (status, at(9)["cursor"])
    assert status in str(error)


@pytest.mark.parametrize("status", ["completed", "unknown"])
async def test_a_loop_over_all_that_was_said_ends_in_peace(status):
    """`unknown`: without Temporal I said myself when it is enough."""
    assert (await read(a_token("all"), StreamEnded(status=status)))[1] is None


@pytest.mark.parametrize("error", [WorkflowNotCompleted("failed", "c"), TokensMissing(("lost",), "c")])
def test_the_errors_survive_a_process_border(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (str(again), vars(again)) == (str(error), vars(error))


def test_a_stream_without_end_keeps_what_two_runs_said_and_no_more():
    """A workflow that continues as new for years costs its reader nothing more each time."""
    view, sizes = Chunks(), []
    for run in range(10, 60):
        origin = replace(FIRST, run_id=f"r{run}", attempt_id=f"a{run}")
        view.read(AttemptStarted(origin=origin))
        for ordinal in range(3):
            view.read(a_token("x", 1, origin, ordinal=ordinal))
        sizes.append(len(pickle.dumps(view)))
        view.read(RunContinued(run_id=f"r{run + 1}"))

    assert sizes[1:] == [sizes[1]] * 49


def test_of_many_gaps_the_last_hundred_are_named():
    view = Chunks()
    for _ in range(150):
        view.read(a_gap())

    with pytest.raises(TokensMissing) as missing:
        view.end()
    assert len(missing.value.reasons) == 100
