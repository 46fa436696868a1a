"""The token counts that come in the chunks of one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.messages.ai import UsageMetadata, add_usage


class StreamUsage:
    """Adds up the counts of a stream, and knows a stream that repeats them.

    LangChain adds up what comes in the chunks. Most providers send parts, or all of it once. Some servers
    send what was used so far with each chunk; the sum of that is no count of anything.
    """

    __slots__ = ("_count", "_first", "_has_same_input", "_last", "_sum")

    def __init__(self) -> None:
        self._count = 0
        self._first: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}
        self._sum: UsageMetadata | None = None
        self._has_same_input = True

    def add(self, usage: Mapping[str, Any]) -> None:
        """Take the counts of a chunk; those that are no counts are left out, as LangChain cannot add them."""
        if not _are_counts(usage):
            return
        self._count += 1
        self._first = self._first or usage
        has_grown = usage.get("output_tokens", 0) >= self._last.get("output_tokens", 0)
        same = usage.get("input_tokens") == self._first.get("input_tokens")
        self._has_same_input = self._has_same_input and same and has_grown
        self._last = usage
        self._sum = add_usage(self._sum, cast("UsageMetadata", usage))

    @property
    def repeated(self) -> Mapping[str, Any] | None:
        """What was used, if each chunk repeated it: the prompt is counted in all of them, and it is one."""
        is_repeated = self._count > 1 and self._has_same_input and self._last.get("input_tokens", 0) > 0
        return self._last if is_repeated else None

    @property
    def used(self) -> Mapping[str, Any] | None:
        """What was used so far; None if nothing was said of it."""
        return self.repeated or self._sum


def _are_counts(usage: Mapping[str, Any]) -> bool:
    """Whether usage can be added up: a chunk is not checked when a model sets it."""
    for value in usage.values():
        if isinstance(value, Mapping):
            if not _are_counts(value):
                return False
        elif type(value) is not int and type(value) is not float:
            return False
    return True
