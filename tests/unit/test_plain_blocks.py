"""The short way around `content_blocks` captures what the long way does, whoever the provider is."""

import uuid

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from temporal_token_interceptor.capture import call_records as capture
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.message_parts import plain_blocks
from temporal_token_interceptor.capture.model_observer import Observer

RUN = uuid.uuid4()
PROVIDERS = [None, "openai", "anthropic", "google_genai", "bedrock_converse", "groq"]
PIECE = tool_call_chunk(name="look", args='{"at": "', id="t1", index=0)

SHORT = {
    "tool call": {"content": "", "tool_call_chunks": [PIECE]},
    "two tool calls": {"content": "", "tool_call_chunks": [PIECE, {**PIECE, "index": 1, "id": "t2"}]},
    "text and tool call": {"content": "so: ", "tool_call_chunks": [PIECE]},
    "last tool call": {"content": "", "tool_call_chunks": [PIECE], "chunk_position": "last"},
    "nothing": {"content": ""},
    "text block": {"content": [{"type": "text", "text": "word ", "index": 0}]},
    "text block without a place": {"content": [{"type": "text", "text": "word "}]},
    "empty text block": {"content": [{"type": "text", "text": "", "index": 0}]},
    "reasoning block": {"content": [{"type": "reasoning", "reasoning": "hm", "index": 0, "id": "r1"}]},
}
LONG = {
    "two blocks": {"content": [{"type": "text", "text": "a"}, {"type": "reasoning", "reasoning": "b"}]},
    "thinking": {"content": [{"type": "thinking", "thinking": "hm", "index": 0}]},
    "reasoning beside the content": {"content": "", "additional_kwargs": {"reasoning_content": "hm"}},
    "annotated text": {"content": [{"type": "text", "text": "a", "annotations": [{"type": "citation"}]}]},
    "cited text": {"content": [{"type": "text", "text": "a", "citations": []}]},
    "a summary of reasoning": {
        "content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}]
    },
    "image": {"content": [{"type": "image", "url": "https://example.com/a.png"}]},
    "a plain string in a list": {"content": ["word "]},
    "text that is none": {"content": [{"type": "text", "text": None}]},
    "block and tool call": {"content": [{"type": "text", "text": "a"}], "tool_call_chunks": [PIECE]},
}


def chunk_of(facts, provider, version=None):
    """A chunk as a provider's integration makes it; `v1`: with its content in LangChain's own form."""
    metadata = {"model_provider": provider, "output_version": version}
    return AIMessageChunk(**facts, response_metadata={name: said for name, said in metadata.items() if said})


def captured(message):
    """What one chunk adds to the buffer, after the start of its call."""
    buffer = Buffer(Budget(1 << 20), lambda: None)
    observer = Observer(buffer, default_node="node")
    observer.on_chat_model_start({}, [], run_id=RUN)
    buffer.take(1 << 20)
    chunk = ChatGenerationChunk(message=message)
    token = message.content if isinstance(message.content, str) else chunk.text
    # Not a string, so that the fast path for text is not taken either: LangChain passes lists, too.
    observer.on_llm_new_token([token], chunk=chunk, run_id=RUN)
    return buffer.take(1 << 20)


@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("facts", [*SHORT.values(), *LONG.values()], ids=[*SHORT, *LONG])
def test_the_short_way_captures_what_the_long_way_does(facts, provider, version, monkeypatch):
    """Whichever provider's chunks these are, I get the same events as through LangChain's own property."""
    short = captured(chunk_of(facts, provider, version))

    monkeypatch.setattr(capture, "plain_blocks", lambda _message: None)
    long = captured(chunk_of(facts, provider, version))

    assert short == long


@pytest.mark.parametrize("facts", SHORT.values(), ids=SHORT)
def test_what_models_stream_most_takes_the_short_way(facts):
    """Fragments of tool calls, and single blocks of text and reasoning."""
    assert plain_blocks(chunk_of(facts, None)) is not None


@pytest.mark.parametrize("facts", LONG.values(), ids=LONG)
def test_what_may_need_a_translation_takes_the_long_way(facts):
    assert plain_blocks(chunk_of(facts, None)) is None
