"""When subgraphs begin and end, as LangGraph's `lifecycle` reports it; found from nodes and tools.

A subgraph begins with the first that is seen in its namespace, and ends with the node that runs it.
"""

from __future__ import annotations

from typing import Any

from temporal_token_interceptor.events import (
    AttemptEvent,
    CallStarted,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.views.namespaces import Namespace

Lifecycle = dict[str, Any]
"""LangGraph's `LifecyclePayload`: `event`, `namespace`, and where known `graph_name`, `trigger_call_id`,
`cause`, `error`.
"""

Reported = list[tuple[Origin, Lifecycle]]
"""What is reported of subgraphs, and the attempts that they are of."""


class Subgraphs:
    """Knows the subgraphs that run."""

    def __init__(self) -> None:
        # By attempt id: where no ids of tasks are known, two attempts have the same namespaces.
        self._open: dict[tuple[str, Namespace], Origin] = {}
        self._tools: dict[str, list[str]] = {}  # the tool calls that run in a node, by its run

    def see(self, event: AttemptEvent, namespace: Namespace, around: str | None) -> Reported:
        """Return the starts of the subgraphs that an event is the first of.

        Args:
            event: Something that happens in the namespace.
            namespace: The namespace.
            around: The run of the node that runs the innermost subgraph, where it is known.
        """
        attempt = event.origin.attempt_id
        if not namespace or (attempt, namespace) in self._open:
            return []
        begun: Reported = []
        for depth in range(1, len(namespace) + 1):
            key = (attempt, namespace[:depth])
            if key in self._open:
                continue
            self._open[key] = event.origin
            name, _, task = namespace[depth - 1].partition(":")
            agent = _agent_of(event) if depth == len(namespace) else None
            payload: Lifecycle = {"event": "started", "namespace": list(key[1]), "graph_name": agent or name}
            if task:
                payload["trigger_call_id"] = task
            tool_calls = self._tools.get(around or "", ()) if agent else ()
            if len(tool_calls) == 1:
                payload["cause"] = {"type": "toolCall", "tool_call_id": tool_calls[0]}
            begun.append((event.origin, payload))
        return begun

    def note_tool(self, event: ToolStarted | ToolEnded) -> None:
        """Note a tool that may run a subgraph."""
        node, tool_call = event.node_run_id, event.tool_call_id
        if node is None or tool_call is None:
            return
        if isinstance(event, ToolStarted):
            self._tools.setdefault(node, []).append(tool_call)
        elif tool_call in (running := self._tools.get(node, [])):
            running.remove(tool_call)
            if not running:
                del self._tools[node]

    def end(self, event: NodeEnded, namespace: Namespace) -> Reported:
        """Return the ends of the subgraphs within a node that ended; deepest first.

        Args:
            event: The end of the node.
            namespace: That of what runs in the node.
        """
        self._tools.pop(event.run_id, None)
        if event.interrupted:
            status, error = "interrupted", None
        else:
            error = event.error or ("unfinished" if event.unfinished else None)
            status = "failed" if error else "completed"
        attempt = event.origin.attempt_id
        within = [key for key in self._open if key[0] == attempt and key[1][: len(namespace)] == namespace]
        return self._close(within, status, error)

    def end_attempt(self, attempt: Origin, error: str | None) -> Reported:
        """Return the ends of all subgraphs of an attempt that are open.

        Args:
            attempt: The attempt.
            error: Why they failed; None if not: where nodes are not captured, nothing else ends them.
        """
        within = [key for key in self._open if key[0] == attempt.attempt_id]
        return self._close(within, "failed" if error else "completed", error)

    def end_all(self, error: str) -> Reported:
        """Return the ends of all subgraphs that are open."""
        self._tools.clear()
        return self._close(list(self._open), "failed", error)

    def _close(self, keys: list[tuple[str, Namespace]], status: str, error: str | None) -> Reported:
        ended: Reported = []
        for key in sorted(keys, key=lambda key: -len(key[1])):
            origin = self._open.pop(key)
            payload: Lifecycle = {"event": status, "namespace": list(key[1])}
            if error is not None:
                payload["error"] = error
            ended.append((origin, payload))
        return ended


def _agent_of(event: AttemptEvent) -> str | None:
    """Return the name of the agent that something happens in, where the event has it."""
    match event:
        case NodeStarted() | NodeEnded():
            return event.agent_name
        case CallStarted():
            return event.call.agent_name
        case GraphEvent(mode="tasks", data={"metadata": {"lc_agent_name": str() as name}}):
            return name
        case _:
            return None
