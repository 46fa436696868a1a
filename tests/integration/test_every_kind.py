"""Standalone activities, the neighbours' packages, agents, and graphs that tell their own stream modes."""

from datetime import timedelta
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.temporal import TemporalGraph
from temporalio import activity, workflow
from temporalio.client import ActivityFailureError
from temporalio.exceptions import ApplicationError
from temporalio.langgraph import LangGraphPlugin
from temporalio.langgraph import graph as plugin_graph
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    CallStarted,
    CustomEvent,
    GraphEvent,
    MemoryStreamBackend,
    NodeEnded,
    NodeStarted,
    StreamEnded,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
    ToolEnded,
    ToolStarted,
    stream_graph,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import SEARCH, after_tools, search
from tests.differential.shapes import custom_events, deep_agent
from tests.support.streams import kinds, read_all, streaming_worker, unique
from tests.support.workflows import RunActivity

QUESTION: Any = {"messages": [("user", "?")]}


@pytest.fixture
def backend():
    return MemoryStreamBackend()


def tokens(events):
    return [(event.node_name, event.token) for event in events if isinstance(event, TokenEvent)]


async def run(client, backend, activity_, **options):
    """Run one activity in a workflow; return its result and its events."""
    workflow_id = unique("every-kind")
    async with streaming_worker(client, backend, [activity_], **options) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=[activity_.__name__, None, False, 1, 20], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)
        return await handle.result(), events


# ------------------------------------------------------------------ standalone activities


@activity.defn
async def alone(fails: bool) -> str:
    text = (await ScriptedChatModel.saying("all ", "alone").ainvoke("?")).text
    if fails:
        raise ApplicationError("as told", non_retryable=True)
    return text


@pytest.mark.parametrize(("fails", "status"), [(False, "completed"), (True, "failed")])
async def test_a_standalone_activity_streams_under_its_own_id(client, backend, fails, status):
    """Without any workflow I subscribe by the activity's id, before it has started, and see how it ends."""
    activity_id = unique("alone")

    async with streaming_worker(client, backend, [alone]) as queue:
        events_ahead = TokenSubscriber(client, backend).subscribe_activity(activity_id)
        handle = await client.start_activity(
            alone, fails, id=activity_id, task_queue=queue, start_to_close_timeout=timedelta(seconds=20)
        )
        events = [event async for event in events_ahead]
        if fails:
            with pytest.raises(ActivityFailureError):
                await handle.result()
        else:
            assert await handle.result() == "all alone"

    assert [token for _, token in tokens(events)] == ["all ", "alone"]
    assert kinds(events)[-3:] == ["CallEnded", "AttemptEnded", "StreamEnded"]
    assert isinstance(events[-1], StreamEnded)
    assert events[-1].status == status


# ------------------------------------------------------------------ agents in a plain activity


async def test_an_agent_in_an_activity_tells_its_nodes_tools_and_tokens(client, backend):
    """I see the model ask for a tool, the tool run, and the answer, each with its node."""
    agent = create_agent(after_tools(SEARCH), tools=[search])

    @activity.defn
    async def ask(argument: Any) -> str:
        return str((await agent.ainvoke(QUESTION))["messages"][-1].text)

    result, events = await run(client, backend, ask, capture=["tool_input", "tool_output"])

    assert result == "It is tea."
    assert tokens(events) == [("model", "It is "), ("model", "tea.")]
    (started,) = [event for event in events if isinstance(event, ToolStarted)]
    (ended,) = [event for event in events if isinstance(event, ToolEnded)]
    assert (started.name, started.tool_call_id, started.node_name) == ("search", "tc-1", "tools")
    assert (started.input, ended.output, ended.error) == ('{"query": "tea"}', "found tea", None)
    assert started.run_id == ended.run_id
    nodes = [(type(e).__name__, e.node_name) for e in events if isinstance(e, NodeStarted | NodeEnded)]
    assert nodes == [
        (kind, node) for node in ("model", "tools", "model") for kind in ("NodeStarted", "NodeEnded")
    ]


async def test_a_sub_agent_names_the_tool_call_it_works_for(client, backend):
    """In a deep agent, the researcher's words carry its name and the id of the task they answer."""
    graph = deep_agent()

    @activity.defn
    async def deep(argument: Any) -> str:
        return str((await graph.ainvoke(QUESTION))["messages"][-1].text)

    result, events = await run(client, backend, deep)

    assert result == "It is tea."
    calls = [event.call for event in events if isinstance(event, CallStarted)]
    assert [(call.agent_name, call.tool_call_id, call.path) for call in calls] == [
        (None, None, ()),
        ("researcher", "tc-1", ("tools",)),
        (None, None, ()),
    ]
    assert "".join(token for _, token in tokens(events)) == "leaves in waterIt is tea."


async def test_custom_events_arrive_with_their_node(client, backend):
    """What my node dispatches reaches my viewers."""
    graph = custom_events()

    @activity.defn
    async def tells(argument: Any) -> int:
        return len((await graph.ainvoke(QUESTION))["messages"])

    _, events = await run(client, backend, tells)

    (event,) = [event for event in events if isinstance(event, CustomEvent)]
    assert (event.name, event.data, event.node_name) == ("progress", {"done": 1}, "worker")


