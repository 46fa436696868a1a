"""Which numbers all readers of JSON keep: one rule for what is captured and for what is written."""

from __future__ import annotations

from math import isfinite
from typing import Final

_MOST_BITS: Final = 10_000  # of an integer that is written out


def json_integer(value: int) -> int | str | None:
    """Return an integer that readers of JSON keep; a larger one as text, since most of them would round it.

    One of thousands of digits is None: writing it out takes a time that grows with its square.
    """
    if -(2**63) <= value < 2**64:
        return value
    return str(int(value)) if value.bit_length() < _MOST_BITS else None


def json_real(value: float) -> float | None:
    """Return a number that JSON has; None for infinity and for what is no number."""
    return value if isfinite(value) else None
