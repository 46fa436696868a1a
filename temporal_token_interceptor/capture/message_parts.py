"""Reading what LangChain hands over: names, calls, blocks and values, within bounds.

Pure functions. What goes on the wire is made JSON here, on the thread that captures, because an object of the
user's may change once its callback has returned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import LLMResult

from temporal_token_interceptor.capture.json_values import Limit, bounded_values
from temporal_token_interceptor.capture.names import name_of
from temporal_token_interceptor.capture.text_path import NEW_BLOCK

TOOL_CALLS = frozenset({"tool_call_chunk", "tool_call", "invalid_tool_call"})
"""The types of blocks that are tool calls, or parts of one."""

TEXT_BOUND = 4 * 1024
"""How many characters of a tool's input or output are sent."""

DATA_BOUND = 64 * 1024
"""How long the JSON of a custom event or of a node's output may be, in characters."""

MEDIA = frozenset({"image", "audio", "video", "file"})
"""The types of blocks that hold the bytes of a file, or name one."""

# Of a block, or of a tool call's arguments: what a frame can hold, and a viewer needs whole or not at all.
_CONTENT = Limit(nodes=50_000, characters=12 * 1024 * 1024, depth=200, is_exact=True)


def plain_blocks(message: BaseMessage) -> Sequence[Mapping[str, Any]] | None:
    """Return the blocks of a chunk that `content_blocks` would leave as they are; None for any other.

    LangChain's property looks for the translator of a provider and builds all blocks: 10 us for a chunk.
    """
    if message.__class__ is not AIMessageChunk or message.additional_kwargs:
        return None
    content, tool_calls = message.content, message.tool_call_chunks
    if content.__class__ is str:
        typed = tool_calls and _typed(tool_calls, "tool_call_chunk")
        return [{"type": "text", "text": content}, *typed] if content else typed
    if tool_calls or len(content) != 1:
        return None
    block = content[0]
    if block.__class__ is not dict or not block.keys() <= _PLAIN_MEMBERS:
        return None
    if block.get("type") == "text":
        text = block.get("text")
    elif block.get("type") == "reasoning" and _needs_no_translator(message):
        text = block.get("reasoning")
    else:
        return None
    return [block] if text.__class__ is str else None


def _needs_no_translator(message: BaseMessage) -> bool:
    """Whether its content is LangChain's own; some translators make of a reasoning block what it is not."""
    facts = message.response_metadata
    return not facts.get("model_provider") or facts.get("output_version") == "v1"


def block_key(message: BaseMessage, block: Mapping[str, Any]) -> object:
    """Return what distinguishes a block from its neighbours, as LangChain merges them.

    Chunks of plain text are one block, and so is what a provider adds beside the content. In a list, blocks
    are merged by their `index`, a number or one of LangChain's names; one without, and each of a whole
    message, is a block of its own.
    """
    if isinstance(message.content, str):
        return None
    index = block.get("index") if isinstance(message, AIMessageChunk) else None
    if isinstance(index, int):
        return index
    if isinstance(index, str) and index.startswith("lc_"):
        return _number_in(index)
    return None if message.additional_kwargs and block.get("type") == "reasoning" else NEW_BLOCK


def _number_in(name: str) -> int | str:
    """Return the number that the name has been made of; the name, if of none.

    OpenAI's translator names the blocks that it has to read, not those that come here as they are.
    """
    kind, _, number = name.removeprefix("lc_").partition("_")
    try:
        if kind == "txt":
            return int(number)
        item, _, part = bytes.fromhex(number if kind == "rs" else "").decode().partition("_")
        return int(item) if part == "0" else name  # what is said of all parts has none
    except ValueError:
        return name


_PLAIN_MEMBERS = frozenset({"type", "text", "reasoning", "index", "id"})