async def test_what_i_did_not_choose_is_not_sent(client, backend):
    """Filters by kind and tag, and metadata by key: the rest never leaves the worker."""
    model = ScriptedChatModel.saying("kept").with_config(
        tags=["public"], metadata={"tenant": "a", "key": "k"}
    )

    @activity.defn
    async def both(argument: Any) -> str:
        await ScriptedChatModel.saying("dropped").ainvoke("?")
        return (await model.ainvoke("?")).text

    _, events = await run(client, backend, both, tags=["public"], metadata_keys=["tenant"], kinds=["text"])

    assert tokens(events) == [("both", "kept")]
    (call,) = [event.call for event in events if isinstance(event, CallStarted)]
    assert call.metadata == {"tenant": "a"}


# ------------------------------------------------------------------ LangGraph's own stream modes


async def test_a_graph_tells_its_own_stream_modes(client, backend):
    """`stream_graph` in place of `ainvoke`: what nodes write and update arrives; the result is the same."""

    async def inner(state: MessagesState) -> dict[str, Any]:
        get_stream_writer()({"half": "way"})
        return {"messages": [await ScriptedChatModel.saying("a", "b").ainvoke("?")]}

    sub = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner").compile()
    graph = StateGraph(MessagesState).add_node("sub", sub).add_edge(START, "sub").compile()

    @activity.defn
    async def told(argument: Any) -> list[str]:
        state = await stream_graph(graph, QUESTION)
        return [message.text for message in state["messages"]]

    result, events = await run(client, backend, told)

    assert result == ["?", "ab"]
    said = [event for event in events if isinstance(event, GraphEvent)]
    assert [(event.mode, len(event.path)) for event in said] == [
        ("custom", 1),
        ("updates", 1),
        ("updates", 0),
    ]
    assert said[0].data == {"half": "way"}
    assert said[0].path[0].startswith("sub:")
    assert said[1].data["inner"]["messages"][0]["content"] == "ab"
    assert [token for _, token in tokens(events)] == ["a", "b"]


@pytest.mark.parametrize(
    ("modes", "forwarded"), [(["updates"], {"node"}), (["custom"], {"custom"}), (["values"], set())]
)
async def test_what_stream_graph_forwards_is_marked_where_callbacks_see_it_too(
    client, backend, modes, forwarded
):
    """A node's output is there twice, once as an update: its event says so, for readers of both."""

    @activity.defn
    async def two_nodes(argument: Any) -> None:
        await custom_events().ainvoke(QUESTION)
        await stream_graph(custom_events(), QUESTION, modes=modes)

    _, events = await run(client, backend, two_nodes, capture=["node_output"])

    plain, streamed = (event for event in events if isinstance(event, NodeEnded))
    assert plain.output["messages"][0]["content"] == streamed.output["messages"][0]["content"] == "ab"
    assert (plain.forwarded, streamed.forwarded) == (False, "node" in forwarded)
    dispatched = [event.forwarded for event in events if isinstance(event, CustomEvent)]
    assert dispatched == [False, "custom" in forwarded]


# ------------------------------------------------------------------ the neighbours' packages


async def plan(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await ScriptedChatModel.saying("pl", "an").ainvoke("?")]}


async def write(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await ScriptedChatModel.saying("wri", "te").ainvoke("?")]}


def two_nodes(**options):
    builder = StateGraph(MessagesState)
    builder.add_node("plan", plan, **options)
    builder.add_node("write", write, **options)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "write")
    return builder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydantic's, by way of Temporal's JSON converter
async def test_langgraph_temporal_streams_unchanged(client, backend):
    """A graph that `langgraph-temporal` runs node by node streams, and its nodes have their names."""
    queue, thread = unique("lgt"), unique("thread")
    graph = TemporalGraph(two_nodes().compile(), client, task_queue=queue)

    async with graph.create_worker(
        workflow_runner=UnsandboxedWorkflowRunner(), interceptors=[TokenStreamingInterceptor(backend)]
    ):
        handle = await graph.astart(QUESTION, config={"configurable": {"thread_id": thread}})
        events = await read_all(client, backend, handle.id)
        await handle.result()

    assert tokens(events) == [("plan", "pl"), ("plan", "an"), ("write", "wri"), ("write", "te")]


@workflow.defn(sandboxed=False)
class PluginGraph:
    """Runs a graph of the plugin."""

    @workflow.run
    async def run(self, question: str) -> list[str]:
        state = await plugin_graph("two-nodes").compile().ainvoke({"messages": [("user", question)]})
        return [str(message.content) for message in state["messages"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_temporalio_langgraph_streams_unchanged(client, backend):
    """A graph that Temporal's own plugin runs node by node streams, and its nodes have their names."""
    queue, workflow_id = unique("plugin"), unique("plugin")
    builder = two_nodes(metadata={"execute_in": "activity", "start_to_close_timeout": timedelta(seconds=20)})

    async with Worker(
        client,
        workflow_runner=UnsandboxedWorkflowRunner(),
        task_queue=queue,
        workflows=[PluginGraph],
        plugins=[LangGraphPlugin(graphs={"two-nodes": builder})],
        interceptors=[TokenStreamingInterceptor(backend)],
    ):
        handle = await client.start_workflow(PluginGraph.run, "?", id=workflow_id, task_queue=queue)
        events = await read_all(client, backend, workflow_id)
        await handle.result()

    assert tokens(events) == [("plan", "pl"), ("plan", "an"), ("write", "wri"), ("write", "te")]
