"""How a result with us differs from one without, and how what a reader gets differs from the message.

What may differ is a row with its reason; what a message says (text, reasoning, tool calls, usage, why it
ended) may not.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from temporal_token_interceptor.events import CallEnded, Event, ReasoningEvent, TokenEvent, ToolCallChunk
from temporal_token_interceptor.views.langgraph_messages import Chunks

_WHOLE_BODY = (
    "the package takes it from the body of a whole answer, and its stream has none of it; `usage_metadata` "
    "and `model_name` are there"
)
REASONS = {
    r"response_metadata\.ResponseMetadata\.HTTPHeaders\.content-type changed": "a stream has another type",
    r"id: ends in -0": "LangChain adds `-0` to the id of an answer that did not stream; ours is the id under "
    "which the tokens came, as in LangGraph's own stream, so that a client can match the two",
    r"response_metadata\.(token_usage|usage|id|model|logprobs) lost": _WHOLE_BODY,
    r"response_metadata\.(container|diagnostics|stop_details) lost": _WHOLE_BODY,
    r"additional_kwargs\.tool_calls\[\]\.(function\.)?class lost": "objects of the package in the whole "
    "answer, and dicts in the stream: alike in an activity's result, which is JSON",
    r"content\[refusal\]\.id lost": "the package's stream has the ids of texts alone",
    r"additional_kwargs\.refusal lost": "`None` in the whole answer, absent in the stream",
    r"usage_metadata\.input_token_details\.(cache_creation changed|ephemeral_\w+ lost)": "the package reads "
    "the usage of a stream from its last event, which has the sum and not its parts",
}
"""Each difference that there is, as a pattern, and why."""


def reason(difference: str) -> str | None:
    """Return why there is a difference; None if it is not explained."""
    found = (why for pattern, why in REASONS.items() if re.fullmatch(pattern, difference))
    return next(found, None)


def differences(bare: Any, captured: Any) -> list[str]:
    """Name each field of two plain results that differs, wherever the message stands in the result."""
    return sorted({re.sub(r"^(\[\]|\.raw)*\.", "", found) for found in _differences(bare, captured)})


def _differences(bare: Any, captured: Any, where: str = "") -> Iterator[str]:
    if bare == captured:
        return
    if isinstance(bare, dict) and isinstance(captured, dict):
        yield from (f"{where}.{name} lost" for name in bare.keys() - captured.keys())
        yield from (f"{where}.{name} gained" for name in captured.keys() - bare.keys())
        for name in bare.keys() & captured.keys():
            yield from _differences(bare[name], captured[name], f"{where}.{name}")
    elif isinstance(bare, list) and isinstance(captured, list) and len(bare) == len(captured):
        for one, other in zip(bare, captured, strict=True):
            kind = one.get("type", "") if where.endswith(".content") and isinstance(one, dict) else ""
            yield from _differences(one, other, f"{where}[{kind}]")
    elif where.endswith(".id") and bare == f"{captured}-0":
        yield f"{where}: ends in -0"
    else:
        yield f"{where} changed"


def said(message: AIMessage) -> dict[str, Any]:
    """Return what a message says, whatever the shape in which a package keeps it."""
    usage = message.usage_metadata
    return {
        "text": message.text,
        "reasoning": reasoning_of(message),
        "tool calls": [_call(call) for call in message.tool_calls],
        "invalid tool calls": [_call(call) for call in message.invalid_tool_calls],
        "tokens": usage and [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]],
        "end": finish_of(message),
    }


def reasoning_of(message: AIMessage) -> str:
    """Return the text of the reasoning, in whichever of the packages' shapes."""
    return "".join(
        block.get("reasoning") or "" for block in message.content_blocks if block["type"] == "reasoning"
    )


def refusal_of(message: AIMessage) -> str:
    """Return the refusal, beside the content or in it."""
    blocks = message.content_blocks
    within = "".join(str(block.get("refusal") or "") for block in blocks if block["type"] == "refusal")
    return message.additional_kwargs.get("refusal") or within


def finish_of(message: AIMessage) -> str | None:
    """Return why the model stopped."""
    facts = message.response_metadata
    incomplete = (facts.get("incomplete_details") or {}).get("reason")
    names = ("finish_reason", "stop_reason", "done_reason", "stopReason")
    found = next((facts[name] for name in names if facts.get(name)), None)
    return found or incomplete or facts.get("status")


def folded(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return what a reader makes of events: the same of each call, by adding up its parts."""
    calls: dict[int, list[Event]] = {}
    for event in events:
        if isinstance(event, TokenEvent | ReasoningEvent | ToolCallChunk | CallEnded):
            calls.setdefault(event.call.ordinal, []).append(event)
    return [_folded(parts) for parts in calls.values()]


def _folded(parts: Sequence[Event]) -> dict[str, Any]:
    tools: dict[Any, dict[str, Any]] = {}
    for part in parts:
        if isinstance(part, ToolCallChunk):
            tool = tools.setdefault(part.index, {"name": "", "id": None, "args": ""})
            tool["name"] += part.name or ""
            tool["id"] = tool["id"] or part.id
            tool["args"] += part.args
    [end] = [part for part in parts if isinstance(part, CallEnded)]
    usage = end.usage
    return {
        "text": "".join(part.token for part in parts if isinstance(part, TokenEvent)),
        "reasoning": "".join(part.token for part in parts if isinstance(part, ReasoningEvent)),
        "tool calls": [_call({**tool, "args": json.loads(tool["args"] or "{}")}) for tool in tools.values()],
        "invalid tool calls": [],
        "tokens": usage and [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]],
        "end": end.finish_reason,
    }


def messages_of(events: Iterable[Event]) -> list[AIMessageChunk]:
    """Return the message of each call as `.messages()` yields it, its chunks added up."""
    chunks = Chunks(subgraphs=True)
    sums: dict[str, AIMessageChunk] = {}
    for event in events:
        for message, _ in chunks.read(event):
            assert isinstance(message, AIMessageChunk)
            known = sums.get(str(message.id))
            sums[str(message.id)] = message if known is None else known + message
    return list(sums.values())


def _call(call: Any) -> tuple[Any, Any, Any]:
    return call["name"], call["args"], call["id"]
