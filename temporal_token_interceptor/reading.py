"""Reading what LangChain hands over: names, messages, tool calls. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import LLMResult

TOOL_CALLS = frozenset({"tool_call_chunk", "tool_call", "invalid_tool_call"})
"""The types of blocks that are tool calls, or parts of one."""


def path_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the subgraph path out of a checkpoint namespace such as `sub:1f0c|1|model:77ab`.

    The number tells the second call of a subgraph within one node from the first; it is no name.
    """
    namespace = metadata.get("langgraph_checkpoint_ns") or ""
    return tuple(part.partition(":")[0] for part in namespace.split("|")[:-1] if not part.isdigit())


def tool_calls_of(message: BaseMessage) -> Sequence[Mapping[str, Any]]:
    """Read the tool calls of a message, or their fragments in a chunk.

    Its content blocks leave out those of a last chunk, and those whose arguments are no JSON.
    """
    if isinstance(message, AIMessageChunk):
        return message.tool_call_chunks
    if isinstance(message, AIMessage):
        return [*message.tool_calls, *message.invalid_tool_calls]
    return ()


def message_of(response: LLMResult) -> AIMessage | None:
    """Return the message that a model call returned; a text model returns none."""
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = getattr(generation, "message", None)
    return message if isinstance(message, AIMessage) else None


def finish_reason_of(message: AIMessage | None, response: LLMResult) -> str | None:
    """Find the reason under one of the names that providers use."""
    facts: dict[str, Any] = dict(message.response_metadata) if message is not None else {}
    if response.generations and response.generations[0]:
        facts = {**(response.generations[0][0].generation_info or {}), **facts}
    found = next((facts[name] for name in _FINISH_REASONS if facts.get(name)), None)
    return None if found is None else str(found)


_FINISH_REASONS = ("finish_reason", "stop_reason", "done_reason", "stopReason", "finishReason")


def json_of(args: object) -> str:
    """Return the JSON of arguments that did not arrive as text."""
    return "" if args is None else json.dumps(args, default=str)
