"""`TokenSubscriber.events_v2` beside LangChain's `astream_events(version="v2")`, on a real Temporal."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from temporalio import activity

from temporal_token_interceptor import (
    ConfigurationError,
    MemoryStreamBackend,
    TokenSubscriber,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import MODELS
from tests.differential.shapes import GRAPHS, QUESTION, graph, node
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


class Shelf(BaseRetriever):
    """Finds two books."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(query), Document("another", metadata={"shelf": 2})]


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sun in {city}"


@tool
def breaks(city: str) -> str:
    """It never works."""
    raise ValueError(city)


def calling(name: str) -> AIMessageChunk:
    call = {"name": name, "args": '{"city": "Rome"}', "id": "call-1", "index": 0, "type": "tool_call_chunk"}
    return AIMessageChunk("", tool_call_chunks=[call])  # type: ignore[list-item]


def agent_with(one: Any) -> Any:
    def script(messages: Any) -> Any:
        return ["It is ", "sun."] if messages[-1].type == "tool" else [calling(one.name)]

    return create_agent(ScriptedChatModel(script=script), [one])


async def searches(state: Any) -> Any:
    found = await Shelf().ainvoke("books")
    await adispatch_custom_event("found", {"count": len(found)})
    return {"messages": [AIMessage(found[0].page_content)]}


SHAPES: dict[str, Any] = {
    **{name: make for name, make in GRAPHS.items() if not re.search("fails|astream_events", name)},
    **{
        f"a node: {name}": lambda name=name: graph(("agent", node(MODELS[name]())))
        for name in (
            "text with usage and finish reason",
            "one chunk",
            "empty answer",
            "empty chunks between",
            "an image",
            "facts in `llm_output`",
            "`output_version='v1'`",
            "tool call",
            "tool call in fragments",
            "text, then tool calls",
            "blocks of reasoning and text",
            "a model that will not stream",
            "tag `nostream`",
        )
    },
    "an agent with a tool": lambda: agent_with(weather),
    "a retriever, and an event of one's own": lambda: graph(("search", RunnableLambda(searches))),
}


