"""A call's token counts as LangChain's messages take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def usage_metadata(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return counts that `AIMessageChunk(usage_metadata=...)` accepts: what a provider left out is 0.

    The total is the sum of both where it was left out. None stays None.
    """
    if usage is None:
        return None
    read, written = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        **usage,
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": usage.get("total_tokens", read + written),
    }
