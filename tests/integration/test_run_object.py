"""`TokenSubscriber.run` beside LangGraph's own run object (`astream_events`, v3), on a real Temporal."""

import asyncio
import json
import re
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.stream import CustomTransformer, TasksTransformer, UpdatesTransformer
from temporalio import activity
from typing_extensions import TypedDict

from temporal_token_interceptor import MemoryStreamBackend, TokenSubscriber, stream_graph
from temporal_token_interceptor.testing import ScriptedChatModel, tool_call
from tests.differential.models import MODELS, after_tools
from tests.differential.shapes import GRAPHS, QUESTION, graph, node, says
from tests.support.run_objects import told_by
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


def asking() -> Any:
    """An agent whose tools run another agent, itself once more, and a graph that is no agent."""

    @tool
    async def ask(whom: str) -> str:
        """Ask another."""
        asked = {
            "other": create_agent(says("o"), [], name="other"),
            "self": create_agent(says("s"), [], name="main"),
            "graph": graph(("answer", node(says("g"))), ("then", create_agent(says("t"), []))),
        }
        return str((await asked[whom].ainvoke(QUESTION))["messages"][-1].text)

    calls = [
        tool_call("ask", json.dumps({"whom": whom}), id=f"tc-{whom}", index=number)
        for number, whom in enumerate(("other", "self", "graph"))
    ]
    return create_agent(after_tools(*calls), [ask], name="main")


SHAPES: dict[str, Any] = {
    **{name: make for name, make in GRAPHS.items() if not re.search("fails|astream_events", name)},
    **{
        f"a node: {name}": lambda name=name: graph(("agent", node(MODELS[name]())))
        for name in (
            "text with usage and finish reason",
            "empty answer",
            "an image",
            "tool call in fragments",
            "text, then tool calls",
            "blocks of reasoning and text",
            "a model that will not stream",
            "`output_version='v1'`",
            "tag `nostream`",
        )
    },
    "an agent as a node": lambda: graph(("ask", create_agent(says("a", "b"), [], name="clerk"))),
    "an agent that asks agents and graphs": asking,
    "a subgraph in a subgraph": lambda: graph(
        ("outer", graph(("inner", graph(("leaf", node(ScriptedChatModel.saying("a", "b")))))))
    ),
}

SAID = ("messages", "lifecycle", "subgraphs", "tool_calls")


async def of_langgraph(made: Any, names: tuple[str, ...], transformers: Any = ()) -> Any:
    """What LangGraph's own run object of a graph says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph's: v3 is in beta
        run = await made.astream_events(QUESTION, version="v3", transformers=transformers)
        async with run:
            return plain(await told_by(run, names))


def plain(tree: Any) -> Any:
    return json.loads(json.dumps(tree))


@activity.defn
async def in_process(name: str) -> Any:
    """Run a graph as its author does today; return what its own run object said."""
    return await of_langgraph(SHAPES[name](), SAID)


@activity.defn
async def at_second_try(argument: Any) -> Any:
    """The first attempt fails in mid-sentence, in a subgraph; the second returns what LangGraph said."""
    fails = activity.info().attempt == 1
    words = ["half ", ConnectionError("reset")] if fails else ["It ", "is ", "tea."]
    inner = graph(("answer", node(ScriptedChatModel.saying(*words, delay=0.002))))
    made = graph(("think", node(ScriptedChatModel.saying("hm"))), ("sub", inner))
    if fails:
        await made.ainvoke(QUESTION)
    return await of_langgraph(made, SAID)


class Count(TypedDict):
    """A state that is JSON."""

    messages: list[Any]
    n: int


def counts() -> Any:
    """A graph with a subgraph, whose nodes write what they do."""

    def adds(state: Count) -> Any:
        get_stream_writer()({"at": state.get("n", 0)})
        return {"n": state.get("n", 0) + 1}

    inner = StateGraph(Count)
    inner.add_node("inner", adds)
    inner.add_edge(START, "inner")
    inner.add_edge("inner", END)
    outer = StateGraph(Count)
    outer.add_node("first", adds)
    outer.add_node("sub", inner.compile())
    outer.add_edge(START, "first")
    outer.add_edge("first", "sub")
    outer.add_edge("sub", END)
    return outer.compile()


@activity.defn
async def streams_modes(argument: Any) -> Any:
    return (await stream_graph(counts(), QUESTION, modes=["values", "updates", "custom", "tasks"]))["n"]


@pytest.fixture
async def backend():
    return MemoryStreamBackend()


@pytest.fixture
async def queue(client, backend):
    activities = [in_process, at_second_try, streams_modes]
    capture = ["media", "tool_input", "tool_output", "node_output"]
    async with streaming_worker(client, backend, activities, capture=capture) as task_queue:
        yield task_queue


def batched(names: Iterable[str], size: int) -> list[list[str]]:
    names = list(names)
    return [names[begin : begin + size] for begin in range(0, len(names), size)]


def alike(here: Any, there: Any) -> Any:
    """Ours without projections that LangGraph's object has not: tools are shown there only by agents."""
    if isinstance(here, dict) and isinstance(there, dict):
        return {key: alike(here[key], there[key]) for key in here if key in there or key not in SAID}
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        return [alike(*pair) for pair in zip(here, there, strict=True)]
    return here


