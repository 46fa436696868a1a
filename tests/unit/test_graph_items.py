"""`astream`'s items: what is an update, what stands beside, and what entries of others can do to them."""

import json
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage

from temporal_token_interceptor import (
    AttemptStarted,
    ConfigurationError,
    CustomEvent,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    StreamEnded,
    TokensMissing,
)
from temporal_token_interceptor.capture.json_values import json_values
from temporal_token_interceptor.views.graph_items import Items
from temporal_token_interceptor.views.graph_values import update_of, with_messages
from temporal_token_interceptor.views.stream_modes import Choice, StreamMode
from tests.support.frames import a_call, an_origin
from tests.support.projected import a_stream

FIRST, SECOND = an_origin(attempt=1), an_origin(attempt=2, attempt_id="b" * 16)
MESSAGES = {
    "human": HumanMessage("hi", id="1"),
    "with a tool call": AIMessage(
        "", tool_calls=[{"name": "search", "args": {"q": [1]}, "id": "tc"}], name="agent"
    ),
    "of blocks": AIMessage(
        [{"type": "reasoning", "reasoning": "hm"}], usage_metadata=None, response_metadata={"a": 1}
    ),
    "of a tool": ToolMessage("found", tool_call_id="tc", status="error", artifact={"rows": [1]}),
    "a chunk": AIMessageChunk("half", chunk_position="last"),
}


def items(*events: Any, stream_mode: Any = "updates", subgraphs: bool = False) -> list[Any]:
    choice = Choice.of(stream_mode, subgraphs=subgraphs)
    reading = Items(choice)
    return [choice.shaped(item) for event in events for item in reading.read(event)]


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_comes_back_as_it_was(message):
    """What the worker sends of a message is that message again, in any place of a state."""
    sent = json.loads(json.dumps(json_values({"messages": [message], "deep": {"one": message}})))

    assert with_messages(sent) == {"messages": [message], "deep": {"one": message}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=8,
)
LIKE_A_MESSAGE = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ai", "human", "tool", "remove", "AIMessageChunk", "later"]) | JSON,
        "content": JSON,
        "additional_kwargs": JSON,
        "response_metadata": JSON,
    },
    optional=dict.fromkeys(("id", "name", "tool_calls", "usage_metadata", "tool_call_id", "self"), JSON),
)


@given(st.lists(LIKE_A_MESSAGE | JSON, max_size=3))
def test_what_is_no_message_of_this_langchain_stays_as_it_is(value):
    """An entry may be written by others, or by a LangChain to come: nothing in it raises."""
    for part, given_part in zip(with_messages(value), value, strict=True):
        assert isinstance(part, BaseMessage) or type(part) is type(given_part)


def test_what_is_too_deep_stays_as_it_is():
    value: Any = []
    for _ in range(900):
        value = [value]

    assert json.dumps(with_messages(value)) == json.dumps(value)


COMMAND = {"graph": None, "update": {"a": 1}, "resume": None, "goto": "end"}


