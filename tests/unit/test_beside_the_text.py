"""What a provider says beside the text of a message arrives; every view shows it where the message has it.

Signatures, sources, ids, phases, refusals, what is encrypted, server tools, `additional_kwargs`, finish
reasons, usage: in the shapes in which the packages of providers stream them, cut in any way.
"""

import json
from enum import Enum
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk

from temporal_token_interceptor import CallEnded, ContentBlock, Gap
from temporal_token_interceptor.capture.names import name_of
from temporal_token_interceptor.capture.stream_usage import StreamUsage
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.call_views import OneChunk, Whole, as_messages_show_it, as_run_shows_it, read
from tests.support.provider_shapes import SHAPES


def shown(message: AIMessage) -> list[dict[str, Any]]:
    """The blocks of a message, without the numbers by which pieces are merged, and what says nothing."""
    return [
        {
            name: _shown(part)
            for name, part in block.items()
            if name != "index" and part not in ("", None, [], {})
        }
        for block in message.content_blocks
    ]


def _shown(part: Any) -> Any:
    """LangChain gives a source an id of its own whenever it is asked."""
    if not isinstance(part, list):
        return part
    return [{n: v for n, v in one.items() if n != "id"} if isinstance(one, dict) else one for one in part]


def plain(blocks: list[dict[str, Any]]) -> list[Any]:
    """Blocks without the one around each that LangChain's stream object does not know."""
    return [block["value"] if block["type"] == "non_standard" else block for block in blocks]


@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("provider", SHAPES)
@given(data=st.data())
async def test_every_view_has_the_blocks_of_the_message(provider, data):
    """All that stands beside a text, in the block it belongs to, in the order of the message."""
    pieces = data.draw(SHAPES[provider])

    said, environment = await read(pieces)

    expected = shown(said)
    assert shown(as_messages_show_it(environment.events)) == expected
    assert plain(shown(await as_run_shows_it(environment.events))) == plain(expected)
    assert environment.text == said.text
    assert [event for event in environment.events if isinstance(event, Gap)] == []


# ------------------------------------------------------------------ beside the content

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["refusal", "citations", "audio", "annotations", "executed_tools", "later"])
KWARGS = st.dictionaries(NAMES | st.text("abc_", min_size=1, max_size=6), VALUES, max_size=4)


@given(st.lists(KWARGS, min_size=1, max_size=3), st.booleans())
async def test_what_rides_beside_the_content_arrives(pieces, streams):
    """Refusals, sources, audio and what no one knows yet, in any chunk, streamed or not."""
    names = [{f"{number}{name}": value for name, value in one.items()} for number, one in enumerate(pieces)]
    chunks = [AIMessageChunk(content="x", additional_kwargs=one) for one in names]

    said, environment = await read(chunks, model=None if streams else Whole(reduce(add, chunks)))

    [end] = [event for event in environment.events if isinstance(event, CallEnded)]
    assert (end.additional_kwargs or {}) == said.additional_kwargs
    assert as_messages_show_it(environment.events).additional_kwargs == said.additional_kwargs
    assert (await as_run_shows_it(environment.events)).additional_kwargs == said.additional_kwargs


REASONS = ["stop", "length", "tool_calls", "end_turn", "STOP", "MAX_TOKENS", "content_filter", "refusal"]
WHERE = {
    "OpenAI, xAI, Groq, Mistral, DeepSeek, Gemini": lambda why: {"finish_reason": why},
    "Anthropic": lambda why: {"stop_reason": why},
    "Bedrock": lambda why: {"stopReason": why},
    "Ollama": lambda why: {"done_reason": why},
    "Gemini's wire": lambda why: {"finishReason": why},
    "Responses, cut short": lambda why: {"status": "incomplete", "incomplete_details": {"reason": why}},
    "Responses": lambda why: {"status": why},
    "an enumeration": lambda why: {"finish_reason": next(iter(Enum("Reason", [why])))},
}


def says_nothing_twice(why):
    """LangChain joins the words of chunks, so what is one word twice over is taken for that word."""
    return why not in (why + why)[1:-1]


A_WORD = st.text("ABcd", min_size=1, max_size=300).filter(says_nothing_twice)


@pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)
@given(st.sampled_from(REASONS) | A_WORD, st.booleans(), st.booleans())
async def test_why_a_model_stopped_arrives(where, why, streams, in_message):
    """Under every name of a provider, in the message or beside it, streamed or not."""
    facts = where(why)
    last = AIMessageChunk(content="x", response_metadata=facts if in_message else {})
    model = (OneChunk if streams else Whole)(last, generation_info=None if in_message else facts)

    _, environment = await read([], model=model)

    [end] = [event for event in environment.events if isinstance(event, CallEnded)]
    assert end.finish_reason == name_of(why)
    assert as_messages_show_it(environment.events).response_metadata["finish_reason"] == name_of(why)


