"""A call of the run object has all kinds of LangChain's blocks, and is the message that its model returned.

What differs is listed here and in docs/langgraph.md: the `index` of blocks, the reason why a tool call is
invalid, and `response_metadata`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from temporal_token_interceptor import CallNotCompleted, ModelCall
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.filters import Selection
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import StreamEnded
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.views.call_metadata import Source
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.support.answers import read_back
from tests.support.frames import a_call, an_origin

USAGE = {
    "input_tokens": 1,
    "output_tokens": 2,
    "total_tokens": 3,
    "input_token_details": {"cache_read": 1},
    "output_token_details": {"reasoning": 1},
}
CITATION = {"type": "citation", "url": "https://x.org", "title": "t", "cited_text": "x", "start_index": 0}

KINDS: dict[str, list[dict[str, Any]]] = {
    "text": [{"type": "text", "text": "It "}, {"type": "text", "text": "is"}],
    "text with an id": [{"type": "text", "text": "It ", "id": "t1"}, {"type": "text", "text": "is"}],
    "citations": [
        {"type": "text", "text": "It is"},
        {"type": "text", "text": "", "annotations": [CITATION]},
    ],
    "an annotation of a provider's own": [
        {
            "type": "text",
            "text": "It is",
            "annotations": [{"type": "non_standard_annotation", "value": {"a": 1}}],
        },
    ],
    "reasoning": [{"type": "reasoning", "reasoning": "hm"}, {"type": "reasoning", "reasoning": ", so"}],
    "reasoning with a signature": [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "reasoning", "reasoning": "", "extras": {"signature": "s"}},
    ],
    "reasoning with an id": [{"type": "reasoning", "reasoning": "hm", "id": "rs_1"}],
    "an image": [{"type": "image", "base64": "AAAA", "mime_type": "image/png", "id": "i1"}],
    "an image elsewhere": [{"type": "image", "url": "https://x.org/y.png", "extras": {"a": 1}}],
    "audio": [{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}],
    "video": [{"type": "video", "url": "https://x.org/y.mp4", "mime_type": "video/mp4"}],
    "a file": [{"type": "file", "base64": "AAAA", "mime_type": "application/pdf"}],
    "a file of the provider": [{"type": "file", "file_id": "f-1"}],
    "a server's tool in pieces": [
        {"type": "server_tool_call_chunk", "name": "web_search", "id": "s1", "args": '{"q"'},
        {"type": "server_tool_call_chunk", "args": ": 1}"},
    ],
    "a server's tool": [{"type": "server_tool_call", "name": "run", "id": "s2", "args": {"code": "1"}}],
    "a server's result": [
        {"type": "server_tool_result", "tool_call_id": "s2", "status": "success", "output": [1]}
    ],
    "a block of a provider's own": [{"type": "non_standard", "value": {"type": "odd", "x": 1}}],
}


def as_chunks(names: Sequence[str]) -> list[AIMessageChunk]:
    """The chunks of a message with these blocks, as a provider with LangChain's v1 content sends them."""
    return [
        AIMessageChunk(content=[part_of(part, index)], response_metadata={"output_version": "v1"})
        for index, name in enumerate(names)
        for part in KINDS[name]
    ]


def part_of(part: dict[str, Any], index: int) -> dict[str, Any]:
    """A part of the block at a place; no id comes twice in a message."""
    own = {"id": f"{part['id']}-{index}"} if "id" in part else {}
    return {**part, **own, "index": index}


def tool_call(number: int, *args: str) -> list[AIMessageChunk]:
    names = [("search", f"tc-{number}"), *[(None, None)] * (len(args) - 1)]
    chunks = [
        tool_call_chunk(name=name, id=id_, args=part, index=number)
        for part, (name, id_) in zip(args, names, strict=True)
    ]
    return [AIMessageChunk(content="", tool_call_chunks=[chunk]) for chunk in chunks]


async def both(chunks: Sequence[AIMessageChunk], bite: int) -> tuple[AIMessage, Any, dict[str, Any]]:
    """What a model returns to its caller; and to a reader, the message and what its projections came to."""
    buffer = Buffer(Budget(64 << 20), lambda: None)
    selection = Selection(contents=frozenset({"media"}))
    with capturing(Observer(buffer, default_node="answer", selection=selection)):
        message = await ScriptedChatModel.saying(*chunks).ainvoke("?")
    events = read_back(buffer, bite)

    async def source() -> Any:
        for event in events:
            yield event
        yield StreamEnded(status="completed")

    async def no_result() -> None:
        raise AssertionError("it is not asked for")

    async with WorkflowRun(source(), no_result) as run:
        [call] = [call async for call in run.messages]
        parts = {
            "text": (await call.text, "".join([text async for text in call.text])),
            "reasoning": (await call.reasoning, "".join([text async for text in call.reasoning])),
            "tool_calls": await call.tool_calls,
            "args": "".join([chunk["args"] async for chunk in call.tool_calls]),
            "usage": (await call.usage, [usage async for usage in call.usage]),
        }
        return message, await call.output, parts


def without(block: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in names}


