"""Beside `langgraph-temporal`, unchanged: its nodes stream, and its own stream buffer carries the summary."""

import asyncio
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.temporal import TemporalGraph
from langgraph.temporal.workflow import LangGraphWorkflow
from temporalio.worker import UnsandboxedWorkflowRunner
from typing_extensions import TypedDict

from temporal_token_interceptor import (
    CallEnded,
    MemoryStreamBackend,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
    summary_events,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, standing_text, unique

PLAN, TEXT = ["pl", "an"], ["wri", "te"]


class State(TypedDict):
    planned: str
    written: str


def _graph():
    planner, writer = ScriptedChatModel.saying(*PLAN), ScriptedChatModel.saying(*TEXT)

    async def plan(state: State) -> dict[str, Any]:
        return {"planned": (await planner.ainvoke("?")).text}

    async def write(state: State) -> dict[str, Any]:
        return {"written": (await writer.ainvoke("?")).text}

    builder = StateGraph(State)
    builder.add_node("plan", plan)
    builder.add_node("write", write)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "write")
    builder.add_edge("write", END)
    return builder.compile()


async def _run(client, workflow_id, interceptor) -> list[Any]:
    """Run the graph with that package's own worker and client; return its stream buffer's custom events."""
    graph = TemporalGraph(_graph(), client, task_queue=workflow_id)
    async with graph.create_worker(interceptors=[interceptor], workflow_runner=UnsandboxedWorkflowRunner()):
        handle = await graph.astart(
            {"planned": "", "written": ""}, {"configurable": {"thread_id": workflow_id}}
        )
        async with asyncio.timeout(20):
            await handle.result()
        buffer = await handle.query(LangGraphWorkflow.get_stream_buffer, 0)
    return [event for event in buffer.events if event["mode"] == "custom"]


async def test_its_stream_buffer_carries_the_tokens_without_redis(client):
    """I poll get_stream_buffer, as I always did: each node's tokens are in its custom events."""
    workflow_id = unique("buffer")

    custom = await _run(client, workflow_id, TokenStreamingInterceptor())

    told = {event["node_name"]: summary_events(event["data"]) for event in custom}
    assert [e.token for e in told["plan"] if isinstance(e, TokenEvent)] == PLAN
    assert [e.token for e in told["write"] if isinstance(e, TokenEvent)] == TEXT
    assert all(any(isinstance(e, CallEnded) for e in events) for events in told.values())


async def test_a_subscriber_reads_its_nodes_from_history(client):
    """Or I leave the buffer alone, and subscribe: the same tokens, node by node, and an end."""
    workflow_id = unique("nodes")
    reading = asyncio.ensure_future(read_all(client, None, workflow_id))

    await _run(client, workflow_id, TokenStreamingInterceptor())
    events = await reading

    assert standing_text(events) == "planwrite"
    assert [e.node_name for e in events if isinstance(e, TokenEvent)] == ["plan", "plan", "write", "write"]


async def test_with_a_backend_the_buffer_carries_counts(client):
    """Tokens travel by the backend, and the buffer keeps the small summary."""
    workflow_id = unique("counts")
    backend = MemoryStreamBackend()

    custom = await _run(client, workflow_id, TokenStreamingInterceptor(backend))

    assert [event["data"]["token_stream"]["token_count"] for event in custom] == [2, 2]
    assert not any(summary_events(event["data"]) for event in custom)
    assert await TokenSubscriber(client, backend).text(workflow_id) == "planwrite"
