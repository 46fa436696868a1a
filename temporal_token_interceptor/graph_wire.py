"""Events around the calls as they stand in a frame: a kind, and an object of facts.

All six share their facts, so one table says how each is written and read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from temporal_token_interceptor.graph_events import (
    CustomEvent,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.origin import Origin

Around = ToolStarted | ToolEnded | NodeStarted | NodeEnded | CustomEvent | GraphEvent

AROUND: dict[str, type[Around]] = {
    "tool": ToolStarted,
    "tool_end": ToolEnded,
    "node": NodeStarted,
    "node_end": NodeEnded,
    "custom": CustomEvent,
    "graph": GraphEvent,
}
KIND_AROUND = {event: kind for kind, event in AROUND.items()}

_MEMBERS = {  # of their facts, by the name of the field
    "name": ("name", str),
    "mode": ("mode", str),
    "node_name": ("node", str),
    "path": ("path", list),
    "step": ("step", int),
    "run_id": ("run", str),
    "tool_call_id": ("id", str),
    "error": ("error", str),
    "input": ("in", str),
    "output": ("out", object),
    "data": ("data", object),
    "truncated": ("cut", bool),
    "unfinished": ("open", bool),
}
_FIELDS = {event: [field for field in fields(event) if field.name in _MEMBERS] for event in AROUND.values()}


def facts_around(event: Around) -> dict[str, Any]:
    """Return what differs from the default."""
    values = ((field, getattr(event, field.name)) for field in _FIELDS[type(event)])
    return {_MEMBERS[field.name][0]: value for field, value in values if value != field.default}


def event_around(kind: str, facts: Mapping[str, Any], origin: Origin, cursors: Iterator[str]) -> Around:
    """Read an event; take a cursor once all that can fail has been read.

    Raises:
        LookupError, TypeError, AttributeError: it is not what the specification says.
    """
    event = AROUND[kind]
    values: dict[str, Any] = {}
    for field in _FIELDS[event]:
        member, form = _MEMBERS[field.name]
        if member in facts:
            value = facts[member]
            if not isinstance(value, form):
                raise TypeError(f"expected {form.__name__}, found {type(value).__name__}")
            values[field.name] = tuple(facts[member]) if form is list else value
    return event(**values, origin=origin, cursor=next(cursors))
