"""`protocol_events`: LangGraph's envelope, numbered; and what a reader that resumes gets."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.stream import ProtocolEvent

from temporal_token_interceptor import (
    ConfigurationError,
    InvalidCursor,
    MemoryStreamBackend,
    TokensMissing,
    TokenSubscriber,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    RetrieverStarted,
    StreamEnded,
    TokenEvent,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.protocol_events import ProtocolEvents
from temporal_token_interceptor.views.protocol_stream import EventId, protocol_events
from tests.support.frames import a_call, an_origin
from tests.support.projected import a_stream

FIRST = an_origin(attempt_id="a1")
SECOND = an_origin(attempt=2, attempt_id="a2", started=5)

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def read(events: Sequence[Event], *, cursor: str | None = None, since: int | None = None) -> list[Any]:
    """What a reader gets of a stream that holds these events, from its start or resumed."""
    after = None if cursor is None else EventId.parse(cursor)

    async def live():
        begin = 0
        if after is not None and after.cursor:
            places = [place for place, event in enumerate(events) if event.cursor == after.cursor]
            begin = places[-1] + 1
        for event in events[begin:]:
            yield event

    async def past(run_id: str):
        yield [event for event in events if Cursor.parse(event.cursor).run_id == run_id]

    async def all_of_it() -> list[Any]:
        got = []
        try:
            async for event in protocol_events(live(), past, after=after, since=since):
                got.append(event)  # noqa: PERF401 - what came before the error counts
        except (TokensMissing, WorkflowNotCompleted):
            pass  # as the stream ends
        return got

    return asyncio.run(all_of_it())


def made_of(*events: Event) -> list[tuple[str, list[str], Any]]:
    """The method, namespace and data of what some events add."""
    protocol = ProtocolEvents()
    made = [one for event in events for one in protocol.read(event)]
    return [(one["method"], one["params"]["namespace"], one["params"]["data"]) for one in made]


# ---------------------------------------------------------------------- numbers


@slow
@given(seed=st.integers(0, 2**32))
def test_numbers_grow_and_the_envelope_is_langgraphs(seed):
    """Each event has the members that LangGraph's type requires, and a number above the one before."""
    made = read(a_stream(Random(seed)))

    numbers = [event["seq"] for event in made]
    assert all(before < after for before, after in pairwise(numbers))
    assert all(number < 2**53 for number in numbers)
    assert len({event["event_id"] for event in made}) == len(made)
    assert all(event.keys() == ProtocolEvent.__annotations__.keys() for event in made)
    assert all({"namespace", "timestamp", "data"} <= event["params"].keys() for event in made)


@slow
@given(seed=st.integers(0, 2**32), place=st.integers(0, 10**6))
def test_a_reader_that_resumes_gets_exactly_the_rest(seed, place):
    """By the id, or by the number, of any event: in the middle of what one of our events says, too."""
    random = Random(seed)
    two = {"messages": [AIMessage("a").model_dump(), HumanMessage("b").model_dump()]}
    events = [
        replace(event, output=two) if isinstance(event, NodeEnded) else event for event in a_stream(random)
    ]
    whole = read(events)
    if not whole:
        return
    last = whole[place % len(whole)]
    rest = whole[place % len(whole) + 1 :]

    assert read(events, cursor=last["event_id"]) == rest
    assert read(events, since=last["seq"]) == rest


@slow
@given(seed=st.integers(0, 2**32), place=st.integers(0, 10**6))
def test_numbers_survive_that_the_stream_is_trimmed(seed, place):
    """What is left has a number of the same millisecond as it had, from the first whole one on."""
    events = a_stream(Random(seed))
    if not events:
        return
    left = events[place % len(events) :]
    before, after = numbers_of_ours(read(events)), numbers_of_ours(read(left))

    shared = millisecond(left[0].cursor)
    later = [cursor for cursor in after if millisecond(cursor) != shared]
    assert [after[cursor] >> 12 for cursor in later] == [before[cursor] >> 12 for cursor in later]


def numbers_of_ours(made: list[Any]) -> dict[str, int]:
    """The numbers of the events that are one for one of ours, by its cursor."""
    return {one["params"]["data"]["cursor"]: one["seq"] for one in made if one["method"] == "custom:temporal"}


