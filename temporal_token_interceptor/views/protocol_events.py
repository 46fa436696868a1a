"""Events in the envelope of LangGraph's protocol, v3: `{type, seq, method, params}`; pure.

The methods are LangGraph's: `messages`, `tools`, `lifecycle`, and the stream modes of a graph. What LangGraph
has no method for, because its run has no attempts and no holes, has one of ours, `custom:temporal`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    RetrieverEnded,
    RetrieverStarted,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.views.call_metadata import message_id, of_call
from temporal_token_interceptor.views.graph_updates import TRUNCATED, node_update, update_in
from temporal_token_interceptor.views.message_events import MessageEvent, MessageEvents, failure
from temporal_token_interceptor.views.namespaces import Namespace, Namespaces, level_of
from temporal_token_interceptor.views.returned_messages import of_node, whole_messages
from temporal_token_interceptor.views.sequence import time_of
from temporal_token_interceptor.views.subgraphs import Reported, Subgraphs

ProtocolEvent = dict[str, Any]
"""LangGraph's `ProtocolEvent`: `type`, `seq`, `event_id`, `method`, and `params` with `namespace`,
`timestamp`, `data`; and, of an attempt's events, with `origin`.
"""

TEMPORAL = "custom:temporal"
"""The method of what LangGraph has none for: attempts, gaps, retrievers, further runs and the end."""


class ProtocolEvents:
    """Turns events into protocol events without their numbers, one by one."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, int], _LiveCall] = {}
        self._tools: dict[tuple[str, str], ToolStarted] = {}  # those that run, by attempt and run
        self._namespaces = Namespaces()
        self._subgraphs = Subgraphs()
        self._made: list[ProtocolEvent] = []
        self._place = ""  # the entry of the last event, and when it was stored
        self._time = 0
        self._origins: dict[str, dict[str, Any]] = {}

    def read(self, event: Event) -> list[ProtocolEvent]:
        """Return what an event adds."""
        place = event.cursor.rpartition("~")[0]
        if place != self._place or not self._time:
            self._place = place
            self._time = time_of(place) or _started(event) or self._time
        match event:
            case TokenEvent() | ReasoningEvent() | ToolCallChunk() | ContentBlock() | CallStarted():
                live = self._call(event.origin, event.call, event)
                self._say(live, live.events.add(event))
            case CallEnded():
                live = self._call(event.origin, event.call, event)
                self._say(live, live.events.finish(event))
                del self._live[event.origin.attempt_id, event.call.ordinal]
            case ToolStarted() | ToolEnded():
                self._tool(event)
            case NodeStarted() | NodeEnded():
                self._node(event)
            case CustomEvent(forwarded=False):
                data = TRUNCATED if event.truncated else event.data
                payload = {"name": event.name, "payload": data}
                self._add("custom", self._placed(event), payload, event.origin)
            case GraphEvent():
                self._graph(event)
            case AttemptStarted() | AttemptEnded() | Gap() | RunContinued() | StreamEnded():
                self._life(event)
            case RetrieverStarted() | RetrieverEnded() | CustomEvent():
                self._add(TEMPORAL, self._placed(event), event.to_json(), event.origin)
            case _:
                assert_never(event)
        made, self._made = self._made, []
        return made

    # ------------------------------------------------------------------ one event

    def _call(self, origin: Origin, call: Call, event: AttemptEvent) -> _LiveCall:
        key = (origin.attempt_id, call.ordinal)
        live = self._live.get(key)
        if live is None:
            namespace = self._namespaces.of(call)
            self._lifecycle(self._subgraphs.see(event, namespace, None))
            live = self._live[key] = _LiveCall(MessageEvents(origin, call), namespace)
            self._say(live, [live.events.start])
        return live

    def _say(self, live: _LiveCall, made: Iterable[MessageEvent]) -> None:
        for one in made:
            self._add("messages", live.namespace, (one, live.metadata), live.events.origin)

    def _tool(self, event: ToolStarted | ToolEnded) -> None:
        self._subgraphs.note_tool(event)
        key = (event.origin.attempt_id, event.run_id)
        if isinstance(event, ToolStarted):
            self._tools[key] = event
        else:
            self._tools.pop(key, None)
        namespace = self._placed(event)
        data: dict[str, Any] = {"tool_call_id": event.tool_call_id or event.run_id}
        if isinstance(event, ToolStarted):
            data = {"event": "tool-started", **data, "tool_name": event.name}
            if event.input is not None:
                data["input"] = _object(event.input, is_cut=event.truncated)
        elif event.interrupted:
            return  # it runs again when the graph is resumed, and reports its end then
        elif event.error is not None or event.unfinished:
            data = {"event": "tool-error", **data, "message": event.error or "unfinished"}
        else:
            data = {"event": "tool-finished", **data, "output": event.output}
        self._add("tools", namespace, data, event.origin)

    def _node(self, event: NodeStarted | NodeEnded) -> None:
        namespace = self._placed(event)
        if isinstance(event, NodeStarted):
            self._namespaces.begin(event)
            return
        for message in whole_messages(event):
            self._add("messages", namespace, (message, of_node(event)), event.origin)
        self._lifecycle(self._subgraphs.end(event, (*namespace, level_of(event))))
        self._namespaces.end(event)
        if (update := node_update(event, update_in)) is not None:
            self._add("updates", namespace, update, event.origin)

    def _graph(self, event: GraphEvent) -> None:
        self._lifecycle(self._subgraphs.see(event, event.path, None))
        self._add(event.mode, event.path, TRUNCATED if event.truncated else event.data, event.origin)

    def _life(self, event: AttemptStarted | AttemptEnded | Gap | RunContinued | StreamEnded) -> None:
        match event:
            case AttemptStarted(supersedes=Origin() as before):
                self._end_calls(before.attempt_id, "superseded")
                self._lifecycle(self._subgraphs.end_attempt(before, "superseded"))
                self._forget(before)
            case AttemptEnded(origin=origin):
                is_well = event.outcome in ("completed_provisional", "async_pending")
                self._lifecycle(self._subgraphs.end_attempt(origin, None if is_well else event.outcome))
                self._forget(origin)
            case Gap():
                for live in self._live.values():
                    live.events.miss(event)
            case StreamEnded() | RunContinued():
                self._end_calls(None, "unfinished")
                self._lifecycle(self._subgraphs.end_all("unfinished"))
                self._namespaces = Namespaces()
                self._origins.clear()
            case _:
                pass
        self._add(TEMPORAL, (), event.to_json(), event.origin)

    def _end_calls(self, attempt_id: str | None, reason: str) -> None:
        for key in [key for key in self._live if attempt_id in (None, key[0])]:
            self._say(self._live.pop(key), [failure(reason, reason)])
        for run in [run for run in self._tools if attempt_id in (None, run[0])]:
            tool = self._tools.pop(run)
            data = {"tool_call_id": tool.tool_call_id or tool.run_id, "message": reason}
            self._add("tools", self._namespaces.of(tool), {"event": "tool-error", **data}, tool.origin)

    def _forget(self, attempt: Origin) -> None:
        self._namespaces.forget(attempt)
        self._origins.pop(attempt.attempt_id, None)

    # ------------------------------------------------------------------ the envelope

    def _placed(self, event: Any) -> Namespace:
        namespace = self._namespaces.of(event)
        around = event.node_run_id if isinstance(event, NodeStarted) else None
        self._lifecycle(self._subgraphs.see(event, namespace, around))
        return namespace

    def _lifecycle(self, reported: Reported) -> None:
        for origin, payload in reported:
            self._add("lifecycle", (), payload, origin)

    def _add(self, method: str, namespace: Namespace, data: Any, origin: Origin | None = None) -> None:
        params = {"namespace": list(namespace), "timestamp": self._time, "data": data}
        if origin is not None:
            params["origin"] = self._origin(origin)
        self._made.append({"type": "event", "method": method, "params": params})

    def _origin(self, origin: Origin) -> Mapping[str, Any]:
        known = self._origins.get(origin.attempt_id)
        if known is None:
            known = self._origins[origin.attempt_id] = {
                "workflow_id": origin.workflow_id,
                "run_id": origin.run_id,
                "activity_id": origin.activity_id,
                "activity_type": origin.activity_type,
                "attempt": origin.attempt,
                "attempt_id": origin.attempt_id,
            }
        return known


class _LiveCall:
    """A call that has not ended."""

    def __init__(self, events: MessageEvents, namespace: Namespace) -> None:
        self.events = events
        self.namespace = namespace
        run = events.call.run_id or message_id(events.origin, events.call)
        place = {"run_id": run, "ordinal": events.call.ordinal}
        self.metadata = {**of_call(events.origin, events.call), **place}


def _started(event: Event) -> int:
    """Return when the attempt of an event began, in milliseconds: where an entry's id is no time."""
    return 0 if event.origin is None else int(event.origin.started_time.timestamp() * 1_000)


def _object(text: str, *, is_cut: bool) -> Any:
    """Return what a tool was given as LangGraph has it: an object, where the text is one."""
    if is_cut or not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
