"""Where a call stands: within which call, in which branch of which node; and what `nodes=` makes of it."""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send

from temporal_token_interceptor import CallStarted, NodeEnded, NodeStarted, ToolStarted, event_from_json
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from tests.unit.test_final_message import of_kind

# ------------------------------------------------------------------ calls within calls


class Asking(BaseChatModel):
    """A model that asks others, each in one of the ways that a model's author has."""

    inner: list[Any]
    way: str = "invoke"

    @property
    def _llm_type(self) -> str:
        return "asking"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        texts = [model.invoke(messages).text for model in self.inner]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(" ".join(texts)))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.way == "gather":
            answers = await asyncio.gather(*(model.ainvoke(messages) for model in self.inner))
        elif self.way == "thread":
            answers = [await asyncio.to_thread(model.invoke, messages) for model in self.inner]
        else:
            answers = [await model.ainvoke(messages) for model in self.inner]
        message = AIMessage(" ".join(answer.text for answer in answers))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for model in self.inner:
            for chunk in model.stream(messages):
                yield ChatGenerationChunk(message=AIMessageChunk(chunk.text))

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for model in self.inner:
            if self.way in ("invoke", "stream"):
                async for chunk in model.astream(messages):
                    yield ChatGenerationChunk(message=AIMessageChunk(chunk.text))
            else:
                answer = await model.ainvoke(messages)
                yield ChatGenerationChunk(message=AIMessageChunk(answer.text))


WAYS = ["invoke", "gather", "thread", "stream"]


def tree_of(shape: Any, way: str) -> BaseChatModel:
    return (
        ScriptedChatModel.saying("x")
        if not shape
        else Asking(inner=[tree_of(s, way) for s in shape], way=way)
    )


def parents_of(shape: Any) -> list[int]:
    """How many calls lie around each call of a tree, sorted."""
    return sorted([0, *(depth + 1 for inner in shape for depth in parents_of(inner))])


SHAPES = st.recursive(st.just([]), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5)


@settings(deadline=None)  # LangChain's own threads take their time on a busy machine
@given(
    SHAPES,
    st.sampled_from(WAYS),
    st.sampled_from(["ainvoke", "astream", "invoke", "stream"]),
    st.sampled_from(["auto", False]),
)
async def test_a_call_within_a_call_names_its_parent(shape, way, outer, force_streaming):
    """However a model asks others: awaited, gathered, on threads, streaming or not."""
    environment = StreamingActivityEnvironment(force_streaming=force_streaming)
    model = tree_of(shape, way)

    async def activity() -> None:
        if outer == "ainvoke":
            await model.ainvoke("?")
        elif outer == "astream":
            assert [chunk async for chunk in model.astream("?")]
        elif outer == "invoke":
            model.invoke("?")
        else:
            assert list(model.stream("?"))

    await environment.run(activity)

    calls = {event.call.ordinal: event.call for event in of_kind(environment, CallStarted)}
    depths = []
    for call in calls.values():
        depth, above = 0, call.parent
        while above is not None:
            depth, above = depth + 1, calls[above].parent
        depths.append(depth)
    assert sorted(depths) == parents_of(shape)
    assert [event_from_json(event.to_json()) for event in environment.events] == environment.events


async def test_a_call_between_two_chunks_is_not_within_the_stream():
    """A consumer that translates each piece by another model: the two stand side by side."""
    environment = StreamingActivityEnvironment()

    async def activity() -> None:
        async for _ in ScriptedChatModel.saying("a", "b").astream("?"):
            await ScriptedChatModel.saying("A").ainvoke("?")
        for _ in ScriptedChatModel.saying("c").stream("?"):
            ScriptedChatModel.saying("C").invoke("?")
        await ScriptedChatModel.saying("d").ainvoke("?")

    await environment.run(activity)

    assert {event.call.parent for event in of_kind(environment, CallStarted)} == {None}


# ------------------------------------------------------------------ branches


async def ask(state: Any) -> Any:
    return {"messages": [await ScriptedChatModel.saying("x").ainvoke("?")]}


@tool
async def look(what: str) -> str:
    """Look at something."""
    return what


def sub_agent() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", ask)
    builder.add_edge(START, "model")
    return builder.compile()


async def call_tool(state: Any) -> Any:
    message = AIMessage("", tool_calls=[{"name": "look", "args": {"what": "x"}, "id": "c1"}])
    return await ToolNode([look]).ainvoke({"messages": [message]})


def branching(node: Any, branches: int) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("research", node)
    builder.add_conditional_edges(START, lambda state: [Send("research", state)] * branches, ["research"])
    return builder.compile()


