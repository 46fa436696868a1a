"""Fails when LangGraph gives callbacks its stream modes: `stream_graph` is then no longer the only way.

A failure here is no bug in a test. docs/design.md, section 5, has the decision that it would reopen.
"""

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.callbacks import GraphCallbackHandler
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import StreamTransformer

QUESTION: Any = {"messages": [("user", "?")]}


class Listening(GraphCallbackHandler):
    """Notes what it is called for."""

    run_inline = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *args, **kwargs: self.calls.append((name, repr((args, kwargs))))


class Transformer(StreamTransformer):
    """Counts how often it is made use of."""

    used = 0

    def init(self) -> dict[str, Any]:
        Transformer.used += 1
        return {}

    def process(self, event: Any) -> bool:
        Transformer.used += 1
        return True


def say(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()("written")
    return {"messages": [("ai", "said")]}


def a_graph(**options: Any) -> Any:
    return StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").compile(**options)


async def test_callbacks_see_starts_and_ends_alone():
    """`ainvoke` gives a handler no value of a state, no task and nothing that a node writes to the stream."""
    listening = Listening()
    await a_graph().ainvoke(QUESTION, {"callbacks": [listening]})

    assert [name for name, _ in listening.calls] == ["on_chain_start"] * 2 + ["on_chain_end"] * 2
    assert not any("written" in what for _, what in listening.calls)


def test_graph_callbacks_are_of_interrupts_alone():
    names = {name for name in dir(GraphCallbackHandler) if name.startswith("on_")}

    assert names - {*dir(BaseCallbackHandler)} == {"on_interrupt", "on_resume"}


async def test_a_graphs_own_stream_mode_and_transformers_have_no_effect_on_ainvoke():
    """What code that has a compiled graph can set on it changes only how it is streamed."""
    graph = a_graph(transformers=[Transformer])
    graph.stream_mode = ["custom", "values"]

    assert isinstance(await graph.ainvoke(QUESTION), dict)
    assert Transformer.used == 0
    assert [mode async for mode, _ in graph.astream(QUESTION)] == ["values", "custom", "values"]
