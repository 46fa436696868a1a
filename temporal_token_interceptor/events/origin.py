"""Where an event comes from: the attempt of an activity (`Origin`), the model call (`Call`), the node.

Pure data, and the bases that all events share. Import these names from `events`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

HISTORY = "h"
"""Begins the ids of entries that were read from Temporal's history; no transport's begins so."""

LIVE = "L"
"""Begins those of entries that were read from heartbeats: before those of the history, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Origin:
    """One attempt of one activity.

    `(run_id, activity_id, attempt)` does not name an attempt: an activity reset repeats the number.
    `attempt_id` does, and `started_time` (the Temporal server's clock, never the worker's) orders the
    attempts of one activity.

    Attributes:
        namespace: The Temporal namespace.
        workflow_id: The workflow; `activity:<activity_id>` for a standalone activity.
        workflow_type: Its type; empty for a standalone activity.
        run_id: The run of the workflow, or of the standalone activity.
        activity_id: The activity; `nexus:<request id>` for a Nexus operation.
        activity_type: Its type; `<service>/<operation>` for a Nexus operation.
        attempt: Temporal's number of the attempt, from 1.
        attempt_id: Distinguishes attempts: the first 16 hex digits of the task token's SHA-256.
        started_time: When Temporal's server started it; of a Nexus operation, by the worker's clock.
        scheduled_time: When the activity was scheduled, by Temporal's server: the same for all attempts of an
            activity, and another one where a workflow uses an `activity_id` again. None if not known.
        parent: The workflow that started this one, by its id: only of a child in `subscribe(children=True)`.

    Source: `temporalio.activity.info()`.
    """

    namespace: str
    workflow_id: str
    workflow_type: str = ""
    run_id: str
    activity_id: str
    activity_type: str = ""
    attempt: int = 1
    attempt_id: str
    started_time: datetime
    scheduled_time: datetime | None = None
    parent: str | None = None

    def __repr__(self) -> str:
        # It stands in every event, and a printed event should show what it says.
        activity = f"{self.activity_type or 'activity'} {self.activity_id}"
        return f"<{activity}, attempt {self.attempt}, of {self.workflow_id}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Call:
    """One call of a model, as known when it started; shared by all events of the call.

    Attributes:
        ordinal: Counts the calls of an attempt from 0.
        id: `<activity_id>:<ordinal>`: the same for the same call in every attempt.
        run_id: LangChain's run id: different in every attempt.
        node_name: The LangGraph node, or the activity type outside of a graph.
        path: The subgraph path, outermost first, without the node itself: empty in a plain graph.
        step: LangGraph's superstep, where there is one.
        agent_name: The name given to `create_agent` or to a sub-agent.
        model: The model's name as LangChain reports it.
        provider: The provider's name as LangChain reports it.
        tags: LangChain's tags of the call.
        tool_call_id: The tool call that the model runs under, as a sub-agent does.
        parent: The `ordinal` of the call within which this one runs: that of a model which calls a model.
        task_id: LangGraph's id of the task: of one run of the node, so that branches of `Send` differ.
        node_run_id: The `run_id` of the node that it runs in, where nodes are captured.
        metadata: Your own, of the keys that the worker is configured to send (`metadata_keys`).
    """

    ordinal: int
    id: str = ""
    run_id: str = ""
    node_name: str
    path: tuple[str, ...] = ()
    step: int | None = None
    agent_name: str | None = None
    model: str | None = None
    provider: str | None = None
    tags: tuple[str, ...] = ()
    tool_call_id: str | None = None
    parent: int | None = None
    task_id: str | None = None
    node_run_id: str | None = None
    metadata: Mapping[str, Any] | None = field(default=None, hash=False)

    def __repr__(self) -> str:
        return f"<call {self.id or self.ordinal} in {'/'.join((*self.path, self.node_name))}>"


# What an event has for an origin or a call until a reader places it: in a subscription, never.
NO_ORIGIN = Origin(
    namespace="",
    workflow_id="",
    run_id="",
    activity_id="",
    attempt=0,
    attempt_id="",
    started_time=datetime.fromtimestamp(0, UTC),
)
NO_CALL = Call(ordinal=-1, node_name="")


JSON_VERSION = 1
"""The version of what `EventBase.to_json` returns; the wire form of frames has its own."""


def json_type(kind: type[Any]) -> str:
    """Return a class's `type` in JSON: `token` for `TokenEvent`, `call_ended` for `CallEnded`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__.removesuffix("Event")).lower()


_NAMES: dict[type[Any], tuple[str, ...]] = {}  # of the members of each class of records, once looked up


def _members(record: Any) -> dict[str, Any]:
    kind = type(record)
    if (names := _NAMES.get(kind)) is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    return {name: _json_value(getattr(record, name)) for name in names}


def _json_value(value: Any) -> Any:
    match value:
        case Origin() | Call():
            return _members(value)
        case datetime():
            return value.isoformat()
        case tuple():
            return list(value)
        case _:
            return value


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBase:
    """What every event has.

    Attributes:
        cursor: Resumes right after the event.
    """

    cursor: str = ""

    @property
    def from_history(self) -> bool:
        """Whether it came from Temporal's history, because no transport had it: late, and all at once."""
        entry = self.cursor.rpartition("~")[0].rpartition("~")[2]
        return entry.rpartition(".")[2].startswith(HISTORY)

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON values, for any encoder: `v`, `type`, and every attribute by its name.

        It stands alone: the whole `origin` and `call` are in it, times are ISO 8601. `event_from_json` reads
        it; `docs/events.schema.json` describes it. Members and types may be added within a version; no member
        changes its meaning.
        """
        return {"v": JSON_VERSION, "type": json_type(type(self)), **_members(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEvent(EventBase):
    """What an attempt said: `origin` names the attempt."""

    origin: Origin = NO_ORIGIN
