"""What a graph's stream modes say, as a reader gets it: JSON values, and LangChain's messages among them.

A worker sends messages as JSON objects of their fields. Here they are messages again, so that a loop that
was written for `graph.astream` finds `chunk["messages"][-1].text`. All else stays JSON: tuples are lists;
dataclasses, models of the user's own, `Interrupt` and `Send` are dicts of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from langchain_core.messages import messages_from_dict

from temporal_token_interceptor.views.graph_updates import update_in

_DEEPEST: Final = 64
"""Workers write 32 levels; anyone may write an entry, and Python stops at a thousand."""

_OF_A_MESSAGE: Final = frozenset({"type", "content", "additional_kwargs", "response_metadata"})


def with_messages(value: object, depth: int = 0) -> Any:
    """Return JSON values in which each object of a message's fields is that message."""
    if depth > _DEEPEST:
        return value
    if isinstance(value, list):
        return [with_messages(part, depth + 1) for part in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        if members.keys() >= _OF_A_MESSAGE and (message := _message(members)) is not None:
            return message
        return {name: with_messages(part, depth + 1) for name, part in members.items()}
    return value


def update_of(output: object) -> Any:
    """Return what a node's output is in the mode `updates`: of a `Command`, its update."""
    return with_messages(update_in(output))


def _message(members: Mapping[str, object]) -> object | None:
    """Return the message; None where this LangChain does not take it, and it stays JSON."""
    try:
        return messages_from_dict([{"type": members["type"], "data": dict(members)}])[0]
    except Exception:  # noqa: BLE001 - validators of LangChain raise what they like, and others may write entries
        return None