@pytest.mark.parametrize("branches", [1, 4])
@pytest.mark.parametrize("kind", ["function", "graph", "function that calls a graph"])
async def test_branches_of_a_send_are_told_apart(kind, branches):
    """Each call leads to the run of the node that it is in, and outwards to its branch."""
    environment = StreamingActivityEnvironment()
    inner = sub_agent()

    async def calling(state: Any) -> Any:
        return await inner.ainvoke(state)

    graph = branching({"function": ask, "graph": inner}.get(kind, calling), branches)

    async def activity() -> None:
        await graph.ainvoke({"messages": []})

    await environment.run(activity)

    nodes = {event.run_id: event for event in of_kind(environment, NodeStarted)}
    calls = [event.call for event in of_kind(environment, CallStarted)]
    outermost = set()
    for call in calls:
        node = nodes[call.node_run_id or ""]
        assert (node.node_name, node.path, node.task_id) == (call.node_name, call.path, call.task_id)
        while node.node_run_id is not None:
            node = nodes[node.node_run_id]
        assert node.node_name == "research"
        outermost.add(node.run_id)
    assert len(calls) == len({call.task_id for call in calls}) == len(outermost) == branches
    ended = of_kind(environment, NodeEnded)
    assert {event.run_id: event.task_id for event in ended} == {
        run_id: node.task_id for run_id, node in nodes.items()
    }


async def test_a_tool_names_the_node_that_it_runs_in():
    environment = StreamingActivityEnvironment()

    async def activity() -> None:
        await branching(call_tool, 2).ainvoke({"messages": []})

    await environment.run(activity)

    nodes = {event.run_id for event in of_kind(environment, NodeStarted)}
    tools = of_kind(environment, ToolStarted)
    assert len({event.node_run_id for event in tools}) == 2
    assert {event.node_run_id for event in tools} <= nodes


# ------------------------------------------------------------------ filters


@pytest.mark.parametrize(("nodes", "text"), [(["research"], "x"), (["model"], "x"), (["other"], "")])
async def test_a_node_stands_for_all_that_runs_within_it(nodes, text):
    """The calls of a sub-agent are in a node of its own graph; the user names the node that runs it."""
    environment = StreamingActivityEnvironment(nodes=nodes)

    async def activity() -> None:
        await branching(sub_agent(), 1).ainvoke({"messages": []})

    await environment.run(activity)

    assert environment.text == text


async def test_a_task_is_no_subgraph_but_is_within_its_entrypoint():
    """LangGraph shows the calls of a `@task` in a stream without subgraphs; so do `path` and `messages`."""

    @task
    async def inner(text: str) -> str:
        return (await ScriptedChatModel.saying("x").ainvoke(text)).text

    @task
    async def outer(text: str) -> str:
        return await inner(text)

    @entrypoint()
    async def flow(text: str) -> str:
        return await outer(text)

    environment = StreamingActivityEnvironment(nodes=["flow"])

    async def activity() -> str:
        return str(await flow.ainvoke("?"))

    await environment.run(activity)

    (started,) = of_kind(environment, CallStarted)
    assert (started.call.node_name, started.call.path, environment.text) == ("inner", (), "x")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nodes": ["research", "reserch"]}, "the filters name reserch"),
        ({"tags": ["graph:step:1", "public", "typo"]}, "the filters name typo"),
        ({"nodes": ["research"]}, None),
        ({}, None),
    ],
)
async def test_a_name_that_matches_nothing_is_logged_once(options, named, caplog):
    """A typo would filter in silence."""
    environment = StreamingActivityEnvironment(**options)

    async def activity() -> None:
        await branching(sub_agent(), 1).ainvoke({"messages": []}, {"tags": ["public"]})

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await environment.run(activity)

    found = [record.getMessage() for record in caplog.records if "the filters name" in record.getMessage()]
    assert len(found) == (named is not None)
    assert all(named in message and "did you mean" not in message for message in found if named)


async def test_a_close_name_is_suggested(caplog):
    environment = StreamingActivityEnvironment(nodes=["model", "modle"])

    async def activity() -> None:
        await branching(sub_agent(), 1).ainvoke({"messages": []})

    with caplog.at_level(logging.WARNING):
        await environment.run(activity)

    assert "did you mean model?" in caplog.text


@pytest.mark.parametrize(
    ("kinds", "is_logged"), [(["reasoning", "block"], True), (["reasoning", "text"], False), (None, False)]
)
async def test_kinds_that_match_nothing_are_logged_once(kinds, is_logged, caplog):
    """Calls begin and end, and nothing comes between: I should not have to guess why."""
    environment = StreamingActivityEnvironment(kinds=kinds)

    async def activity() -> None:
        await ScriptedChatModel.saying("a ", "b").ainvoke("?")

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await environment.run(activity)

    found = [one.getMessage() for one in caplog.records if "nothing of kinds=" in one.getMessage()]
    assert len(found) == is_logged
    assert all("['block', 'reasoning']" in message for message in found)
