"""The answer of a call that was made to stream: whether it is whole, and what makes it that of a plain call.

LangChain adds up the chunks of a stream. The sum has what the plain answer has, and traces of its pieces;
these are taken out where streaming was our idea. docs/providers.md has what remains. Knowledge about
providers is data at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, cast

import langchain_core
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from temporal_token_interceptor.errors import IncompleteAnswer


def check_end(model: BaseChatModel, generations: Sequence[ChatGeneration]) -> None:
    """Raise if a streamed answer ended without the end that its provider always sends.

    Raises:
        IncompleteAnswer: the body ended early, however cleanly. A plain call would have raised, too.
    """
    package = _package_of(type(model))
    if package not in _ALWAYS_ENDS or _has_own_endpoint(model):
        return
    if not any(has_end(generation) for generation in generations):
        raise IncompleteAnswer(
            f"the stream of {type(model).__name__} ended without a finish reason: the answer is cut off; "
            "Temporal retries the activity"
        )


def mend(
    model: BaseChatModel,
    result: ChatResult,
    first_facts: Mapping[str, Any] = MappingProxyType({}),
    usage: Mapping[str, Any] | None = None,
) -> None:
    """Take the traces of a stream out of an answer: repeated facts, numbers of blocks, pieces.

    Args:
        model: The model.
        result: Its answer, changed in place.
        first_facts: The `response_metadata` of the first chunk: LangChain adds texts, and so joins what each
            chunk repeats.
        usage: What the call used, if each chunk repeated it.
    """
    package = _package_of(type(model))
    is_claude = package == "langchain_anthropic" and model.output_version != "v1"
    for generation in result.generations:
        message = generation.message
        for facts in (generation.generation_info, message.response_metadata):
            if facts:
                _mend_repeated(facts, first_facts)
                _mend_ends(facts)
        if usage is not None and isinstance(message, AIMessage):
            message.usage_metadata = cast("UsageMetadata", {**usage})
        # Only of packages that are known: other models may number the blocks of plain answers, too.
        if package and isinstance(message.content, list):
            message.content = [_without_index(block) for block in message.content]
        calls = message.additional_kwargs.get("tool_calls")
        if package and package not in _NUMBERS_CALLS and isinstance(calls, list):
            message.additional_kwargs["tool_calls"] = [_without_index(call) for call in calls]
        if is_claude and isinstance(message, AIMessage):
            message.content = _claude_content(message)
        elif package in _TEXT_IN_BLOCKS and isinstance(message.content, list):
            message.content = list(_blocks(message.content))
        elif package == "langchain_openai" and message.response_metadata.get("object") == "response":
            _complete_items(message)


def _mend_repeated(facts: dict[str, Any], first_facts: Mapping[str, Any]) -> None:
    for name, first in first_facts.items():
        found = facts.get(name)
        if isinstance(first, str) and isinstance(found, str) and len(found) > len(first) > 0:
            times, rest = divmod(len(found), len(first))
            if not rest and found == first * times:
                facts[name] = first


def _mend_ends(facts: dict[str, Any]) -> None:
    for name in _ENDS:
        value = facts.get(name)
        if isinstance(value, str) and (repeated := _REPEATED.fullmatch(value)):
            facts[name] = repeated[1]


def _without_index(block: Any) -> Any:
    """Return a block without the number by which LangChain merges chunks; so for parts of a summary."""
    if not isinstance(block, dict):
        return block
    parts = {
        name: [_without_index(part) for part in block[name]]
        for name in _PARTS & block.keys()
        if isinstance(block[name], list)
    }
    return {name: parts.get(name, value) for name, value in block.items() if name != "index"}


def _complete_items(message: BaseMessage) -> None:
    """Add what the items of OpenAI's Responses have in a plain answer, even where it says nothing."""
    is_complete = message.response_metadata.get("status") == "completed"
    for block in message.content:
        if isinstance(block, dict) and block.get("type") == "text" and "id" in block:
            block.setdefault("annotations", [])
        elif isinstance(block, dict) and block.get("type") == "function_call" and is_complete:
            block.setdefault("status", "completed")


