"""Options from the environment: each has one name in code and one here.

`docs/operations.md` has the table; a test holds the two together. Temporal's own (`TEMPORAL_*`) are read by
its SDK: `temporalio.envconfig.ClientConfig.load_client_connect_config()`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError


def _seconds(text: str) -> timedelta:
    return timedelta(seconds=float(text))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _forced(text: str) -> str | bool:
    return text.lower() if text.lower() == "auto" else {"true": True, "false": False}[text.lower()]


_Variables = Mapping[str, tuple[str, Callable[[str], Any]]]

REDIS: _Variables = {
    "REDIS_URL": ("redis_url", str),
    "TTI_CHANNEL_PREFIX": ("channel_prefix", str),
    "TTI_STREAM_MAXLEN": ("stream_maxlen", int),
    "TTI_STREAM_TTL_SECONDS": ("stream_ttl_seconds", int),
    "TTI_PATIENCE_SECONDS": ("patience", _seconds),
}
"""What `RedisStreamBackend` takes."""

INTERCEPTOR: _Variables = {
    "TTI_NODES": ("nodes", _names),
    "TTI_ACTIVITIES": ("activities", _names),
    "TTI_FORCE_STREAMING": ("force_streaming", _forced),
    "TTI_FLUSH_TIMEOUT_SECONDS": ("flush_timeout", _seconds),
    "TTI_MAX_BUFFERED_BYTES": ("max_buffered_bytes", int),
}
"""What `TokenStreamingInterceptor` takes."""


def options(variables: _Variables, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the options that the environment sets, as keyword arguments; what is unset or empty is left out.

    Raises:
        ConfigurationError: a variable cannot be read; names it, and not its value, which may be a secret.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    for variable, (option, read) in variables.items():
        if text := environ.get(variable):
            try:
                found[option] = read(text)
            except (ValueError, KeyError, OverflowError):
                raise ConfigurationError(
                    f"the environment variable {variable} cannot be used for {option}; see docs/operations.md"
                ) from None
    return found
