"""The answer of a call that was made to stream: whether it is whole, and what makes it that of a plain call.

LangChain adds up the chunks of a stream. The sum has what the plain answer has, and traces of its pieces;
these are taken out where streaming was our idea. Knowledge about providers is data at the end, and in
`plain_shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from temporal_token_interceptor.capture.forcing import failed_in
from temporal_token_interceptor.capture.plain_shapes import KNOWN, shape
from temporal_token_interceptor.errors import IncompleteAnswer


def check_end(model: BaseChatModel, generations: Sequence[ChatGeneration]) -> None:
    """Raise if a streamed answer ended without the end that its provider always sends, or by its failure.

    Raises:
        IncompleteAnswer: the body ended early, however cleanly. A plain call would have raised, too.
    """
    package = _package_of(type(model), _ALWAYS_ENDS)
    if package not in _ALWAYS_ENDS or _has_own_endpoint(model):
        return
    if any((package, _finish_of(generation)) in _FAILURES for generation in generations):
        raise IncompleteAnswer(
            f"the provider of {type(model).__name__} failed in mid-stream: the answer is cut off; "
            "Temporal retries the activity"
        )
    if not any(has_end(generation) for generation in generations):
        raise IncompleteAnswer(
            f"the stream of {type(model).__name__} ended without a finish reason: the answer is cut off; "
            "Temporal retries the activity"
        )


class NothingSaid(Exception):
    """A stream said nothing at all, where the plain answer may say something."""


def check_said(model: BaseChatModel, generations: Sequence[ChatGeneration]) -> None:
    """Raise if a streamed answer says nothing, and the stream may be the reason.

    Raises:
        NothingSaid: the model stopped by itself and its package leaves refusals out of a stream; or it
            streamed empty chunks and nothing else, as one that has no stream. The call is worth a repetition.
    """
    if any(map(says_something, generations)):
        return
    stops = [_finish_of(generation) for generation in generations]
    if drops_refusals(type(model)) and stops and all(stop == "stop" for stop in stops):
        raise NothingSaid
    is_bare = not any(has_end(generation) or has_usage(generation) for generation in generations)
    if is_bare and _package_of(type(model), _ALWAYS_ENDS) not in _ALWAYS_ENDS:
        raise NothingSaid


def has_usage(generation: ChatGeneration) -> bool:
    """Whether an answer, or a chunk of one, says what was used: then a model has really run."""
    return bool(getattr(generation.message, "usage_metadata", None))


def says_something(generation: ChatGeneration) -> bool:
    """Whether there is a text, a tool call, or something of the provider's own."""
    message = generation.message
    return bool(message.content or getattr(message, "tool_calls", None) or message.additional_kwargs)


@cache
def drops_refusals(model: type[BaseChatModel]) -> bool:
    """Whether a model's package leaves refusals out of its streams; also where it inherits its streaming."""
    return any(cls.__module__.partition(".")[0] in _DROPS_REFUSALS for cls in model.__mro__)


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
    package = _package_of(type(model), KNOWN)
    for generation in result.generations:
        message = generation.message
        for facts in (generation.generation_info, message.response_metadata):
            if facts:
                _mend_repeated(facts, first_facts)
                _mend_ends(facts)
        if isinstance(message, AIMessage):
            if usage is not None:
                message.usage_metadata = cast("UsageMetadata", {**usage})
            shape(package, model, message)
            generation.text = message.text


def _mend_repeated(facts: dict[str, Any], first_facts: Mapping[str, Any]) -> None:
    for name, first in first_facts.items():
        found = facts.get(name)
        if isinstance(first, str) and isinstance(found, str) and len(found) > len(first) > 0:
            times, rest = divmod(len(found), len(first))
            if not rest and found == first * times:
                facts[name] = first


def _mend_ends(facts: dict[str, Any]) -> None:
    """Take out what came twice, and not in the first chunk: ends, and the names of models."""
    for names, repetition in ((_ENDS, _REPEATED), (_NAMES, _REPEATED_NAME)):
        for name in names:
            value = facts.get(name)
            if isinstance(value, str) and (repeated := repetition.fullmatch(value)):
                facts[name] = repeated[1]


def _finish_of(generation: ChatGeneration) -> Any:
    facts = {**(generation.generation_info or {}), **generation.message.response_metadata}
    return facts.get("finish_reason")


def is_of_merging(error: Exception) -> bool:
    """Whether the chunks of a stream could not be added up: the answer of a plain call has no chunks."""
    return failed_in(error) == "generate_from_stream"


def has_end(generation: ChatGeneration) -> bool:
    """Whether an answer, or a chunk of one, says why the model stopped."""
    facts = {**generation.message.response_metadata, **(generation.generation_info or {})}
    return any(facts.get(name) for name in _ENDS)


@cache
def _package_of(model: type[BaseChatModel], known: frozenset[str]) -> str:
    """The partner package that the streaming method comes from, however often a user has subclassed it.

    A module of it, where it is the module that is known.
    """
    modules = (cls.__module__ for cls in model.__mro__)
    names = (name for module in modules for name in (module, module.partition(".")[0]))
    return next((name for name in names if name in known), "")


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


_REPEATED = re.compile(r"([A-Za-z_]{3,}?)\1+")
_REPEATED_NAME = re.compile(r"(.{3,128}?)\1+")

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

_NAMES = ("model_name", "model", "model_provider", "system_fingerprint", "service_tier")
"""What says which model answered, and is the same in each chunk that has it."""

_FAILURES = frozenset({("langchain_openrouter", "error")})
"""The packages, each with the finish reason by which its provider says that it failed.

Without a stream the package raises: OpenRouter then answers with an error.
"""

_DROPS_REFUSALS = frozenset({"langchain_openai"})
"""The packages whose streams of chat completions lose `refusal`, which is all that such an answer has."""

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
