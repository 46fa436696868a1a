"""How a package shapes a plain answer, and so what the sum of its stream has to become.

LangChain adds up the chunks of a stream; each package's plain answer has another shape. What is here was
seen by running the packages: docs/providers.md has what remains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

Content = str | list[str | dict[Any, Any]]


def shape(package: str, model: BaseChatModel, message: AIMessage) -> None:
    """Give an answer that was made to stream the shape of a plain one.

    Args:
        package: The package whose code streamed; nothing is done for one that is not known.
        model: The model.
        message: Its answer, changed in place.
    """
    # Only of packages that are known: other models may number the blocks of plain answers, too.
    if package not in KNOWN:
        return
    if isinstance(message.content, list):
        message.content = [_without_index(block) for block in message.content]
    calls = message.additional_kwargs.get("tool_calls")
    if isinstance(calls, list) and package not in _NUMBERS_CALLS:
        message.additional_kwargs["tool_calls"] = [_without_index(call) for call in calls]
    if isinstance(kind := message.response_metadata.get("object"), str):
        message.response_metadata["object"] = kind.removesuffix(".chunk")
    if (own := _OWN.get(package)) and not (own in _TEXT_ALONE and model.output_version == "v1"):
        own(message)


# ------------------------------------------------------------------ each package's own


def _claude(message: AIMessage) -> None:
    """Return content as ChatAnthropic makes it of a whole answer.

    Its stream begins a list of blocks by an empty text, and keeps the arguments of a tool as pieces of JSON.
    It has a list wherever tools are bound; the plain answer is a `str` if there is nothing but text.
    """
    content = message.content
    blocks = [_with_input(block) for block in _blocks([content] if isinstance(content, str) else content)]
    match blocks:
        case [{"type": "text", "text": str(text), **more}] if not more.get("citations"):
            message.content = text
        case _:
            message.content = blocks


def _with_input(block: Any) -> Any:
    pieces = block.get("partial_json") if isinstance(block, dict) else None
    if not isinstance(pieces, str):
        return block
    arguments = _read(pieces)
    if arguments is None:
        return block
    return {name: arguments if name == "input" else block[name] for name in block if name != "partial_json"}


def _converse(message: AIMessage) -> None:
    """As Claude's: a `str` for text alone, and the arguments of a tool as values; here they are the input."""
    content = message.content
    blocks: list[Any] = [
        {**block, "input": _read(block["input"])}
        if isinstance(block, dict) and _read(block.get("input")) is not None
        else block
        for block in _blocks([content] if isinstance(content, str) else content)
    ]
    match blocks:
        case [{"type": "text", "text": str(text), **more}] if not more:
            message.content = text
        case _:
            message.content = blocks
    metrics = message.response_metadata.get("metrics")
    if isinstance(metrics, dict) and isinstance(metrics.get("latencyMs"), int):
        metrics["latencyMs"] = [metrics["latencyMs"]]


def _gemini(message: AIMessage) -> None:
    """Text is a block once there was a thought; line ends at the end of a text are taken off."""
    content = message.content
    if isinstance(content, str):
        message.content = content.rstrip("\n")
        return
    pieces = [
        {**piece, "text": str(piece["text"]).rstrip("\n")}
        if isinstance(piece, dict) and piece.get("type") == "text"
        else piece.rstrip("\n")
        if isinstance(piece, str)
        else piece
        for piece in content
    ]
    message.content = list(_blocks(pieces, after="thinking"))


def _mistral(message: AIMessage) -> None:
    """In a list, each text is a block."""
    if isinstance(message.content, list):
        message.content = list(_blocks(message.content))


def _openai(message: AIMessage) -> None:
    """The items of OpenAI's Responses have some members in a plain answer even where these say nothing."""
    if message.response_metadata.get("object") != "response":
        return
    is_complete = message.response_metadata.get("status") == "completed"
    for block in message.content:
        if isinstance(block, dict) and block.get("type") == "text" and "id" in block:
            block.setdefault("annotations", [])
        elif isinstance(block, dict) and block.get("type") == "function_call" and is_complete:
            block.setdefault("status", "completed")


def _openrouter(message: AIMessage) -> None:
    """The format of reasoning is named in each chunk, and LangChain adds the names up."""
    details = message.additional_kwargs.get("reasoning_details")
    for detail in details if isinstance(details, list) else ():
        kind = detail.get("format") if isinstance(detail, dict) else None
        if isinstance(kind, str) and (repeated := _REPEATED_FORMAT.fullmatch(kind)):
            detail["format"] = repeated[1]


# ------------------------------------------------------------------ what they share


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


def _blocks(content: Iterable[str | dict[Any, Any]], *, after: str = "") -> Iterator[str | dict[Any, Any]]:
    """Each piece of text as a block, from the first block of a type on; an empty one is none."""
    is_block = not after
    for piece in content:
        if isinstance(piece, str):
            if piece:
                yield {"type": "text", "text": piece} if is_block else piece
        else:
            is_block = is_block or piece.get("type") == after
            yield piece


def _read(pieces: object) -> Any:
    """Return the arguments in JSON; None where it is none."""
    if not isinstance(pieces, str):
        return None
    try:
        return json.loads(pieces or "{}")
    except ValueError:
        return None


_REPEATED_FORMAT = re.compile(r"([\w-]{5,}?)\1+")

# ------------------------------------------------------------------ what is known of packages

_OWN: Mapping[str, Callable[[AIMessage], None]] = {
    "langchain_anthropic": _claude,
    "langchain_aws.chat_models.bedrock_converse": _converse,
    "langchain_google_genai": _gemini,
    "langchain_mistralai": _mistral,
    "langchain_openai": _openai,
    "langchain_openrouter": _openrouter,
}

_TEXT_ALONE = (_claude, _converse)
"""What makes a `str` of text alone: not of LangChain's own blocks, which are a list in any case."""

KNOWN = frozenset(
    {*_OWN, "langchain_deepseek", "langchain_groq", "langchain_litellm", "langchain_ollama", "langchain_xai"}
)
"""The packages, or modules of one, whose plain answers were compared with their streams."""

_NUMBERS_CALLS = frozenset({"langchain_mistralai"})
"""The packages whose plain answers have numbers in the tool calls of `additional_kwargs`, too."""

_PARTS = frozenset({"summary", "thinking"})
"""The members of a block that are lists of numbered parts."""