def millisecond(cursor: str) -> str:
    return Cursor.parse(cursor).entry.partition("-")[0]


def test_a_place_that_is_not_stored_any_more_is_gone_on_from():
    """The message that goes on behind it begins again, and the numbers go on."""
    (first,) = read([a_token("a", 1)])[-1:]

    async def live():
        yield a_token("b", 2)

    async def past(run_id: str):
        yield []

    async def resumed() -> list[Any]:
        after = EventId.parse(first["event_id"])
        return [one async for one in protocol_events(live(), past, after=after, since=None)]

    made = asyncio.run(resumed())
    assert [one["params"]["data"][0]["event"] for one in made] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
    ]
    assert made[0]["seq"] > first["seq"]


def at(place: int) -> dict[str, str]:
    return {"cursor": str(Cursor("run", f"{1_763_640_000_000 + place}-0", 2))}


def a_token(text: str, place: int = 0, origin: Any = FIRST, **call: Any) -> TokenEvent:
    return TokenEvent(text, "answer", place, call=a_call(**call), origin=origin, **at(place))


# ---------------------------------------------------------------------- what is said


def test_a_message_is_langchains_events_beside_its_metadata():
    """As LangGraph's `messages`: a pair, with the run's id in the metadata."""
    call = a_call(run_id="lc", model="gpt", provider="openai")
    end = CallEnded(
        call=call, usage={"input_tokens": 1, "output_tokens": 2}, finish_reason="stop", origin=FIRST
    )
    made = made_of(
        CallStarted(call=call, origin=FIRST), a_token("It is", model="gpt", provider="openai"), end
    )

    assert [method for method, _, _ in made] == ["messages"] * 5
    assert [data[0] for _, _, data in made] == [
        {
            "event": "message-start",
            "role": "ai",
            "id": "lc_run--lc",
            "metadata": {"provider": "openai", "model": "gpt", "run_id": "lc"},
        },
        {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "It is"}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "It is"}},
        {
            "event": "message-finish",
            "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            "metadata": {"finish_reason": "stop"},
        },
    ]
    assert {data[1]["run_id"] for _, _, data in made} == {"lc"}
    assert {data[1]["langgraph_node"] for _, _, data in made} == {"answer"}


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (CallEnded(call=a_call(), error="ValueError", origin=FIRST), ("failed", "ValueError")),
        (CallEnded(call=a_call(), unfinished=True, origin=FIRST), ("unfinished", "unfinished")),
        (AttemptStarted(origin=SECOND, supersedes=FIRST), ("superseded", "superseded")),
        (StreamEnded(status="terminated"), ("unfinished", "unfinished")),
    ],
)
def test_a_message_that_has_no_end_ends_with_an_error(end, error):
    made = made_of(a_token("half"), end)

    [(said, _)] = [data for method, _, data in made if method == "messages" and data[0]["event"] == "error"]
    assert (said["code"], said["message"]) == error


def test_a_message_with_a_hole_ends_with_an_error():
    gap = Gap(missing=1, reason="overflow", origin=FIRST)
    made = made_of(a_token("a"), gap, a_token("c"), CallEnded(call=a_call(), origin=FIRST))

    assert made[-1][2][0] == {"event": "error", "message": "overflow", "code": "missing"}


def test_tools_are_langgraphs_events():
    """The input is an object where it was one; a tool that asks a human has not ended."""
    facts: dict[str, Any] = {"name": "weather", "run_id": "r", "tool_call_id": "tc", "origin": FIRST}
    start = ToolStarted(**facts, input='{"city": "Rome"}')
    ends = [
        ToolEnded(**facts, output="sun"),
        ToolEnded(**facts, error="ValueError"),
        ToolEnded(**facts, unfinished=True),
        ToolEnded(**facts, interrupted=True),
    ]

    assert [data for _, _, data in made_of(start, *ends)] == [
        {"event": "tool-started", "tool_call_id": "tc", "tool_name": "weather", "input": {"city": "Rome"}},
        {"event": "tool-finished", "tool_call_id": "tc", "output": "sun"},
        {"event": "tool-error", "tool_call_id": "tc", "message": "ValueError"},
        {"event": "tool-error", "tool_call_id": "tc", "message": "unfinished"},
    ]


