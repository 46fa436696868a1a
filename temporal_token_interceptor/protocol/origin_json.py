"""Origins and calls as they stand in a frame: each JSON form once, writing beside reading.

`docs/protocol.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporal_token_interceptor.events.origin import Call, Origin

_T = TypeVar("_T")

BROKEN = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a form can raise if it is not what the specification says."""


def typed(kind: type[_T], value: object) -> _T:
    """Return `value`; raise `TypeError` if JSON had something else there.

    Exactly that type: JSON knows no others, and `true` is no number.
    """
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def optional(kind: type[_T], value: object) -> _T | None:
    """Return `value`, which may be null; raise `TypeError` if it is something else."""
    return None if value is None else typed(kind, value)


def strings(value: object) -> tuple[str, ...]:
    """Return a list of strings, empty for null; raise `TypeError` if it is something else."""
    return () if value is None else tuple(typed(str, part) for part in typed(list, value))


def number(value: object) -> int:
    """Return a whole number from 0; raise `TypeError` or `ValueError` if it is something else."""
    if (found := typed(int, value)) < 0:
        raise ValueError("expected a number from 0")
    return found


def origin_to_wire(origin: Origin) -> dict[str, Any]:
    """Return a frame's `o`; the attempt id stands in `a`."""
    wire = {
        "ns": origin.namespace,
        "wf": origin.workflow_id,
        "wft": origin.workflow_type,
        "run": origin.run_id,
        "act": origin.activity_id,
        "actt": origin.activity_type,
        "try": origin.attempt,
        "t": time_to_wire(origin.started_time),
    }
    if origin.scheduled_time is not None:
        wire["sch"] = time_to_wire(origin.scheduled_time)
    return wire


def origin_from_wire(wire: Mapping[str, Any], attempt_id: str) -> Origin:
    """Read a frame's `o`; raises one of `BROKEN`."""
    return Origin(
        namespace=typed(str, wire["ns"]),
        workflow_id=typed(str, wire["wf"]),
        workflow_type=typed(str, wire["wft"]),
        run_id=typed(str, wire["run"]),
        activity_id=typed(str, wire["act"]),
        activity_type=typed(str, wire["actt"]),
        attempt=number(wire["try"]),
        attempt_id=attempt_id,
        started_time=time_from_wire(typed(int, wire["t"])),
        scheduled_time=None if (time := wire.get("sch")) is None else time_from_wire(typed(int, time)),
    )


def time_to_wire(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def time_from_wire(microseconds: int) -> datetime:
    """Return the time; raises one of `BROKEN`."""
    return _EPOCH + microseconds * _MICROSECOND


_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def call_to_wire(call: Call) -> dict[str, Any]:
    """Return a call's facts, without those that it has not."""
    facts = {
        "i": call.ordinal,
        "run": call.run_id,
        "node": call.node_name,
        "path": call.path,
        "step": call.step,
        "agent": call.agent_name,
        "model": call.model,
        "provider": call.provider,
        "tags": call.tags,
        "tool": call.tool_call_id,
        "up": call.parent,
        "task": call.task_id,
        "nrun": call.node_run_id,
        "meta": call.metadata,
    }
    return without_empty(facts)


def call_from_wire(wire: Mapping[str, Any], activity_id: str) -> Call:
    """Read a call's facts; raises one of `BROKEN`."""
    ordinal = number(wire["i"])
    return Call(
        ordinal=ordinal,
        id=f"{activity_id}:{ordinal}",
        run_id=optional(str, wire.get("run")) or "",
        node_name=optional(str, wire.get("node")) or "",
        path=strings(wire.get("path")),
        step=optional(int, wire.get("step")),
        agent_name=optional(str, wire.get("agent")),
        model=optional(str, wire.get("model")),
        provider=optional(str, wire.get("provider")),
        tags=strings(wire.get("tags")),
        tool_call_id=optional(str, wire.get("tool")),
        parent=None if (parent := wire.get("up")) is None else number(parent),
        task_id=optional(str, wire.get("task")),
        node_run_id=optional(str, wire.get("nrun")),
        metadata=optional(dict, wire.get("meta")),
    )


def without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing: a reader takes an absent fact for empty, false or unknown."""
    return {name: value for name, value in facts.items() if value or (value == 0 and value is not False)}
