"""A message that came whole, as events: LangChain's stream of a call makes the same message of them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models._compat_bridge import message_to_events  # no public name; see below
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from temporal_token_interceptor.views.replayed_message import replayed
from tests.unit.test_content_blocks import KINDS, USAGE

OWN: list[Any] = [  # of providers, and of LangChain's first version
    {"type": "tool_use", "id": "tu", "name": "f", "input": {}},
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "image_url", "image_url": {"url": "https://x.org/y.png"}},
    {"type": "text", "text": "x", "index": 7, "id": "t"},
    {"type": "odd", "value": {"data": "AAAA"}},
    {"type": "server_tool_call_chunk", "name": "f", "id": "st", "args": '{"q": 1}'},
    {"type": "server_tool_call_chunk", "name": "f", "id": "st", "args": None},
    "a text alone",
]
# Not half a server's call: the error of an invalid one is ours.
blocks = st.sampled_from(
    [part for name, parts in KINDS.items() if "pieces" not in name for part in parts] + OWN
)
texts = st.text(max_size=5)
calls = st.builds(lambda name, args: {"name": name, "args": args, "id": name}, texts, st.just({"q": [1]}))
broken = st.builds(lambda name, error: {"name": name, "args": "{", "id": None, "error": error}, texts, texts)
facts = st.fixed_dictionaries(
    {},
    optional={
        "finish_reason": texts,
        "model_name": texts,
        "model_provider": st.sampled_from(["openai", "anthropic", "google_genai", "kettle"]),
        "output_version": st.sampled_from(["v0", "v1"]),
    },
)
answers = st.builds(
    AIMessage,
    content=texts | st.lists(blocks, max_size=4),
    id=st.just("m"),
    tool_calls=st.lists(calls, max_size=2),
    invalid_tool_calls=st.lists(broken, max_size=2),
    usage_metadata=st.sampled_from([None, USAGE]),
    response_metadata=facts,
    additional_kwargs=st.sampled_from([{}, {"own": 1}]),
)
others = st.builds(
    lambda kind, content: kind(content=content, id="m"),
    st.sampled_from([HumanMessage, SystemMessage]),
    texts | st.lists(blocks, max_size=4),
)


def folded(events: Any) -> tuple[Any, ...]:
    """What LangChain's stream of a call comes to."""
    stream = ChatModelStream(message_id="m")
    for event in events:
        stream.dispatch(event)
    made_up = r"lc_[0-9a-f-]{36}"  # LangChain's id for a block without one
    output = json.loads(re.sub(made_up, "lc_", stream.output.model_dump_json()))
    return output, list(stream.text), list(stream.reasoning), list(stream.tool_calls), stream.done


@settings(max_examples=300, deadline=None)
@given(message=answers | others)
def test_a_message_is_what_langgraphs_run_object_makes_of_it(message: BaseMessage):
    """LangGraph replays by a function of LangChain's that is private, so we have one of our own."""
    here, *ours = folded(replayed(message))
    there, *theirs = folded(message_to_events(message, message_id="m"))

    assert (known(here), ours) == (known(there), theirs)


def known(message: dict[str, Any]) -> dict[str, Any]:
    """A message without blocks of a provider's own: LangChain's stream leaves out some of them."""
    own = {block["type"] for block in OWN if isinstance(block, dict)}
    content = [
        block
        for block in message["content"]
        if isinstance(block, str) or block.get("value", {}).get("type") not in own
    ]
    return {**message, "content": content}


@pytest.mark.parametrize(
    "message", [ToolMessage("t", tool_call_id="tc", id="m"), AIMessageChunk("c", id="m"), {"event": "x"}]
)
def test_what_is_no_handle_there_is_none_here(message: object):
    assert replayed(message) is None


@pytest.mark.parametrize("type_", ["text-plain", "refusal"])
def test_a_block_that_langchains_stream_leaves_out_is_one_here(type_: str):
    """As of a call of a model."""
    block = {"type": type_, type_: "no"}
    message = AIMessage([block], id="m", response_metadata={"output_version": "v1"})

    assert folded(message_to_events(message))[0]["content"] == ""
    assert folded(replayed(message))[0]["content"] == [{"type": "non_standard", "value": block, "index": 0}]


def test_half_a_call_of_a_servers_tool_is_an_invalid_one():
    message = AIMessage(KINDS["a server's tool in pieces"][:1], id="m")
    [call] = folded(replayed(message))[0]["invalid_tool_calls"]

    assert (call["id"], call["name"], call["args"]) == ("s1", "web_search", '{"q"')


def test_a_removal_is_an_empty_message():
    """As in LangGraph: of what removes all, too."""
    message = RemoveMessage(id="__remove_all__")
    assert folded(replayed(message)) == folded(message_to_events(message))
    assert folded(replayed(message))[0]["content"] == ""
