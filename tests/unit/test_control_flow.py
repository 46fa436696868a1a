"""Interrupts and handoffs are no errors, and every text is with the run of the branch that said it."""

import operator
from collections import Counter
from functools import cache
from typing import Annotated, Any, TypedDict
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt

from temporal_token_interceptor import (
    CallEnded,
    CallStarted,
    NodeEnded,
    NodeStarted,
    TokenEvent,
    ToolEnded,
)
from temporal_token_interceptor.testing import StreamingActivityEnvironment
from tests.support.answers import Pausing
from tests.unit.test_final_message import of_kind


class State(TypedDict, total=False):
    """What a branch is given, and what the branches have said."""

    number: int
    kind: str
    pauses: list[int]
    branches: list[Any]
    said: Annotated[list[str], operator.add]


@tool
def ask_human(question: str) -> str:
    """Ask a human."""
    return str(interrupt(question))


async def branch(state: Any) -> Any:
    """Say something, and then return, ask a human, or go elsewhere, as this branch does."""
    chunks = [AIMessageChunk(f"{state['number']} "), AIMessageChunk(state["kind"])]
    said = {"said": [(await Pausing.of(chunks, state["pauses"]).ainvoke("?")).text]}
    match state["kind"]:
        case "goes":
            return Command(goto="after", update=said)
        case "hands over":
            return Command(graph=Command.PARENT, goto="after", update=said)
        case "asks":
            interrupt("really?")
        case "asks by a tool":
            call: Any = {"name": "ask_human", "args": {"question": "really?"}, "id": f"c{state['number']}"}
            await ToolNode([ask_human]).ainvoke({"messages": [AIMessage("", tool_calls=[call])]})
        case _:
            pass
    return said


def fan_out(state: Any) -> list[Send]:
    return [
        Send("around" if kind == "hands over" else "branch", {"number": n, "kind": kind, "pauses": pauses})
        for n, (kind, pauses) in enumerate(state["branches"])
    ]


@cache
def graph_of(*, is_nested: bool) -> Any:
    """A graph with branches; one that hands over is a graph within it."""
    around = StateGraph(State)
    around.add_node("inner", branch)
    around.add_edge(START, "inner")
    builder = StateGraph(State)
    builder.add_node("branch", branch, destinations=("after",))
    builder.add_node("around", around.compile(), destinations=("after",))
    builder.add_node("after", lambda _: {})
    builder.add_conditional_edges(START, fan_out, ["branch", "around"])
    if is_nested:
        inner, builder = builder.compile(), StateGraph(State)
        builder.add_node("team", inner)
        builder.add_edge(START, "team")
    return builder.compile(checkpointer=InMemorySaver())


KINDS = ["returns", "goes", "hands over", "asks", "asks by a tool"]
ASKS = {"asks", "asks by a tool"}
BRANCHES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 5), max_size=3)), min_size=1, max_size=5
)


@settings(max_examples=20)  # each runs a graph, also of many branches
@given(BRANCHES, st.booleans())
async def test_control_flow_is_no_error_and_every_text_is_with_its_branch(branches, is_nested):
    """However many branches, in whatever order they end; what has asked a human says its text again."""
    environment = StreamingActivityEnvironment()
    graph = graph_of(is_nested=is_nested)
    config: RunnableConfig = {"configurable": {"thread_id": uuid4().hex}}

    async def activity() -> None:
        state = await graph.ainvoke({"branches": branches}, config)
        while asked := state.get("__interrupt__"):
            state = await graph.ainvoke(Command(resume={one.id: "yes" for one in asked}), config)

    await environment.run(activity)

    ended = of_kind(environment, NodeEnded)
    steps = [*ended, *of_kind(environment, ToolEnded), *of_kind(environment, CallEnded)]
    assert [step for step in steps if step.error is not None or step.unfinished] == []
    nodes = {event.run_id: event for event in of_kind(environment, NodeStarted)}
    stopped = {event.run_id: event.interrupted for event in ended}
    texts = Counter[int]()
    runs, tasks = [], []
    for call in (event.call for event in of_kind(environment, CallStarted)):
        own = node = nodes[call.node_run_id or ""]
        while node.node_name not in ("branch", "around"):
            node = nodes[node.node_run_id or ""]
        runs.append(node.run_id)
        tasks.append(node.task_id)
        said = "".join(one.token for one in of_kind(environment, TokenEvent) if one.call == call)
        number, _, kind = said.partition(" ")
        texts[int(number)] += 1
        assert (kind, own.task_id) == (branches[int(number)][0], call.task_id)
        assert (own.node_name, node.node_name == "around") == (
            "inner" if kind == "hands over" else "branch",
            kind == "hands over",
        )
        assert stopped[own.run_id] == (kind == "hands over" or (kind in ASKS and texts[int(number)] == 1))
    assert len(set(runs)) == len(runs)
    assert len(set(tasks)) == len(branches)
    assert texts == {number: 1 + (kind in ASKS) for number, (kind, _) in enumerate(branches)}
