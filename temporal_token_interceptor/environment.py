"""Options from the environment: each has one name in code and one here.

`docs/operations.md` has the table; a test holds the two together, and another one that no option is left out.
Temporal's own (`TEMPORAL_*`) are read by its SDK:
`temporalio.envconfig.ClientConfig.load_client_connect_config()`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from temporal_token_interceptor.errors import ConfigurationError

logger = logging.getLogger(__name__)

_Made = TypeVar("_Made")


class Variable(NamedTuple):
    """What a variable sets.

    Attributes:
        option: The name of the argument.
        takes: What may stand in it, for readers of the documentation or of an error.
        read: Makes the argument of it; raises ValueError where it cannot. Whether the argument can be used is
            decided where it is in code, too: by the constructor.
    """

    option: str
    takes: str
    read: Callable[[str], Any]


def _seconds(text: str) -> timedelta:
    return timedelta(seconds=float(text))


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:  # what captures nothing, and that a comma does not mean
        raise ValueError("no name")
    return names


def _forced(text: str) -> str | bool:
    return text.lower() if text.lower() == "auto" else {"true": True, "false": False}[text.lower()]


def _switch(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _held(text: str) -> bool | list[str]:
    return _switch(text) if text.lower() in ("true", "false") else _names(text)


def _beats(text: str) -> str | timedelta:
    return text.lower() if text.lower() in ("auto", "off") else _seconds(text)


_NAMES = "names, separated by commas"

REDIS: Mapping[str, Variable] = {
    "REDIS_URL": Variable("redis_url", "`redis://`, `rediss://` or `unix://`, with redis-py's options", str),
    "TTI_CHANNEL_PREFIX": Variable("channel_prefix", "text without braces", str),
    "TTI_STREAM_MAXLEN": Variable("stream_maxlen", "a whole number above 0", int),
    "TTI_STREAM_TTL_SECONDS": Variable("stream_ttl_seconds", "a whole number above 0", int),
    "TTI_PATIENCE_SECONDS": Variable("patience", "seconds above 0", _seconds),
}
"""What `RedisStreamBackend` takes."""

INTERCEPTOR: Mapping[str, Variable] = {
    "TTI_NODES": Variable("nodes", _NAMES, _names),
    "TTI_ACTIVITIES": Variable("activities", _NAMES, _names),
    "TTI_TAGS": Variable("tags", _NAMES, _names),
    "TTI_KINDS": Variable(
        "kinds", "some of `text,reasoning,tool_call,block,tool,node,custom`, separated by commas", _names
    ),
    "TTI_CAPTURE": Variable(
        "capture",
        "some of `tool_input,tool_output,node_output,retriever_input,retriever_output,media`, separated by "
        "commas",
        _names,
    ),
    "TTI_METADATA_KEYS": Variable("metadata_keys", _NAMES, _names),
    "TTI_RETRIEVERS": Variable("retrievers", "`true` or `false`", _switch),
    "TTI_HOLD_CALLS": Variable("hold_calls", "`true`, `false`, or names, separated by commas", _held),
    "TTI_FORCE_STREAMING": Variable("force_streaming", "`auto`, `true` or `false`", _forced),
    "TTI_HEARTBEAT": Variable("heartbeat", "`auto`, `off`, or seconds above 0", _beats),
    "TTI_STALL_TIMEOUT_SECONDS": Variable("stall_timeout", "seconds above 0", _seconds),
    "TTI_LIVE": Variable("live", "`auto`, `off`, or seconds above 0", _beats),
    "TTI_FALLBACK": Variable("fallback", "`off` or `heartbeats`", str.lower),
    "TTI_SUMMARY": Variable("summary", "`auto` or `off`", str.lower),
    "TTI_FLUSH_TIMEOUT_SECONDS": Variable("flush_timeout", "seconds, 0 or more", _seconds),
    "TTI_GENAI_SPANS": Variable("genai_spans", "`auto`, `on` or `off`", str.lower),
    "TTI_MAX_BUFFERED_BYTES": Variable("max_buffered_bytes", "a whole number above 0", int),
}
"""What `TokenStreamingInterceptor` takes, and `TokenStreamingPlugin` for it."""

SUBSCRIBER: Mapping[str, Variable] = {
    "TEMPORAL_NAMESPACE": Variable("namespace", "a name", str),
    "TTI_START_TIMEOUT_SECONDS": Variable("start_timeout", "seconds, 0 or more", _seconds),
    "TTI_PATIENCE_SECONDS": Variable("patience", "seconds above 0", _seconds),
    "TTI_FALLBACK": Variable("fallback", "`off` or `heartbeats`", str.lower),
    "TTI_ACCEPT_PLAIN_FRAMES": Variable("accept_plain_frames", "`true` or `false`", _switch),
}
"""What `TokenSubscriber` takes."""


def options(
    variables: Mapping[str, Variable], environ: Mapping[str, str] | None = None, *, but: Collection[str] = ()
) -> dict[str, Any]:
    """Return the options that the environment sets, as keyword arguments.

    Args:
        variables: Which are looked for; what is unset or empty is left out.
        environ: Instead of `os.environ`.
        but: Options that are set otherwise: their variables are not looked at.

    Raises:
        ConfigurationError: a variable cannot be read; names it, and not its value, which may be a secret.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    for name, variable in variables.items():
        text = environ.get(name)
        if text and variable.option not in but:
            try:
                found[variable.option] = variable.read(text)
            except (ValueError, KeyError, OverflowError):
                raise _unusable(name, variable) from None
    return found


def warn_of_unknown(environ: Mapping[str, str] | None = None) -> None:
    """Log the variables that begin like ours and are none: a misspelt filter would filter nothing, unseen.

    Not an error: a version that is rolled back meets the variables of the later one.
    """
    known = {*REDIS, *INTERCEPTOR, *SUBSCRIBER}
    for name in os.environ if environ is None else environ:
        if name.startswith("TTI_") and not name.startswith("TTI_TEST_") and name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; {close[0]} is one" if close else ""
            logger.warning("the environment variable %s sets nothing%s; see docs/operations.md", name, hint)


def made(
    make: Callable[..., _Made],
    variables: Mapping[str, Variable],
    environ: Mapping[str, str] | None = None,
    **more: Any,
) -> _Made:
    """Return what `make` makes of the options that the environment sets, and of more, which come first.

    Raises:
        ConfigurationError: a variable cannot be used: names it, not its value. Or more cannot.
    """
    found = options(variables, environ, but=more)
    try:
        return make(**found, **more)
    except ConfigurationError:
        make(**more)  # raises if it is not the environment's fault
        for name, variable in variables.items():
            if variable.option in found:
                try:
                    make(**{variable.option: found[variable.option]}, **more)
                except ConfigurationError:
                    raise _unusable(name, variable) from None
        raise


def _unusable(name: str, variable: Variable) -> ConfigurationError:
    return ConfigurationError(
        f"the environment variable {name} must be {variable.takes} (it sets {variable.option}); "
        "correct it or unset it; see docs/operations.md"
    )