def a_node(name: str, run: str, **facts: Any) -> Any:
    return NodeStarted(node_name=name, run_id=run, task_id=f"t-{run}", origin=FIRST, **facts)


def its_end(started: NodeStarted, **facts: Any) -> NodeEnded:
    same = {
        name: getattr(started, name) for name in ("node_name", "run_id", "task_id", "path", "node_run_id")
    }
    return NodeEnded(**same, origin=FIRST, **facts)


def test_a_subgraph_has_its_namespace_and_its_lifecycle():
    """Of two levels: the ids of the tasks stand in the nodes around; the end comes with the node's."""
    outer = a_node("outer", "1")
    inner = a_node("inner", "2", path=("outer",), node_run_id="1")
    leaf = a_node("leaf", "3", path=("outer", "inner"), node_run_id="2")
    call = a_call(node_name="leaf", path=("outer", "inner"), node_run_id="3")
    made = made_of(
        outer, inner, leaf, CallStarted(call=call, origin=FIRST), *map(its_end, (leaf, inner)),
        its_end(outer, error="ValueError"),
    )  # fmt: skip

    deep = ["outer:t-1", "inner:t-2"]
    assert [(method, namespace) for method, namespace, _ in made if method == "messages"] == [
        ("messages", deep)
    ]
    assert [data for method, _, data in made if method == "lifecycle"] == [
        {"event": "started", "namespace": deep[:1], "graph_name": "outer", "trigger_call_id": "t-1"},
        {"event": "started", "namespace": deep, "graph_name": "inner", "trigger_call_id": "t-2"},
        {"event": "completed", "namespace": deep},
        {"event": "failed", "namespace": deep[:1], "error": "ValueError"},
    ]


def test_an_agent_that_a_tool_call_runs_names_it():
    """As LangGraph has it: what is no agent has the name of its node, and no cause."""
    tools = a_node("tools", "1")
    tool = ToolStarted(
        node_name="tools", node_run_id="1", name="ask", run_id="r", tool_call_id="tc", origin=FIRST
    )
    model = a_node("model", "2", path=("tools",), node_run_id="1", agent_name="clerk")
    call = CallStarted(call=replace(a_call(path=("tools",)), agent_name="clerk"), origin=FIRST)
    task = GraphEvent(
        mode="tasks", path=("tools:1",), data={"metadata": {"lc_agent_name": "clerk"}}, origin=FIRST
    )

    def begun(*events: Event) -> Any:
        return next(data for method, _, data in made_of(*events) if method == "lifecycle")

    named = begun(tools, tool, model)
    assert named["graph_name"] == "clerk"
    assert named["cause"] == {"type": "toolCall", "tool_call_id": "tc"}
    plain = begun(tools, tool, replace(model, agent_name=None))
    assert (plain["graph_name"], plain.get("cause")) == ("tools", None)
    assert [begun(one)["graph_name"] for one in (call, task)] == ["clerk", "clerk"]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (AttemptStarted(origin=SECOND, supersedes=FIRST), "superseded"),
        (AttemptEnded(origin=FIRST, outcome="timed_out"), "timed_out"),
        (StreamEnded(status="terminated"), "unfinished"),
    ],
)
def test_a_subgraph_ends_with_its_attempt(end, status):
    """Also where its node has no end, because its worker is gone."""
    inner = a_node("model", "2", path=("sub",))

    *_, ended = [data for method, _, data in made_of(inner, end) if method == "lifecycle"]
    assert ended == {"event": "failed", "namespace": ["sub"], "error": status}


def test_a_subgraph_completes_with_its_attempt_where_nodes_are_not_captured():
    """A worker with `kinds` that leave nodes out: the subgraph is seen by what is said in it."""
    call = a_call(path=("sub",))
    end = AttemptEnded(origin=FIRST, outcome="completed_provisional")

    made = made_of(CallStarted(call=call, origin=FIRST), end)
    assert [data for method, _, data in made if method == "lifecycle"] == [
        {"event": "started", "namespace": ["sub"], "graph_name": "sub"},
        {"event": "completed", "namespace": ["sub"]},
    ]