def assert_same(returned: AIMessage, read: AIMessage) -> None:
    """Field by field, but for what is listed above."""
    assert type(read) is AIMessage
    assert [without(block, "index") for block in read.content_blocks] == [
        without(block, "index") for block in returned.content_blocks
    ]
    assert read.tool_calls == returned.tool_calls
    assert [without(call, "error") for call in read.invalid_tool_calls] == [
        without(call, "error") for call in returned.invalid_tool_calls
    ]
    for name in ("id", "text", "usage_metadata", "additional_kwargs", "name"):
        assert getattr(read, name) == getattr(returned, name), name
    listed = {"model_provider", "model_name", "output_version"}
    assert read.response_metadata.keys() <= {"finish_reason"} | listed
    assert read.response_metadata.get("finish_reason") == returned.response_metadata.get("finish_reason")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_block_of_each_kind_is_in_the_message(kind):
    returned, read, _ = await both(as_chunks([kind]), 2**30)

    assert len(read.content_blocks) == 1
    assert_same(returned, read)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from(sorted(KINDS)), max_size=6),
    calls=st.integers(0, 2),
    usage=st.booleans(),
    reason=st.sampled_from([None, "stop", "length"]),
    bite=st.sampled_from([1, 700, 2**30]),
)
def test_a_message_of_any_blocks_is_the_one_that_its_model_returned(names, calls, usage, reason, bite):
    """Any blocks in any order, then tool calls, usage and an end; read in frames of any size."""
    chunks = as_chunks(names)
    for number in range(calls):
        chunks += tool_call(number, '{"query": ', f'"{number}"}}')
    facts = {"finish_reason": reason} if reason else {}
    chunks.append(
        AIMessageChunk(
            content="",
            usage_metadata=USAGE if usage else None,
            response_metadata=facts,
            additional_kwargs={"refusal": "no"} if usage else {},
        )
    )

    returned, read, parts = asyncio.run(both(chunks, bite))

    # LangChain's own blocks have the tool calls of other chunks in another place.
    blocks = [without(block, "index") for block in returned.content_blocks if block["type"] != "tool_call"]
    shown = [without(block, "index") for block in read.content_blocks]
    assert shown == [*blocks, *returned.tool_calls]
    assert read.tool_calls == returned.tool_calls
    assert read.usage_metadata == returned.usage_metadata
    assert read.additional_kwargs == returned.additional_kwargs
    assert parts["text"] == (returned.text, returned.text)
    thought = "".join(
        str(block.get("reasoning", "")) for block in returned.content_blocks if block["type"] == "reasoning"
    )
    assert parts["reasoning"] == (thought, thought)
    assert [without(call, "type") for call in parts["tool_calls"]] == [
        without(call, "type") for call in returned.tool_calls
    ]
    assert parts["args"] == "".join(f'{{"query": "{number}"}}' for number in range(calls))
    assert parts["usage"] == ((USAGE, [USAGE]) if usage else (None, []))


@pytest.mark.parametrize("args", ["[1", "", "7"])
async def test_an_invalid_tool_call_is_one_of_the_message(args):
    """LangChain leaves it out of the blocks of a message of plain text, and its reason out of the message."""
    returned, read, parts = await both([AIMessageChunk(content="so"), *tool_call(0, args)], 2**30)

    assert [without(call, "error") for call in read.invalid_tool_calls] == [
        without(call, "error") for call in returned.invalid_tool_calls
    ]
    assert read.tool_calls == returned.tool_calls
    assert len(read.invalid_tool_calls) + len(read.tool_calls) == 1
    assert parts["text"][0] == "so"


async def test_a_call_that_failed_has_no_usage():
    """`call.usage` raises as the others do."""
    call = ModelCall(Source.of_call(an_origin(), a_call()))
    call.fail(CallNotCompleted("ValueError"))

    with pytest.raises(CallNotCompleted, match="ValueError"):
        await call.usage


async def test_a_plain_text_file_is_a_block_of_its_own():
    """LangChain's own stream of a call leaves it out."""
    block = {"type": "text-plain", "text": "doc", "mime_type": "text/plain", "index": 0}
    chunk = AIMessageChunk(content=[block], response_metadata={"output_version": "v1"})
    _, read, _ = await both([chunk], 2**30)

    assert [without(one, "index") for one in read.content_blocks] == [
        {"type": "non_standard", "value": block}
    ]


async def test_a_call_is_langchains_class_with_all_its_methods():
    """Raw events, `await`, and what drives one by hand."""
    call = ModelCall(Source.of_call(an_origin(), a_call()))
    events: list[dict[str, Any]] = [
        {"event": "message-start", "role": "ai", "id": "m1"},
        {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "tea"}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "tea"}},
        {"event": "message-finish"},
    ]
    coming = iter(events)

    async def more() -> bool:
        event = next(coming, None)
        if event is not None:
            call.dispatch(event)
        return event is not None

    call.set_arequest_more(more)

    assert isinstance(call, AsyncChatModelStream)
    assert [event async for event in call] == events
    assert (await call).text == "tea"
    assert (call.done, call.message_id, call.has_events) == (True, "m1", True)