def facts(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What both streams have to say alike; docs/langgraph.md lists the rest."""
    said: dict[str, Any] = {}
    order: dict[str, list[str]] = defaultdict(list)
    lone: list[Any] = []
    for event in events:
        kind, run_id, data = event["event"], str(event["run_id"]), event["data"]
        is_node = event["name"] == event["metadata"].get("langgraph_node")
        if kind == "on_chain_stream" or (kind.startswith("on_chain") and not is_node):
            continue  # of graphs and runnables, and of nodes that stream: no callback of ours has them
        if kind == "on_custom_event":
            lone.append((event["name"], data))
            continue
        if not order[run_id] or order[run_id][-1] != kind:
            order[run_id].append(kind)
        if kind == "on_chat_model_stream":
            chunk = data["chunk"]
            said[run_id] = chunk if run_id not in said else said[run_id] + chunk
        elif kind in ("on_tool_start", "on_tool_end", "on_retriever_start", "on_retriever_end"):
            said[run_id] = event["name"]
        elif kind == "on_chat_model_end":
            order[run_id].append(data["output"].text)
            order[run_id].append(str(data["output"].tool_calls))
            order[run_id].append(str(data["output"].usage_metadata))
    texts = {run_id: one if isinstance(one, str) else one.text for run_id, one in said.items() if one != ""}
    return {"order": {run: kinds for run, kinds in order.items() if kinds}, "texts": texts, "lone": lone}


@activity.defn
async def in_process(name: str) -> Any:
    """Run a graph as its author does today; return what its own events say."""
    events = [event async for event in SHAPES[name]().astream_events(QUESTION, version="v2")]
    return facts(events)


@activity.defn
async def breaks_off(argument: Any) -> str:
    """The first attempt fails in mid-sentence, beside a call that is whole."""
    await node(ScriptedChatModel.saying("whole")).ainvoke(QUESTION)
    fails = activity.info().attempt == 1
    said = ["half ", ValueError("gone")] if fails else ["It is ", "tea."]
    return (await ScriptedChatModel.saying(*said).ainvoke("?", {"tags": ["public"]})).text


@activity.defn
async def breaks_a_tool(argument: Any) -> str:
    """A tool fails, and the node goes on."""

    async def uses(state: Any) -> Any:
        try:
            await breaks.ainvoke({"city": "Rome"})
        except ValueError:
            return {"messages": [AIMessage("no matter")]}

    await graph(("use", RunnableLambda(uses))).ainvoke(QUESTION)
    return "done"


@pytest.fixture
async def backend():
    return MemoryStreamBackend()


@pytest.fixture
async def queue(client, backend):
    capture = ["tool_input", "tool_output", "node_output", "retriever_input", "retriever_output"]
    async with streaming_worker(
        client, backend, [in_process, breaks_off, breaks_a_tool], capture=capture, retrievers=True
    ) as task_queue:
        yield task_queue


async def test_events_are_those_of_langchain(client, backend, queue):
    """For each shape: the same runs, in the same order, with the same text, calls and usage."""
    subscriber = TokenSubscriber(client, backend)

    async def both(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        workflow_id = unique("events")
        there = await client.execute_workflow(
            RunActivity.run, args=["in_process", name, False, 1, 20], id=workflow_id, task_queue=queue
        )
        there["lone"] = [tuple(one) for one in there["lone"]]
        return facts([event async for event in subscriber.events_v2(workflow_id)]), there

    differ = {}
    for group in batched(SHAPES, 6):
        for name, (here, there) in zip(group, await asyncio.gather(*map(both, group)), strict=True):
            if here != there:
                differ[name] = (kinds(here), kinds(there))
    called, streamed = ["on_chat_model_start", "on_chat_model_end"], "on_chat_model_stream"

    assert differ == {
        # A call that did not stream is sent whole, and comes as one chunk.
        "a node: a model that will not stream": ({*called, streamed, *CHAIN}, {*called, *CHAIN}),
        # It is not meant for viewers, and does not travel.
        "a node: tag `nostream`": ({*CHAIN}, {*called, streamed, *CHAIN}),
    }
    assert len(SHAPES) > 30


def batched(names: Iterable[str], size: int) -> list[list[str]]:
    names = list(names)
    return [names[begin : begin + size] for begin in range(0, len(names), size)]


CHAIN = ("on_chain_start", "on_chain_end")


def kinds(found: dict[str, Any]) -> set[str]:
    return {kind for order in found["order"].values() for kind in order if kind.startswith("on_")}


async def test_a_retry_takes_messages_back_by_event(client, backend, queue):
    """Both messages of the attempt that failed: the half one at its failure, the whole one with the retry."""
    workflow_id = unique("retry")
    await client.execute_workflow(
        RunActivity.run, args=["breaks_off", None, False, 2], id=workflow_id, task_queue=queue
    )
    subscriber = TokenSubscriber(client, backend)
    events = [event async for event in subscriber.events_v2(workflow_id)]

    messages: dict[str, str] = {}
    for event in events:
        if event["event"] == "on_chat_model_stream":
            messages[event["run_id"]] = messages.get(event["run_id"], "") + event["data"]["chunk"].text
        elif event["event"] == "on_chat_model_removed":
            del messages[event["run_id"]]
    assert list(messages.values()) == ["whole", "It is tea."]
    reasons = [one["data"]["reason"] for one in events if one["event"] == "on_chat_model_removed"]
    assert reasons == ["ValueError", "superseded"]

    again = 0
    for kept, event in enumerate(events[:-1], 1):
        cursor = event["metadata"]["cursor"]
        rest = [one async for one in subscriber.events_v2(workflow_id, cursor=cursor)]
        assert plain(rest) == plain(events[-len(rest) :]), "calls and nodes that are open are known"
        again += len(rest) - len(events[kept:])
        assert len(rest) >= len(events[kept:])
    assert again == 3, "the last chunk of each of three calls has the place of its end"


def plain(events: list[Any]) -> list[Any]:
    """Events as they are compared: of an error, messages are long."""
    return [{**event, "data": repr(event["data"])} for event in events]


async def test_a_tool_that_fails_is_an_error_event(client, backend, queue):
    workflow_id = unique("tool")
    await client.execute_workflow(RunActivity.run, args=["breaks_a_tool"], id=workflow_id, task_queue=queue)
    events = [one async for one in TokenSubscriber(client, backend).events_v2(workflow_id)]

    assert [(one["event"], one["name"]) for one in events] == [
        ("on_chain_start", "use"),
        ("on_tool_start", "breaks"),
        ("on_tool_error", "breaks"),
        ("on_chain_end", "use"),
    ]
    node_run, tool = events[0]["run_id"], events[1]
    assert tool["parent_ids"] == [node_run]
    assert tool["data"] == {"input": '{"city": "Rome"}'}
    assert events[2]["data"] == {"error": "ValueError"}


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ({"include_types": ["tool"]}, {"on_tool_start", "on_tool_end"}),
        ({"include_names": ["weather"], "exclude_types": ["chain"]}, {"on_tool_start", "on_tool_end"}),
        ({"include_types": ["chain", "tool"], "exclude_names": ["weather", "model", "tools"]}, set()),
        ({"exclude_types": ["chat_model", "tool"]}, {"on_chain_start", "on_chain_end"}),
        ({"include_tags": ["nobody's"]}, set()),
    ],
)
async def test_filters_are_those_of_langchain(client, backend, queue, chosen, shown):
    """The includes add up, the excludes win; LangChain's own stream with the same filters shows the same."""
    workflow_id = unique("filter")
    await client.execute_workflow(
        RunActivity.run, args=["in_process", "an agent with a tool"], id=workflow_id, task_queue=queue
    )
    here = [one async for one in TokenSubscriber(client, backend).events_v2(workflow_id, **chosen)]
    there = [
        one["event"]
        async for one in SHAPES["an agent with a tool"]().astream_events(QUESTION, version="v2", **chosen)
        if one["name"] in ("weather", "model", "tools", "ScriptedChatModel", "scripted")
        and one["event"] != "on_chain_stream"
    ]

    assert {one["event"] for one in here} == shown
    assert {*there} >= shown


async def test_an_end_that_is_none_is_an_error(client, backend, queue):
    workflow_id = unique("failed")
    handle = await client.start_workflow(
        RunActivity.run, args=["breaks_off", None, False, 1], id=workflow_id, task_queue=queue
    )
    with pytest.raises(WorkflowNotCompleted, match="failed"):
        _ = [one async for one in TokenSubscriber(client, backend).events_v2(handle.id)]
    with pytest.raises(ConfigurationError, match="include_names must be a list"):
        TokenSubscriber(client, backend).events_v2(workflow_id, include_names="model")
