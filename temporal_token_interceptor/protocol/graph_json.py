"""Events around the calls as they stand in a frame: tools, nodes, custom and graph events.

Each form once, writing beside reading; `docs/protocol.md` is the specification.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from temporal_token_interceptor.events import (
    Call,
    CustomEvent,
    Event,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    RetrieverEnded,
    RetrieverStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.origin_json import strings, typed

Around = (
    ToolStarted
    | ToolEnded
    | RetrieverStarted
    | RetrieverEnded
    | NodeStarted
    | NodeEnded
    | CustomEvent
    | GraphEvent
)

AROUND: dict[str, type[Around]] = {
    "tool": ToolStarted,
    "tool_end": ToolEnded,
    "retriever": RetrieverStarted,
    "retriever_end": RetrieverEnded,
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
    "task_id": ("task", str),
    "node_run_id": ("nrun", str),
    "run_id": ("run", str),
    "tool_call_id": ("id", str),
    "error": ("error", str),
    "input": ("in", str),
    "output": ("out", object),
    "document_count": ("count", int),
    "data": ("data", object),
    "truncated": ("cut", bool),
    "unfinished": ("open", bool),
    "interrupted": ("stop", bool),
    "forwarded": ("fwd", bool),
    "agent_name": ("agent", str),
    "made_ids": ("mids", list),
    "known_ids": ("kids", list),
    "known_inner_ids": ("iids", list),
}
_FIELDS = {event: [field for field in fields(event) if field.name in _MEMBERS] for event in AROUND.values()}
_READ = {  # name, member, type
    event: [
        (field.name, _MEMBERS[field.name][0], str if field.name == "output" and event is ToolEnded else kind)
        for field in found
        for kind in [_MEMBERS[field.name][1]]
    ]
    for event, found in _FIELDS.items()
}


def facts_around(event: Around) -> dict[str, Any]:
    """Return what differs from the default."""
    values = ((field, getattr(event, field.name)) for field in _FIELDS[type(event)])
    return {_MEMBERS[field.name][0]: value for field, value in values if value != field.default}


def unfold_around(wire: list[Any], origin: Origin, _: dict[int, Call], cursor: str) -> Event:
    """Return the event of a form; raises one of `BROKEN`."""
    event, facts = AROUND[wire[0]], typed(dict, wire[1])
    values: dict[str, Any] = {}
    for name, member, kind in _READ[event]:
        if (value := facts.get(member)) is not None:
            if kind is not object:
                typed(kind, value)
            values[name] = strings(value) if kind is list else value
    return event(**values, origin=origin, cursor=cursor)