async def of_ours(subscriber: TokenSubscriber, workflow_id: str, names: tuple[str, ...] = SAID) -> Any:
    async with subscriber.run(workflow_id) as run:
        return plain(await told_by(run, names))


async def test_the_run_object_is_langgraphs(client, backend, queue):
    """Of each shape: messages, tools, subgraphs and their ends, of every subgraph too, to the ids."""
    subscriber, differ = TokenSubscriber(client, backend), {}

    async def both(name: str) -> tuple[Any, Any]:
        workflow_id = unique("run-object")
        there = await client.execute_workflow(
            RunActivity.run, args=["in_process", name, False, 1, 20], id=workflow_id, task_queue=queue
        )
        return await of_ours(subscriber, workflow_id), there

    for group in batched(SHAPES, 6):
        for name, (here, there) in zip(group, await asyncio.gather(*map(both, group)), strict=True):
            if alike(here, there) != there:
                differ[name] = [key for key in there if alike(here[key], there[key]) != there[key]]

    assert differ == {
        # There the tool's output is a `Command`.
        "a deep agent with a sub-agent": ["tool_calls"],
        # There a model that is streamed by its caller is not in `messages`.
        "a node that streams": ["messages"],
    }
    assert len(SHAPES) > 25


async def test_a_reader_that_was_there_and_one_that_comes_late_have_the_same(client, backend, queue):
    """With a retry in the middle: what stands at the end is what LangGraph's own object has."""
    subscriber, workflow_id = TokenSubscriber(client, backend), unique("run-retry")
    live = asyncio.create_task(of_ours(subscriber, workflow_id))
    there = await client.execute_workflow(
        RunActivity.run, args=["at_second_try", None, False, 2, 20], id=workflow_id, task_queue=queue
    )
    seen = await live

    assert await of_ours(subscriber, workflow_id) == seen
    assert len(seen["messages"]) == 2
    assert seen["messages"][1:] == there["messages"]
    [[failed, half], standing] = seen["subgraphs"]
    assert failed[2] == "failed"
    assert half["messages"] == [{"failed": True}]
    assert [standing[0], standing[1]["messages"]] == [
        there["subgraphs"][0][0],
        there["subgraphs"][0][1]["messages"],
    ]
    assert [payload["event"] for payload in seen["lifecycle"]] == [
        "started",
        "failed",
        "started",
        "completed",
    ]
    assert seen["lifecycle"][2:] == there["lifecycle"]


def without_ids(tree: Any) -> Any:
    """A tree whose ids of tasks are their places: two runs of a graph have other ids."""
    found: dict[str, str] = {}
    return json.loads(
        re.sub(
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            lambda match: found.setdefault(match[0], f"id{len(found)}"),
            json.dumps(tree, sort_keys=True),
        )
    )


async def test_stream_modes_are_those_of_langgraphs_run_object(client, backend, queue):
    """States, updates, what nodes write, and tasks, of the graph and of its subgraph."""
    names = ("values", "updates", "custom", "tasks", "lifecycle", "subgraphs")
    there = await of_langgraph(counts(), names, [UpdatesTransformer, CustomTransformer, TasksTransformer])
    workflow_id = unique("run-modes")
    await client.execute_workflow(
        RunActivity.run, args=["streams_modes", None, False, 1, 20], id=workflow_id, task_queue=queue
    )
    here = without_ids(await of_ours(TokenSubscriber(client, backend), workflow_id, names))
    there = without_ids(there)

    # A subgraph is found by its first task: LangGraph's handle has no reader before, and keeps nothing.
    ours, theirs = (tree["subgraphs"][0][1] for tree in (here, there))
    assert {key: theirs.pop(key) for key in ("tasks", "values")} == {
        key: ours.pop(key)[1:] for key in ("tasks", "values")
    }
    assert here == there
