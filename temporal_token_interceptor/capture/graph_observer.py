"""From LangChain's callbacks to the buffer: what happens around the model calls, and which belongs to which.

Tools, nodes and custom events; and, followed from parent to child, the tool call that everything below a tool
runs under. That way a sub-agent's words find the tool call that they answer.
"""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from temporal_token_interceptor._guard import NO_INJECTION, Guard, never_failing
from temporal_token_interceptor.capture.filters import Selection
from temporal_token_interceptor.capture.known_messages import KnownMessages
from temporal_token_interceptor.capture.langchain_hooks import InlineHandler
from temporal_token_interceptor.capture.message_parts import bounded_data, bounded_text
from temporal_token_interceptor.capture.names import id_of, name_of, names_of
from temporal_token_interceptor.capture.observing import FORWARDED
from temporal_token_interceptor.capture.outlet import Outlet
from temporal_token_interceptor.capture.places import Place, is_task, namespaces_around, place_of
from temporal_token_interceptor.events import (
    CustomEvent,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.events.graph import PlacedEvent

# A step of a graph has this tag itself; what runs inside a node does not inherit it.
_STEP_TAG = "graph:step:"


logger = logging.getLogger(__name__)


class SurroundingsObserver(InlineHandler):
    """Writes the tools, nodes and custom events of one activity attempt into a buffer.

    Args:
        buffer: Where it goes.
        default_node: The node's name outside of a graph.
        selection: What to capture.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """

    ignore_retry = True

    # LangChain swallows what a callback raises, unless `raise_error` is set. It may be none of ours:
    # Temporal cancels a sync activity by raising one in its thread, wherever that is just then, and a
    # cancellation that is swallowed never comes again. So LangChain shall swallow nothing; what is ours is
    # caught here.
    raise_error = True

    def __init__(
        self,
        buffer: Outlet,
        *,
        default_node: str,
        selection: Selection | None = None,
        guard: Guard = NO_INJECTION,
    ) -> None:
        super().__init__()
        self.guard = guard
        self._failures = 0
        self._buffer = buffer
        self._default_node = default_node
        self._selection = selection or Selection()
        kinds = self._selection.kinds
        # Tools are followed in any case, for the sake of the calls below them.
        self._tells_tools, self._tells_nodes = "tool" in kinds, "node" in kinds
        self._known = KnownMessages() if "node_output" in self._selection.contents else None
        self._live_tools: dict[UUID, ToolStarted] = {}
        self._live_nodes: dict[UUID, NodeStarted] = {}
        self._tool_call_above: dict[UUID, str] = {}  # of all that runs below a tool
        self._namespaces: dict[UUID, str] = {}  # of the live nodes
        self._node_runs: dict[str, str] = {}  # of the live nodes, by their namespace
        self.unmatched: set[str] = {*(self._selection.nodes or ()), *(self._selection.tags or ())}
        """The names in the filters `nodes` and `tags` that nothing has matched so far."""
        self._starting = threading.Lock()
        self._closed = False

    @property
    def ignore_custom_event(self) -> bool:
        """Whether LangChain need not call for custom events."""
        return "custom" not in self._selection.kinds

    def tool_call_above(self, run_id: UUID | None) -> str | None:
        """Return the tool call that a run was made under, if it was."""
        return None if run_id is None else self._tool_call_above.get(run_id)

    # ------------------------------------------------------------------ LangChain calls these

    @never_failing
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        above = id_of(tool_call_id) or self.tool_call_above(parent_run_id)
        if above and not self._closed:
            self._tool_call_above[run_id] = above
        place = place_of(metadata, self._default_node)
        if not self._tells_tools or not self._takes(place, tags):
            return
        text, truncated = None, False
        if "tool_input" in self._selection.contents:
            text, truncated = bounded_text(input_str if inputs is None else inputs)
        started = ToolStarted(
            name=name_of((serialized or {}).get("name") or kwargs.get("name")) or "",
            run_id=str(run_id),
            tool_call_id=id_of(tool_call_id),
            input=text,
            truncated=truncated,
            **self._facts(place),
        )
        with self._starting:
            if not self._closed:
                self._live_tools[run_id] = started
                self._buffer.put(started, None)

    @never_failing
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        text, truncated = None, False
        if "tool_output" in self._selection.contents and run_id in self._live_tools:
            text, truncated = bounded_text(output)
        self._end_tool(run_id, output=text, truncated=truncated)

    @never_failing
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if is_control_flow(error):
            self._end_tool(run_id, interrupted=True)
        else:
            self._end_tool(run_id, error=type(error).__name__)

    @never_failing
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._closed:
            return
        if self._tool_call_above and (above := self.tool_call_above(parent_run_id)):
            self._tool_call_above[run_id] = above
        if not self._tells_nodes or not _may_be_node(kwargs.get("name"), metadata, tags):
            return
        place = place_of(metadata, self._default_node)
        if place.namespace in self._node_runs and not _is_step(tags):
            return  # something of the same name that runs within a `@task`
        if self._takes(place, tags):
            agent = name_of((metadata or {}).get("lc_agent_name"))
            started = NodeStarted(run_id=str(run_id), agent_name=agent, **self._facts(place, is_node=True))
            if self._known is not None:
                self._known.add_input(place.path, inputs)
            with self._starting:
                if not self._closed:
                    self._live_nodes[run_id] = started
                    self._node_runs[place.namespace] = started.run_id
                    self._namespaces[run_id] = place.namespace
                    self._buffer.put(started, None)

    @never_failing
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        if (node := self._live_nodes.get(run_id)) is None:
            self._end_chain(run_id)
            return
        facts: dict[str, Any] = {"forwarded": FORWARDED.get().has("updates", node.path)}
        if self._known is not None:
            facts["output"], facts["truncated"] = bounded_data(outputs)
            if not facts["truncated"]:
                facts |= self._known.of_output(node.path, run_id, outputs)
        self._end_chain(run_id, **facts)

    @never_failing
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if is_control_flow(error):
            self._end_chain(run_id, interrupted=True)
        else:
            self._end_chain(run_id, error=type(error).__name__)

    @never_failing
    def on_custom_event(
        self,
        name: str,
        data: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        place = place_of(metadata, self._default_node)
        if self._closed or not self._takes(place, tags):
            return
        sent, truncated = bounded_data(data)
        forwarded = FORWARDED.get().has("custom", place.path)
        facts: dict[str, Any] = {"truncated": truncated, "forwarded": forwarded, **self._facts(place)}
        event = CustomEvent(name=name_of(name) or "", data=sent, **facts)
        self._buffer.put(event, None)

    # ------------------------------------------------------------------ `stream_graph` calls this

    @never_failing
    def put_graph_event(self, mode: str, path: tuple[str, ...], data: Any) -> None:
        """Pass on what a graph said in one of its stream modes."""
        if not self._closed:
            sent, truncated = bounded_data(data)
            event = GraphEvent(mode=mode, path=names_of(path), data=sent, truncated=truncated)
            self._buffer.put(event, None)

    def log_error(self, error: Exception) -> None:
        """Log the first error, and count all, without their text: that may hold content."""
        self._failures += 1
        if self._failures == 1:
            place = traceback.extract_tb(error.__traceback__)[-1]
            logger.warning(
                "could not capture a chunk of a model (%s at %s:%s); the model is not affected (logged once)",
                type(error).__name__,
                place.filename,
                place.lineno,
            )

    # ------------------------------------------------------------------ ends

    def close(self) -> None:
        """End what is open, as unfinished, and ignore all further events.

        What is cancelled may fire no callback at all; a task or a thread may outlive its attempt.
        """
        with self._starting:  # what starts now, on another thread, is either ended here or not begun
            self._closed = True
        for run_id in list(self._live_tools):
            self._end_tool(run_id, unfinished=True)
        for run_id in list(self._live_nodes):
            self._end_chain(run_id, unfinished=True)
        self._tool_call_above.clear()

    def _end_tool(self, run_id: UUID, **facts: Any) -> None:
        self._tool_call_above.pop(run_id, None)
        if (started := self._live_tools.pop(run_id, None)) is not None:
            ended = ToolEnded(
                name=started.name,
                run_id=started.run_id,
                tool_call_id=started.tool_call_id,
                **place_facts(started),
                **facts,
            )
            self._buffer.put(ended, None)

    def _end_chain(self, run_id: UUID, **facts: Any) -> None:
        if self._tool_call_above:
            self._tool_call_above.pop(run_id, None)
        if (started := self._live_nodes.pop(run_id, None)) is not None:
            namespace = self._namespaces.pop(run_id)
            if self._node_runs.get(namespace) == started.run_id:  # else a retry of the node has begun
                del self._node_runs[namespace]
            ended = NodeEnded(
                run_id=started.run_id, agent_name=started.agent_name, **place_facts(started), **facts
            )
            self._buffer.put(ended, None)

    def _takes(self, place: Place, tags: Collection[str] | None) -> bool:
        """Whether what happens here is captured; notes which names of the filters it matches."""
        if self.unmatched:
            self.unmatched.difference_update(place.names, tags or ())
        return self._selection.takes(place.names, tags)

    def _facts(self, place: Place, *, is_node: bool = False) -> dict[str, Any]:
        """Return what an event says of its place."""
        around = namespaces_around(place.namespace)
        namespaces = around if is_node else [place.namespace, *around]
        node_runs = (self._node_runs.get(namespace) for namespace in namespaces)
        return {
            "node_name": place.node_name,
            "path": place.path,
            "step": place.step,
            "task_id": place.task_id,
            "node_run_id": next(filter(None, node_runs), None) if self._node_runs else None,
        }


def place_facts(started: PlacedEvent) -> dict[str, Any]:
    """Return what the end of something says of its place: what its start said."""
    return {name: getattr(started, name) for name in _PLACE}


_PLACE = tuple(field.name for field in fields(PlacedEvent) if field.name not in ("origin", "cursor"))


def is_control_flow(error: BaseException) -> bool:
    """Whether LangGraph raised to interrupt a graph or to hand over to another node: that is no failure."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def _may_be_node(name: object, metadata: Mapping[str, Any] | None, tags: Sequence[str] | None) -> bool:
    """Whether a chain is a node itself, and not something within one; within a `@task` it may be both."""
    return bool(metadata and name == metadata.get("langgraph_node") and (_is_step(tags) or is_task(metadata)))


def _is_step(tags: Sequence[str] | None) -> bool:
    return any(tag.startswith(_STEP_TAG) for tag in tags or ())