def tool_calls_of(message: BaseMessage) -> Sequence[Mapping[str, Any]]:
    """Read the tool calls of a message, or their fragments in a chunk.

    Its content blocks leave out those of a last chunk, and those whose arguments are no JSON. A program that
    sets them may leave out their type.
    """
    if isinstance(message, AIMessageChunk):
        return _typed(message.tool_call_chunks, "tool_call_chunk")
    if isinstance(message, AIMessage):
        calls, invalid = message.tool_calls, message.invalid_tool_calls
        return [*_typed(calls, "tool_call"), *_typed(invalid, "invalid_tool_call")]
    return ()


def _typed(calls: Sequence[Mapping[str, Any]], kind: str) -> Sequence[Mapping[str, Any]]:
    return [call if "type" in call else {**call, "type": kind} for call in calls] if calls else ()


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
    if found is None and isinstance(incomplete := facts.get("incomplete_details"), Mapping):
        found = incomplete.get("reason")  # OpenAI Responses
    found = found or facts.get("status")
    return name_of(found)


_FINISH_REASONS = ("finish_reason", "stop_reason", "done_reason", "stopReason", "finishReason")


def blocks_of(message: BaseMessage) -> Sequence[Mapping[str, Any]]:
    """Return the content blocks of a message; its text and tool calls alone where a translator raises.

    Translators raise for what providers send (`"annotations": null`), in 28 ways that were seen.
    """
    try:
        blocks: Sequence[Mapping[str, Any]] = message.content_blocks
    except Exception:  # noqa: BLE001 - a translator's fault must not cost the text
        text = message.text
        return [{"type": "text", "text": text}] if text else []
    return [block for block in blocks if isinstance(block, dict) and isinstance(block.get("type"), str)]


def additional_of(message: AIMessage | None) -> Mapping[str, Any] | None:
    """Return what a message has of the provider's own, without its tool calls; None if too large."""
    kwargs = getattr(message, "additional_kwargs", None)
    own = {name: value for name, value in (kwargs or {}).items() if name != "tool_calls"}
    return bounded_data(own)[0] if own else None


def usage_of(message: object) -> Mapping[str, Any] | None:
    """Return what a message or a chunk says of tokens used, if anything."""
    usage = getattr(message, "usage_metadata", None)
    return usage if isinstance(usage, Mapping) and usage else None


def json_of(args: object) -> str | None:
    """Return the JSON of arguments that did not arrive as text; None if they are too large to be read."""
    if args is None:
        return ""
    values, is_cut = bounded_values(args, _CONTENT)
    return None if is_cut else json.dumps(values)


def block_of(block: Mapping[str, Any], *, with_media: bool) -> Mapping[str, Any] | None:
    """Return a block as JSON values; None if it is too large to be read.

    Bytes of media are replaced by their number, unless asked for.
    """
    values, is_cut = bounded_values(_without_media(block, with_media=with_media), _CONTENT)
    return None if is_cut else values


def _without_media(block: Mapping[str, Any], *, with_media: bool) -> Mapping[str, Any]:
    if with_media or block.get("type") not in MEDIA:
        return block
    reference = {name: value for name, value in block.items() if name not in ("base64", "data")}
    encoded = block.get("base64") or block.get("data")
    if isinstance(encoded, str):
        reference["size"] = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    elif isinstance(encoded, bytes):
        reference["size"] = len(encoded)
    if str(reference.get("url", "")).startswith("data:"):
        encoded = reference.pop("url").partition(",")[2]
        reference["size"] = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return reference


def bounded_text(value: object) -> tuple[str, bool]:
    """Return a value as text of at most `TEXT_BOUND` characters, and whether it was cut."""
    text = value.text if isinstance(value, BaseMessage) else value
    if isinstance(text, str):
        return text[:TEXT_BOUND], len(text) > TEXT_BOUND
    data, cut = bounded_values(text)
    text = json.dumps(data, ensure_ascii=False)
    return text[:TEXT_BOUND], cut or len(text) > TEXT_BOUND


def bounded_data(value: object) -> tuple[Any, bool]:
    """Return a value as JSON values, and False; or None and True where its JSON is too long."""
    data, cut = bounded_values(value)
    return (None, True) if cut or len(json.dumps(data)) > DATA_BOUND else (data, False)
