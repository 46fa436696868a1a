"""A message that came whole, in the events of LangChain's protocol, as if its model had been streamed.

LangGraph's run object does the same, by a function of LangChain that is not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage

from temporal_token_interceptor.views.message_events import MessageEvent, final_block, parsed_call
from temporal_token_interceptor.views.tool_calls import WrittenToolCall


def replayed(message: object) -> list[MessageEvent] | None:
    """Return the events of a message; None where LangGraph's `run.messages` does not have it.

    That is so of a tool's message, which the tool's own handle has, and of a chunk.
    """
    if not isinstance(message, BaseMessage) or isinstance(message, AIMessageChunk | ToolMessage):
        return None
    facts = message.response_metadata
    named = {"provider": facts.get("model_provider"), "model": facts.get("model_name")}
    start: MessageEvent = {"event": "message-start", "role": "ai", "id": str(message.id)}
    end: MessageEvent = {"event": "message-finish", "metadata": dict(facts)}
    if known := {name: fact for name, fact in named.items() if fact is not None}:
        start["metadata"] = known
    if usage := getattr(message, "usage_metadata", None):
        end["usage"] = usage
    parts = (_part(number, block) for number, block in enumerate(_blocks(message)))
    return [start, *(event for part in parts for event in part), end]


def _blocks(message: BaseMessage) -> Iterator[Mapping[str, Any]]:
    try:
        blocks = cast("list[object]", message.content_blocks)
    except Exception:  # noqa: BLE001 - of content that LangChain cannot read, it shows none either
        return
    for block in blocks:  # a text may stand among those of its v1, and has no part there
        if isinstance(block, dict):
            yield cast("dict[str, Any]", block)
    for tool_call in getattr(message, "invalid_tool_calls", ()):
        known = {name: fact for name, fact in tool_call.items() if fact is not None}
        yield {**known, "type": "invalid_tool_call"}


def _part(number: int, block: Mapping[str, Any]) -> Iterator[MessageEvent]:
    kind = str(block.get("type"))
    final = _final(block)
    text = block.get(kind) if kind in ("text", "reasoning") else None
    yield _event("start", number, content=final if text is None else {"type": kind, kind: ""})
    if text:
        yield _event("delta", number, delta={"type": f"{kind}-delta", kind: text})
    yield _event("finish", number, content=final)


def _final(block: Mapping[str, Any]) -> Mapping[str, Any]:
    if block.get("type") == "server_tool_call_chunk":  # of chunks that were added up: it is all there
        call = parsed_call(WrittenToolCall(block.get("id"), block.get("name"), block.get("args") or ""))
        return {**call, "type": "server_tool_call"} if call["type"] == "tool_call" else call
    return block if block.get("type") in _OF_EVENTS_OF_THEIR_OWN else final_block(block)


# Blocks that are no `ContentBlock` where a worker sends them, and that LangChain takes as they are, too.
_OF_EVENTS_OF_THEIR_OWN = ("reasoning", "tool_call", "invalid_tool_call")


def _event(what: str, number: int, **facts: Any) -> MessageEvent:
    return {"event": f"content-block-{what}", "index": number, **facts}
