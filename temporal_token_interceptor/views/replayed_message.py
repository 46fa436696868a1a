"""A message that came whole, in the events of LangChain's protocol, as if its model had been streamed.

LangGraph's run object does the same, by a function of LangChain that is not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage

from temporal_token_interceptor.views.message_events import MessageEvent, final_block


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
        yield from cast("list[dict[str, Any]]", message.content_blocks)
    except Exception:  # noqa: BLE001 - of content that LangChain cannot read, it shows none either
        return
    for tool_call in getattr(message, "invalid_tool_calls", ()):
        known = {name: fact for name, fact in tool_call.items() if fact is not None}
        yield {**known, "type": "invalid_tool_call"}


def _part(number: int, block: Mapping[str, Any]) -> Iterator[MessageEvent]:
    kind = str(block.get("type"))
    final = block if kind in _OF_EVENTS_OF_THEIR_OWN else final_block(block)
    text = block.get(kind) if kind in ("text", "reasoning") else None
    begun = final if text is None else {"type": kind, kind: ""}
    yield {"event": "content-block-start", "index": number, "content": begun}
    if text:
        yield {
            "event": "content-block-delta",
            "index": number,
            "delta": {"type": f"{kind}-delta", kind: text},
        }
    yield {"event": "content-block-finish", "index": number, "content": final}


# Blocks that are no `ContentBlock` where a worker sends them, and that LangChain takes as they are, too.
_OF_EVENTS_OF_THEIR_OWN = ("reasoning", "tool_call", "invalid_tool_call")
