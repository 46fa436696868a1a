"""What a node's output is as an update of its graph, as JSON; pure, and without LangChain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from temporal_token_interceptor.events import NodeEnded

TRUNCATED: Final = {"__truncated__": True}
"""Stands for what was too long to be sent."""

START: Final = "__start__"
"""What runs the edges from a graph's start: a node for callbacks, and no update."""

_OF_A_COMMAND: Final = frozenset({"graph", "update", "resume", "goto"})


def node_update(event: NodeEnded, read: Callable[[object], Any]) -> dict[str, Any] | None:
    """Return `{node: update}` of a node that ended; None where it has none, or its graph forwards it.

    Args:
        event: The end.
        read: Returns what an output is as an update, such as `update_in`.
    """
    has_output = event.output is not None or event.truncated
    if event.forwarded or not has_output or event.node_name == START:
        return None
    return {event.node_name: TRUNCATED if event.truncated else read(event.output)}


def update_in(output: object) -> Any:
    """Return the update: of a `Command` that one, of several of them all, and else the output."""
    if isinstance(output, list):
        outputs = cast("list[object]", output)
        if any(is_command(one) for one in outputs):
            updates = [update for one in outputs if (update := update_in(one)) is not None]
            return updates if len(updates) > 1 else next(iter(updates), None)
    return cast("Mapping[str, object]", output)["update"] if is_command(output) else output


def is_command(value: object) -> bool:
    """Whether a JSON value is a `Command` as a worker writes it."""
    return isinstance(value, dict) and cast("dict[str, object]", value).keys() == _OF_A_COMMAND