def _claude_content(message: AIMessage) -> str | list[str | dict[Any, Any]]:
    """Return content as ChatAnthropic makes it of a whole answer.

    Its stream begins a list of blocks by an empty text, and keeps the arguments of a tool as pieces of JSON.
    It has a list wherever tools are bound; the plain answer is a `str` if there is nothing but text.
    """
    content = message.content
    blocks = [_with_input(block) for block in _blocks([content] if isinstance(content, str) else content)]
    match blocks:
        case [{"type": "text", "text": str(text), **more}] if not more.get("citations"):
            return text
        case _:
            return list(blocks)


def _blocks(content: Iterable[str | dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
    """Each piece of text as a block; an empty one is none."""
    for piece in content:
        if piece:
            yield {"type": "text", "text": piece} if isinstance(piece, str) else piece


def _with_input(block: dict[Any, Any]) -> dict[Any, Any]:
    pieces = block.get("partial_json")
    if not isinstance(pieces, str):
        return block
    try:
        arguments = json.loads(pieces or "{}")
    except ValueError:
        return block
    return {name: arguments if name == "input" else block[name] for name in block if name != "partial_json"}


def is_of_merging(error: Exception) -> bool:
    """Whether LangChain could not add up the chunks of a stream: the answer of a plain call has no chunks."""
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    names = {code.co_name for code in frames}
    return "generate_from_stream" in names and frames[-1].co_filename.startswith(_LANGCHAIN_CORE)


def has_end(generation: ChatGeneration) -> bool:
    """Whether an answer, or a chunk of one, says why the model stopped."""
    facts = {**generation.message.response_metadata, **(generation.generation_info or {})}
    return any(facts.get(name) for name in _ENDS)


@cache
def _package_of(model: type[BaseChatModel]) -> str:
    """The partner package that the streaming method comes from, however often a user has subclassed it."""
    packages = (cls.__module__.partition(".")[0] for cls in model.__mro__)
    return next((package for package in packages if package in _ALWAYS_ENDS), "")


def _has_own_endpoint(model: BaseChatModel) -> bool:
    """Whether the model talks to a server of the user's choice: a compatible one may leave the end out."""
    fields = type(model).model_fields
    for name in _ENDPOINTS:
        if name in fields and (value := getattr(model, name, None)) is not None:
            if value in _PROVIDERS_OWN:  # filled in by a factory or a validator
                continue
            default = fields[name].get_default(call_default_factory=False)
            if not isinstance(default, str) or value != default:
                return True
    return False


_LANGCHAIN_CORE = str(Path(langchain_core.__file__).parent)
_REPEATED = re.compile(r"([A-Za-z_]{3,}?)\1+")

# ------------------------------------------------------------------ what is known of providers

_ENDS = (
    "finish_reason",
    "stop_reason",
    "done_reason",
    "stopReason",
    "finishReason",
    "status",
    "incomplete_details",
)
"""The names under which providers say why a model stopped."""

_PARTS = frozenset({"summary", "thinking"})
"""The members of a block that are lists of numbered parts."""

_NUMBERS_CALLS = frozenset({"langchain_mistralai"})
"""The packages whose plain answers have numbers in the tool calls of `additional_kwargs`, too."""

_TEXT_IN_BLOCKS = frozenset({"langchain_mistralai"})
"""The packages whose plain answers have each text of a list as a block."""

_ALWAYS_ENDS = frozenset(
    {
        "langchain_anthropic",
        "langchain_deepseek",
        "langchain_google_genai",
        "langchain_groq",
        "langchain_mistralai",
        "langchain_ollama",
        "langchain_openai",
        "langchain_openrouter",
        "langchain_xai",
    }
)
"""The packages whose provider ends every complete stream with a reason."""

_ENDPOINTS = (
    "openai_api_base",
    "anthropic_api_url",
    "groq_api_base",
    "mistral_api_url",
    "endpoint",
    "base_url",
)

_PROVIDERS_OWN = ("https://api.anthropic.com", "https://api.mistral.ai/v1")
"""Endpoints that a model fills in by itself where the user names none."""
