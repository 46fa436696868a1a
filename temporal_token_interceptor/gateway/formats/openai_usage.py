"""What all model calls of a workflow used together, as OpenAI's protocols report it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temporal_token_interceptor.views.changes import View


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens.

    Attributes:
        input: Of prompts.
        cached: Of these, those that the provider had cached.
        output: Of answers.
        reasoning: Of these, those of reasoning.
        total: As providers count it.
    """

    input: int
    cached: int
    output: int
    reasoning: int
    total: int

    def as_response(self) -> dict[str, Any]:
        """Return it as the Responses API has it."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total,
        }

    def as_chat(self) -> dict[str, Any]:
        """Return it as chat completions have it."""
        return {
            "prompt_tokens": self.input,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens": self.output,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total,
        }


def usage_of(view: View) -> Usage | None:
    """Return what the calls that stand used; None where no provider reported it."""
    found = [item.facts["usage"] for item in view.items.values() if "usage" in item.facts]
    if not found:
        return None
    return Usage(
        _sum(found, "input_tokens"),
        _sum(found, "input_token_details", "cache_read"),
        _sum(found, "output_tokens"),
        _sum(found, "output_token_details", "reasoning"),
        _sum(found, "total_tokens"),
    )


def _sum(found: list[Mapping[str, Any]], *names: str) -> int:
    total = 0
    for usage in found:
        value: Any = usage
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        total += value if isinstance(value, int) else 0
    return total
