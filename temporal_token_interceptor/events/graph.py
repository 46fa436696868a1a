"""What happens around the model calls: tools, nodes, custom events, and a graph's own stream modes.

What tools were given and return, and what nodes return, may never have been meant for a viewer: it is sent
only if the worker is configured so. Names, ids and errors' classes always are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from temporal_token_interceptor.events.origin import AttemptEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedEvent(AttemptEvent):
    """What happens in a node.

    Attributes:
        node_name: The LangGraph node, or the activity type outside of a graph.
        path: The subgraph path, outermost first, without the node itself.
        step: LangGraph's superstep, where there is one.
        task_id: LangGraph's id of the task: of one run of the node, so that branches of `Send` differ.
        node_run_id: `NodeStarted.run_id` of the node around it, where nodes are captured; of a node in a
            subgraph, that of the node which runs the subgraph.
    """

    node_name: str = ""
    path: tuple[str, ...] = ()
    step: int | None = None
    task_id: str | None = None
    node_run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(PlacedEvent):
    """A tool began to run.

    Attributes:
        name: The tool's name.
        run_id: LangChain's run id; the same in `ToolEnded`.
        tool_call_id: The tool call of a model's message that it answers, where there is one. Calls that
            a sub-agent makes within the tool have the same `Call.tool_call_id`.
        input: The arguments, as text; only with `capture={"tool_input"}`, and at most 4 KiB.
        truncated: Whether `input` was longer.
    """

    name: str
    run_id: str = ""
    tool_call_id: str | None = None
    input: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded(PlacedEvent):
    """A tool returned or failed.

    Attributes:
        name: The tool's name.
        run_id: LangChain's run id.
        tool_call_id: The tool call that it answers.
        error: The exception's class name if the tool raised, also where the graph goes on regardless.
        output: What it returned, as text; only with `capture={"tool_output"}`, and at most 4 KiB.
        truncated: Whether `output` was longer.
        unfinished: Whether the tool was still running when its attempt ended.
        interrupted: Whether it stopped to ask a human (`interrupt`) or to hand over (`Command`): no failure.
    """

    name: str
    run_id: str = ""
    tool_call_id: str | None = None
    error: str | None = None
    output: str | None = None
    truncated: bool = False
    unfinished: bool = False
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverStarted(PlacedEvent):
    """A retriever began to search; only with `retrievers=True`.

    Attributes:
        name: The retriever's name.
        run_id: LangChain's run id; the same in `RetrieverEnded`.
        tool_call_id: The tool call that it searches for, where there is one.
        input: The query; only with `capture={"retriever_input"}`, and at most 4 KiB.
        truncated: Whether `input` was longer.
    """

    name: str
    run_id: str = ""
    tool_call_id: str | None = None
    input: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverEnded(PlacedEvent):
    """A retriever returned documents, or failed; only with `retrievers=True`.

    Attributes:
        name: The retriever's name.
        run_id: LangChain's run id.
        tool_call_id: The tool call that it searched for.
        document_count: How many documents it found; None if it did not return, or returned an iterator.
        error: The exception's class name if it failed.
        output: The documents, as JSON values; only with `capture={"retriever_output"}`, and at most 64 KiB.
        truncated: Whether `output` was too long to be sent.
        unfinished: Whether it was still searching when its attempt ended.
    """

    name: str
    run_id: str = ""
    tool_call_id: str | None = None
    document_count: int | None = None
    error: str | None = None
    output: Any = None
    truncated: bool = False
    unfinished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(PlacedEvent):
    """A graph began a node.

    Attributes:
        run_id: LangChain's run id; the same in `NodeEnded`.
        agent_name: The name given to `create_agent` or to a sub-agent whose graph it is, or is within.
    """

    run_id: str = ""
    agent_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnded(PlacedEvent):
    """A node of a graph returned or failed.

    Attributes:
        run_id: LangChain's run id, the same as in `NodeStarted`.
        error: The exception's class name if the node raised.
        output: What it returned, as JSON values; only with `capture={"node_output"}`, and at most 64 KiB.
        truncated: Whether `output` was too long to be sent.
        unfinished: Whether the node was still running when its attempt ended.
        interrupted: Whether it stopped to ask a human (`interrupt`) or to hand over (`Command`): no failure.
        forwarded: Whether `stream_graph` forwards the mode `updates` of its graph: a `GraphEvent` says what
            it returned, too.
        agent_name: As in `NodeStarted`.
        made_ids: Ids for the messages in `output` that have none, in their order; the same message has the
            same one in what nodes around return.
        known_ids: Ids of messages in `output` that are not new: they were streamed, or a node of the
            outermost graph was given them, or has returned them before.
        known_inner_ids: The same of subgraphs, without those of `known_ids`: for readers of subgraphs.
    """

    run_id: str = ""
    error: str | None = None
    output: Any = None
    truncated: bool = False
    unfinished: bool = False
    interrupted: bool = False
    forwarded: bool = False
    agent_name: str | None = None
    made_ids: tuple[str, ...] = ()
    known_ids: tuple[str, ...] = ()
    known_inner_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomEvent(PlacedEvent):
    """What the author of a graph dispatched (`dispatch_custom_event`), for viewers to see.

    Attributes:
        name: The name that it was given.
        data: The data, as JSON values; None if it was longer than 64 KiB.
        truncated: Whether `data` was too long to be sent.
        forwarded: Whether `stream_graph` forwards the mode `custom` of its graph, which does not have it.
    """

    name: str
    data: Any = None
    truncated: bool = False
    forwarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEvent(AttemptEvent):
    """What a graph said in one of LangGraph's own stream modes; only of graphs run by `stream_graph`.

    Attributes:
        mode: `values`, `updates`, `custom`, `tasks`, `checkpoints` or `debug`.
        path: The subgraph's namespace, as LangGraph gives it: `("node:task-id", ...)`; empty for the graph.
        data: As JSON values; None if it was longer than 64 KiB.
        truncated: Whether `data` was too long to be sent.
    """

    mode: str
    path: tuple[str, ...] = ()
    data: Any = None
    truncated: bool = False