COUNTS = st.integers(0, 10**6)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@given(
    parts=st.lists(st.none() | st.tuples(COUNTS, COUNTS), min_size=1, max_size=5),
    error=st.sampled_from([ConnectionError, ValueError, TimeoutError, KeyError]),
)
async def test_what_a_failed_call_used_arrives(way, parts, error):
    """Whatever came before it failed: LangChain's sum, wherever the counts stand."""
    usages = [part and usage_of(*part) for part in parts]
    pieces = [AIMessageChunk(content="half ", usage_metadata=usage) for usage in usages]
    model = ScriptedChatModel.saying(*pieces, error("x"))

    _, environment = await read([], model=model, way=way, raises=error)

    [end] = [event for event in environment.events if isinstance(event, CallEnded)]
    known = StreamUsage()
    for usage in filter(None, usages):
        known.add(usage)
    assert end.error == error.__name__
    assert end.usage == known.used
    if known.repeated is None:
        assert end.usage == reduce(add, pieces).usage_metadata


def usage_of(received: int, written: int) -> Any:
    return {"input_tokens": received, "output_tokens": written, "total_tokens": received + written}


@given(st.lists(st.sampled_from(["Tea ", "is ", "é "]), min_size=1, max_size=4), st.booleans(), st.data())
async def test_sources_of_a_whole_answer_arrive(words, in_list, data):
    """Gemini's grounding stands in the metadata of the last chunk, and LangChain makes sources of it."""
    pages = data.draw(st.lists(st.sampled_from(["http://localhost/a", "http://localhost/b"]), min_size=1))
    grounding = {
        "grounding_chunks": [{"web": {"uri": page, "title": "t"}} for page in pages],
        "grounding_supports": [
            {"segment": {"start_index": 0, "end_index": 3, "text": "Tea"}, "grounding_chunk_indices": [n]}
            for n in range(len(pages))
        ],
    }
    facts = {"model_provider": "google_genai"}
    contents = [[{"type": "text", "text": word, "index": 0}] if in_list else word for word in words]
    chunks = [AIMessageChunk(content=content, response_metadata=facts) for content in contents]
    chunks.append(AIMessageChunk(content="", response_metadata={"grounding_metadata": grounding}))

    said, environment = await read(chunks)

    sources = shown(said)[0]["annotations"]
    assert [source["url"] for source in sources] == pages
    assert shown(await as_run_shows_it(environment.events)) == shown(said)
    blocks = shown(as_messages_show_it(environment.events))
    assert [block["annotations"] for block in blocks if "annotations" in block] == [sources]


@pytest.mark.parametrize("length", [10, 300_000])
async def test_a_call_of_a_server_tool_is_whole_however_long_it_is(length):
    """One that is too long to be collected beside the message comes from it, at its end."""
    facts = {"model_provider": "anthropic"}
    tool = {"type": "server_tool_use", "id": "s1", "name": "look", "input": {}, "index": 0}
    text = json.dumps({"code": "x" * length})
    pieces = [
        {"type": "input_json_delta", "partial_json": text[at : at + 1_000], "index": 0}
        for at in range(0, len(text), 1_000)
    ]
    later = {"type": "text", "text": "So.", "index": 1}

    said, environment = await read(
        [AIMessageChunk(content=[block], response_metadata=facts) for block in (tool, *pieces, later)]
    )

    [sent] = [event.block for event in environment.events if isinstance(event, ContentBlock)]
    assert sent["args"] == {"code": "x" * length}
    assert sent == said.content_blocks[0]


class Hidden:
    """Lets no letter out."""

    def feed(self, text: str) -> str:
        return "*" * len(text)

    def flush(self) -> str:
        return ""


@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("hold", [True, False])
@given(st.sampled_from(["anthropic", "google", "standard"]).flatmap(SHAPES.__getitem__))
async def test_nothing_beside_a_text_goes_around_a_transform(hold, pieces):
    """Gemini's sources quote the answer: what is to be hidden would be there in clear."""
    grounding = {
        "grounding_chunks": [{"web": {"uri": "http://localhost/a", "title": "t"}}],
        "grounding_supports": [{"segment": {"text": "secret"}, "grounding_chunk_indices": [0]}],
    }
    last = AIMessageChunk(content="", response_metadata={"grounding_metadata": grounding})

    _, environment = await read([*pieces, last], hold_calls=hold, transform=lambda _: Hidden())

    blocks = [event.block for event in environment.events if isinstance(event, ContentBlock)]
    assert [block for block in blocks if block["type"] in ("text", "reasoning")] == []
    assert set(environment.text) <= {"*"}