@pytest.mark.parametrize(
    ("output", "update"),
    [
        ({"a": 1}, {"a": 1}),
        (COMMAND, {"a": 1}),
        ([COMMAND, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ([COMMAND], {"a": 1}),
        ([COMMAND, None], {"a": 1}),
        ([{**COMMAND, "update": None}], None),
        ([1, 2], [1, 2]),
        ("text", "text"),
    ],
)
def test_the_update_of_a_command_is_what_it_updates(output, update):
    assert update_of(output) == update


# ------------------------------------------------------------------ events


def test_a_node_whose_graph_sends_its_updates_is_not_said_twice():
    plain = NodeEnded(node_name="a", run_id="1", output={"x": 1}, origin=FIRST)
    forwarded = NodeEnded(node_name="b", run_id="2", output={"x": 2}, forwarded=True, origin=FIRST)
    update = GraphEvent(mode="updates", data={"b": {"x": 2}}, origin=FIRST)

    assert items(plain, forwarded, update) == [{"a": {"x": 1}}, {"b": {"x": 2}}]
    custom = CustomEvent(name="n", data=1, origin=FIRST)
    hidden = CustomEvent(name="n", data=2, forwarded=True, origin=FIRST)
    assert items(custom, hidden, stream_mode="custom") == [{"name": "n", "data": 1}]


def test_the_namespace_has_the_tasks_around():
    around = NodeStarted(node_name="sub", run_id="1", task_id="t1", origin=FIRST)
    inner: Any = {"node_name": "in", "run_id": "2", "path": ("sub",), "node_run_id": "1", "origin": FIRST}
    ended = NodeEnded(output={}, **inner)

    assert items(around, NodeStarted(**inner), ended, subgraphs=True) == [(("sub:t1",), {"in": {}})]
    assert items(around, NodeStarted(**inner), ended) == []


@pytest.mark.parametrize("mode", ["values", "updates", "custom", "tasks", "checkpoints", "debug"])
def test_a_retry_and_a_gap_stand_in_each_mode(mode):
    retried = AttemptStarted(origin=SECOND, supersedes=FIRST)
    beside = items(retried, Gap(missing=3, reason="lost", origin=FIRST), stream_mode=[mode, "messages"])

    assert [one for one in beside if one[0] == mode] == [
        (mode, {"__retry__": {"activity_id": "1", "activity_type": SECOND.activity_type, "attempt": 2}}),
        (mode, {"__gap__": {"reason": "lost", "missing": 3}}),
    ]
    assert [chunk[1]["gap"].missing for name, chunk in beside if name == "messages"] == [3]


@pytest.mark.parametrize(("stream_mode", "misses"), [("values", False), (["values", "messages"], True)])
def test_missing_words_of_a_call_matter_to_readers_of_messages_alone(stream_mode, misses):
    reading = Items(Choice.of(stream_mode, subgraphs=False))
    gap = Gap(missing=3, reason="overflow", call=a_call(), origin=FIRST)
    for event in (GraphEvent(mode="values", origin=FIRST), gap, StreamEnded(status="completed")):
        reading.read(event)

    if misses:
        with pytest.raises(TokensMissing):
            reading.end(is_whole=True)
    else:
        reading.end(is_whole=True)


def test_a_reader_that_began_later_or_left_early_does_not_complain_of_a_mode():
    reading = Items(Choice.of("values", subgraphs=False))
    reading.read(NodeStarted(node_name="a", run_id="1", origin=FIRST))
    reading.read(StreamEnded(status="unknown"))
    reading.end(is_whole=True)
    reading.read(StreamEnded(status="completed"))

    reading.end(is_whole=False)
    with pytest.raises(ConfigurationError, match="values"):
        reading.end(is_whole=True)


def test_a_graph_that_interrupts_at_once_misses_no_updates():
    reading = Items(Choice.of("updates", subgraphs=False))
    reading.read(NodeStarted(node_name="ask", run_id="1", origin=FIRST))
    reading.read(NodeEnded(node_name="ask", run_id="1", interrupted=True, origin=FIRST))
    reading.read(StreamEnded(status="completed"))

    reading.end(is_whole=True)


@pytest.mark.parametrize("seed", range(20))
def test_each_item_stands_where_its_event_does(seed):
    """Of any stream: an event's last item has its cursor, the others that of the event before."""
    choice = Choice.of([*get_args(StreamMode)], subgraphs=True)
    reading, before = Items(choice), ""
    for event in a_stream(Random(seed)):
        made = reading.read(event)
        assert [item.cursor for item in made] == [before] * (len(made) - 1) + [event.cursor] * bool(made)
        assert {item.origin for item in made} <= {event.origin}
        before = event.cursor or before


def test_where_no_graph_ran_no_mode_is_missed():
    reading = Items(Choice.of(["values", "updates", "checkpoints"], subgraphs=False))
    reading.read(StreamEnded(status="completed"))

    reading.end(is_whole=True)