def test_stream_modes_and_custom_events_are_what_the_graph_says():
    values = GraphEvent(mode="values", path=("sub:t",), data={"n": 1}, origin=FIRST)
    custom = CustomEvent(name="progress", data=1, origin=FIRST)

    assert made_of(values, custom)[-2:] == [
        ("values", ["sub:t"], {"n": 1}),
        ("custom", [], {"name": "progress", "payload": 1}),
    ]


def test_what_a_node_returns_is_an_update_unless_its_graph_sends_its_own():
    node = a_node("agent", "1")
    own = GraphEvent(mode="updates", data={"agent": {"n": 1}}, origin=FIRST)

    update = ("updates", [], {"agent": {"n": 1}})
    assert made_of(node, its_end(node, output={"n": 1})) == [update]
    assert made_of(node, its_end(node, output={"n": 1}, forwarded=True), own) == [update]


def test_a_message_that_a_node_returned_is_there_whole():
    """As in LangGraph: before its graph has ended; none of a tool, and none that was there already."""
    sub = a_node("sub", "1")
    leaf = a_node("leaf", "2", path=("sub",), node_run_id="1")
    messages = [AIMessage("new"), ToolMessage("found", tool_call_id="t"), HumanMessage("old", id="m")]
    output = {"messages": [message.model_dump() for message in messages]}
    ids = {"made_ids": ("made", "tool"), "known_inner_ids": ("m",)}
    made = made_of(sub, leaf, its_end(leaf, output=output, **ids), its_end(sub))

    assert [(method, namespace) for method, namespace, _ in made] == [
        ("lifecycle", []),
        ("messages", ["sub:t-1"]),
        ("updates", ["sub:t-1"]),
        ("lifecycle", []),
    ]
    message, metadata = made[1][2]
    assert message == AIMessage("new", id="made")
    assert metadata["langgraph_node"] == "leaf"
    assert "run_id" not in metadata, "it is no run of a model"


def test_an_update_is_what_langgraph_makes_of_an_output():
    """Of a `Command` its update; what was too long says so; the start of a graph returns nothing."""
    command = {"graph": None, "update": {"n": 1}, "resume": None, "goto": []}
    outputs = [{"output": command}, {"output": [command, None]}, {"truncated": True}]
    made = [made_of(its_end(a_node("agent", "1"), **facts))[0][2] for facts in outputs]

    assert made == [{"agent": {"n": 1}}, {"agent": {"n": 1}}, {"agent": {"__truncated__": True}}]
    assert made_of(its_end(a_node("__start__", "1"), output={"n": 0})) == []
    assert made_of(GraphEvent(mode="values", truncated=True, origin=FIRST)) == [
        ("values", [], {"__truncated__": True})
    ]


def test_what_is_dispatched_is_not_in_the_custom_mode_that_a_graph_forwards():
    """There it is none in process either; it is an event of ours then."""
    event = CustomEvent(name="progress", data=1, forwarded=True, origin=FIRST)

    assert made_of(event) == [("custom:temporal", [], event.to_json())]


def test_what_langgraph_has_no_method_for_is_ours():
    """An event's JSON, under a name that its clients ignore unless they ask for it."""
    events = [
        AttemptStarted(origin=FIRST),
        Gap(missing=1, reason="lost", origin=FIRST),
        RetrieverStarted(name="shelf", origin=FIRST),
        StreamEnded(status="completed"),
    ]

    assert made_of(*events) == [("custom:temporal", [], event.to_json()) for event in events]


def test_an_argument_that_cannot_be_used_is_refused_at_once():
    subscriber = TokenSubscriber(None, MemoryStreamBackend())
    with pytest.raises(ConfigurationError, match="not by both"):
        subscriber.protocol_events("wf", cursor=at(1)["cursor"], since=1)
    for text in ("nonsense", "p1.2.nonsense"):
        with pytest.raises(InvalidCursor):
            subscriber.protocol_events("wf", cursor=text)
