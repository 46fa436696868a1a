"""Checks of arguments that users pass: each raises `ConfigurationError` with the name of the argument."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError


def positive_duration(name: str, value: object) -> timedelta:
    """Return a timedelta above zero, else raise `ConfigurationError`."""
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ConfigurationError(f"{name} must be a positive timedelta, not {value!r}")
    return value


def duration(name: str, value: object) -> timedelta:
    """Return a timedelta of zero or more, else raise `ConfigurationError`."""
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise ConfigurationError(f"{name} must be a timedelta that is not negative, not {value!r}")
    return value


def positive_number(name: str, value: object, *, unit: str = "", below: int | None = None) -> int:
    """Return a whole number above zero, else raise `ConfigurationError`.

    Args:
        name: The argument.
        value: What was passed. `True` is no number.
        unit: What is counted, for the message.
        below: What it may not reach; None for any size.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < (below or math.inf):
        of_what = f" of {unit}" if unit else ""
        under = "" if below is None else f" below {below}"
        raise ConfigurationError(f"{name} must be a positive whole number{of_what}{under}, not {value!r}")
    return value


def one_of(name: str, value: Any, known: Collection[object]) -> None:
    """Raise `ConfigurationError` unless the value is one of the known ones, of the same type."""
    if not any(type(value) is type(one) and value == one for one in known):
        choices = ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in known)
        raise ConfigurationError(f"{name} must be one of {choices}, not {value!r}")
