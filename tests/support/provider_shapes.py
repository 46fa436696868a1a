"""Streams of chunks in the shapes of the packages of providers, for property tests.

Seen by running the packages. Every function draws the pieces of one block, given its number.
"""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

Block = dict[str, Any]
Kind = Callable[[st.DrawFn, int], list[Block]]

TOKEN = st.text(alphabet="abXY09+/", min_size=1, max_size=12)
WORDS = st.lists(st.sampled_from(["tea ", "é ", "\N{GRINNING FACE}", "so", "\n"]), min_size=1, max_size=4)
_SITE = st.sampled_from(["http://localhost/a", "http://localhost/b"])
_ARGUMENTS = st.dictionaries(st.sampled_from(["query", "code"]), TOKEN | st.integers(0, 9), max_size=2)
_PHASES = st.sampled_from([None, "commentary", "final_answer"])


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """A text, cut anywhere."""
    places = draw(st.lists(st.integers(0, len(text)), max_size=3))
    return [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]


def stream(kinds: Sequence[Kind], facts: dict[str, Any]) -> st.SearchStrategy[list[AIMessageChunk]]:
    """A message of some of these blocks, each piece a chunk with these facts."""

    @st.composite
    def chunks(draw: st.DrawFn) -> list[AIMessageChunk]:
        blocks: list[Block] = []
        for index in range(draw(st.integers(1, 5))):
            blocks += draw(st.sampled_from(kinds))(draw, index)
        return [AIMessageChunk(content=[block], response_metadata=facts) for block in blocks]

    return chunks()


# ------------------------------------------------------------------ langchain-anthropic


def _thinking(draw: st.DrawFn, index: int) -> list[Block]:
    block = {"type": "thinking", "index": index}
    words = draw(st.just([]) | WORDS)
    signature = draw(st.none() | TOKEN)
    return [
        {**block, "thinking": "", "signature": ""},
        *({**block, "thinking": word} for word in words),
        *([{**block, "signature": signature}] if signature else []),
    ]


def _redacted(draw: st.DrawFn, index: int) -> list[Block]:
    return [{"type": "redacted_thinking", "data": draw(TOKEN), "index": index}]


def _cited(draw: st.DrawFn, index: int) -> list[Block]:
    blocks: list[Block] = []
    for word in draw(WORDS):
        blocks.append({"type": "text", "text": word, "index": index})
        if url := draw(st.none() | _SITE):
            source = {"type": "web_search_result_location", "url": url, "title": "t", "cited_text": "x"}
            source["encrypted_index"] = draw(TOKEN)
            blocks.append({"type": "text", "text": "", "citations": [source], "index": index})
    return blocks


def _server_tool(draw: st.DrawFn, index: int) -> list[Block]:
    facts = draw(
        st.sampled_from([{"type": "server_tool_use"}, {"type": "mcp_tool_use", "server_name": "srv"}])
    )
    pieces = draw(pieces_of(json.dumps(draw(_ARGUMENTS))))
    deltas = [{"type": "input_json_delta", "partial_json": piece, "index": index} for piece in pieces]
    return [{"id": f"s{index}", "name": "look", "input": {}, "index": index, **facts}, *deltas]


# ------------------------------------------------------------------ langchain-openai, Responses


def _reasoning(draw: st.DrawFn, index: int) -> list[Block]:
    block = {"type": "reasoning", "index": index}
    said = {**block, "id": f"rs_{index}", "summary": []}
    parts = [
        {**block, "summary": [{"index": part, "type": "summary_text", "text": word}]}
        for part in range(draw(st.integers(0, 2)))
        for word in draw(WORDS)
    ]
    secret = draw(st.none() | TOKEN)
    return [said, *parts, *([{**said, "encrypted_content": secret}] if secret else [])]


def _phased(draw: st.DrawFn, index: int) -> list[Block]:
    block = {"type": "text", "index": index}
    phase = draw(_PHASES)
    blocks: list[Block] = [{**block, "text": "", "phase": phase}] if phase else []
    for word in draw(WORDS):
        blocks.append({**block, "text": word})
        if url := draw(st.none() | _SITE):
            source = {"type": "url_citation", "url": url, "title": "t", "start_index": 0, "end_index": 1}
            blocks.append({**block, "annotations": [source]})
    return [*blocks, {**block, "text": "", "id": f"msg_{index}"}]


def _refusal(draw: st.DrawFn, _index: int) -> list[Block]:
    return [{"type": "refusal", "refusal": draw(TOKEN)}]


def _search(draw: st.DrawFn, index: int) -> list[Block]:
    call = {"type": "web_search_call", "id": f"ws_{index}", "status": "completed", "index": index}
    return [{**call, "action": {"type": "search", "query": draw(TOKEN)}}]


# ------------------------------------------------------------------ langchain-google-genai, -aws


def _thought(draw: st.DrawFn, index: int) -> list[Block]:
    blocks: list[Block] = [{"type": "thinking", "thinking": word, "index": index} for word in draw(WORDS)]
    if signature := draw(st.none() | TOKEN):
        blocks[-1]["signature"] = signature
    return blocks


def _signed_text(draw: st.DrawFn, index: int) -> list[Block]:
    blocks: list[Block] = [{"type": "text", "text": word, "index": index} for word in draw(WORDS)]
    if signature := draw(st.none() | TOKEN):
        blocks[-1]["extras"] = {"signature": signature}
    return blocks


def _code(draw: st.DrawFn, index: int) -> list[Block]:
    code = {
        "type": "executable_code",
        "language": "python",
        "id": f"c{index}",
        "executable_code": draw(TOKEN),
    }
    outcome = {"type": "code_execution_result", "outcome": 1, "tool_call_id": f"c{index}"}
    return [code, {**outcome, "code_execution_result": draw(TOKEN)}]


def _converse_thought(draw: st.DrawFn, index: int) -> list[Block]:
    parts: list[Block] = [{"text": word} for word in draw(WORDS)]
    parts += [{"signature": piece} for piece in draw(st.lists(TOKEN, max_size=2))]
    return [{"type": "reasoning_content", "reasoning_content": part, "index": index} for part in parts]


def _text(draw: st.DrawFn, index: int) -> list[Block]:
    return [{"type": "text", "text": word, "index": index} for word in draw(WORDS)]


# ------------------------------------------------------------------ LangChain's own blocks


def _standard(draw: st.DrawFn, index: int) -> list[Block]:
    """With members that no one knows yet."""
    kind = draw(st.sampled_from(["text", "reasoning"]))
    block = {"type": kind, "index": draw(st.sampled_from([index, f"lc_{kind}_{index}"]))}
    blocks = [{**block, kind: word} for word in draw(WORDS)]
    for name in sorted(draw(st.sets(st.sampled_from(["extras", "id", "phase", "later"])))):
        fact = {"signature": draw(TOKEN)} if name == "extras" else draw(TOKEN)
        blocks.append({**block, kind: "", name: fact})
    return blocks


SHAPES = {
    "anthropic": stream([_thinking, _redacted, _cited, _server_tool], {"model_provider": "anthropic"}),
    "openai responses": stream([_reasoning, _phased, _refusal, _search], {"model_provider": "openai"}),
    "google": stream([_thought, _signed_text, _code], {"model_provider": "google_genai"}),
    "bedrock converse": stream([_converse_thought, _text], {"model_provider": "bedrock_converse"}),
    "standard": stream([_standard], {"output_version": "v1"}),
}
"""The streams of each provider."""
