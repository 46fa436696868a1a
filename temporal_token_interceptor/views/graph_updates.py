"""What a node's output is as an update of its graph, as JSON; pure, and without LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

TRUNCATED: Final = {"__truncated__": True}
"""Stands for what was too long to be sent."""

START: Final = "__start__"
"""What runs the edges from a graph's start: a node for callbacks, and no update."""

_OF_A_COMMAND: Final = frozenset({"graph", "update", "resume", "goto"})


def update_in(output: object) -> Any:
    """Return the update: of a `Command` that one, of several of them all, and else the output."""
    if isinstance(output, list):
        outputs = cast("list[object]", output)
        if any(_is_command(one) for one in outputs):
            updates = [update for one in outputs if (update := update_in(one)) is not None]
            return updates if len(updates) > 1 else next(iter(updates), None)
    return cast("Mapping[str, object]", output)["update"] if _is_command(output) else output


def _is_command(value: object) -> bool:
    return isinstance(value, dict) and cast("dict[str, object]", value).keys() == _OF_A_COMMAND
