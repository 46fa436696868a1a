"""Chains and graphs as users build them, each to be run with and without us."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from temporal_token_interceptor.testing import ScriptedChatModel, tool_call
from tests.differential.models import MODELS, SEARCH, VERDICT, WORDS, Verdict, after_tools, cached, search

QUESTION = {"messages": [("user", "?")]}


@tool
def broken(query: str) -> str:
    """Find nothing."""
    raise ValueError("out of order")


def node(model: Runnable[Any, Any], then: Callable[[Any], Any] | None = None) -> RunnableLambda[Any, Any]:
    """A node that calls the model, in a sync and in an async form."""
    finish = then or (lambda message: {"messages": [message]})
    return RunnableLambda(
        lambda state: finish(model.invoke(state["messages"])),
        afunc=_async(lambda state: model.ainvoke(state["messages"]), finish),
    )


def _async(call: Any, finish: Any) -> Any:
    async def run(state: Any) -> Any:
        return finish(await call(state))

    return run


def graph(*nodes: tuple[str, Any], **options: Any) -> Any:
    """A graph whose nodes follow one another."""
    builder = StateGraph(MessagesState)
    before = START
    for name, run in nodes:
        builder.add_node(name, run)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder.compile(**options)


def says(*words: str) -> ScriptedChatModel:
    """A model."""
    return ScriptedChatModel.saying(*words)


def parallel_nodes() -> Any:
    builder = StateGraph(MessagesState)
    for name in ("left", "right"):
        builder.add_node(name, node(says(name, "!")))
        builder.add_edge(START, name)
    return builder.compile()


class Many(TypedDict):
    """State of a fan-out."""

    messages: Annotated[list[Any], operator.add]


def fan_out() -> Any:
    builder = StateGraph(Many)
    builder.add_node("worker", node(says("one ", "of many"), lambda message: {"messages": [message.text]}))
    builder.add_conditional_edges(START, lambda _: [Send("worker", {"messages": "?"}) for _ in range(3)])
    return builder.compile()


def routed() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node(
        "router",
        node(says("go"), lambda message: Command(goto="end", update={"messages": [message]})),
        destinations=("end",),
    )
    builder.add_node("end", node(says("done")))
    builder.add_edge(START, "router")
    return builder.compile()


def interrupted() -> Any:
    def ask(state: Any) -> Any:
        return {"messages": [("user", interrupt("really?"))]}

    compiled = graph(("draft", node(says("dr", "aft"))), ("ask", ask), checkpointer=InMemorySaver())
    return compiled.with_config(configurable={"thread_id": "t-1"})


def custom_events() -> Any:
    def run(state: Any) -> Any:
        dispatch_custom_event("progress", {"done": 1})
        return {"messages": [says("a", "b").invoke("?")]}

    async def arun(state: Any) -> Any:
        await adispatch_custom_event("progress", {"done": 1})
        return {"messages": [await says("a", "b").ainvoke("?")]}

    return graph(("worker", RunnableLambda(run, afunc=arun)))


def streaming_node() -> Any:
    def run(state: Any) -> Any:
        return {"messages": [("ai", "".join(chunk.text for chunk in says("a", "b").stream("?")))]}

    async def arun(state: Any) -> Any:
        return {"messages": [("ai", "".join([chunk.text async for chunk in says("a", "b").astream("?")]))]}

    return graph(("worker", RunnableLambda(run, afunc=arun)))


def failing_node() -> Any:
    def run(state: Any) -> Any:
        raise KeyError(says("w", "x").invoke("?").text)

    return graph(("worker", run))


def batches() -> Any:
    model = says("a", "b")
    return RunnableLambda(
        lambda _: model.batch(["?", "!"]), afunc=_async(lambda _: model.abatch(["?", "!"]), lambda all_: all_)
    )


def twice(model: Any) -> Any:
    """Ask twice: the second answer is out of the cache."""

    async def arun(question: Any) -> Any:
        return [await model.ainvoke(question), await model.ainvoke(question)]

    return RunnableLambda(lambda question: [model.invoke(question), model.invoke(question)], afunc=arun)


def nested_events(version: Any) -> Any:
    """A node that reads its chain's own event stream; sync there is no such thing, so it streams."""
    chain = says("a", "b") | StrOutputParser()

    async def arun(state: Any) -> Any:
        told = [
            (event.get("event") or event["method"])
            async for event in (
                chain.astream_events("?", version=version)
                if version == "v2"
                else await says("a", "b").astream_events("?", version=version)
            )
        ]
        return {"messages": [("ai", " ".join(map(str, told)))]}

    return graph(("worker", RunnableLambda(lambda _: {"messages": [("ai", chain.invoke("?"))]}, afunc=arun)))


def nested_graph_events() -> Any:
    inner = graph(("inner", node(says("a", "b"))))

    async def arun(state: Any) -> Any:
        told = [event["event"] async for event in inner.astream_events(QUESTION, version="v2")]
        return {"messages": [("ai", " ".join(told))]}

    def run(state: Any) -> Any:
        told = [mode for mode, _ in inner.stream(QUESTION, stream_mode=["messages", "updates"])]
        return {"messages": [("ai", " ".join(told))]}

    return graph(("worker", RunnableLambda(run, afunc=arun)))


class Shouting(Runnable[Any, Any]):
    """A user's own Runnable whose streamed form differs from its plain one."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        return {"messages": [("ai", "plain " + says("a", "b").invoke("?").text)]}

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        yield {"messages": [("ai", "streamed")]}


def deep_agent() -> Any:
    """The main agent hands a task to a sub-agent; both speak."""

    def script(messages: Any) -> Any:
        if messages[-1].type == "tool":
            return ["It is ", "tea."]
        if any("find tea" in str(message.content) for message in messages if message.type == "human"):
            return ["leaves ", "in water"]
        return [tool_call("task", '{"description": "find tea", "subagent_type": "researcher"}', id="tc-1")]

    return create_deep_agent(
        model=ScriptedChatModel(script=script),
        tools=[],
        subagents=[{"name": "researcher", "description": "finds", "system_prompt": "find", "tools": []}],
    )


CHAINS: dict[str, Any] = {
    "prompt, model, parser": lambda: (
        ChatPromptTemplate.from_messages([("user", "{messages}")]) | says("a", "b") | StrOutputParser()
    ),
    "two models in parallel": lambda: RunnableParallel(
        a=RunnableLambda(lambda _: "?") | says("a"), b=RunnableLambda(lambda _: "?") | says("b", "b")
    ),
    "`batch`": batches,
    "a cached chat model, twice": lambda: twice(cached(ScriptedChatModel.saying(*WORDS))),
    "a cached text LLM, twice": lambda: twice(cached(MODELS["text LLM"]())),
}

GRAPHS: dict[str, Any] = {
    "one node": lambda: graph(("agent", node(says("a", "b")))),
    "two nodes": lambda: graph(("plan", node(says("a", "b"))), ("write", node(says("c", "d")))),
    "parallel nodes": parallel_nodes,
    "`Send` fan-out": fan_out,
    "`Command` routing": routed,
    "a subgraph as a node": lambda: graph(("sub", graph(("inner", node(says("a", "b")))))),
    "a graph called in a node": lambda: graph(
        (
            "outer",
            RunnableLambda(
                lambda state: graph(("inner", node(says("a", "b")))).invoke(state),
                afunc=lambda state: graph(("inner", node(says("a", "b")))).ainvoke(state),
            ),
        )
    ),
    "a chain as a node": lambda: graph(
        ("chain", RunnableLambda(lambda s: s["messages"]) | says("a", "b") | (lambda m: {"messages": [m]}))
    ),
    "a user's own Runnable as a node": lambda: graph(("own", Shouting())),
    "a node that streams": streaming_node,
    "a node that dispatches custom events": custom_events,
    "a node that fails": failing_node,
    "an interrupt, with a checkpointer": interrupted,
    "`astream_events` v2 in a node": lambda: nested_events("v2"),
    "`astream_events` v3 in a node": lambda: nested_events("v3"),
    "`astream_events` of a graph in a node": nested_graph_events,
    "`create_agent`, no tools": lambda: create_agent(says("a", "b"), tools=[]),
    "`create_agent` with a tool": lambda: create_agent(after_tools(SEARCH), tools=[search]),
    "`create_agent` with two tool calls": lambda: create_agent(
        after_tools(SEARCH, tool_call("search", '{"query": "milk"}', id="tc-2", index=1)), tools=[search]
    ),
    "`create_agent` with a tool that fails": lambda: create_agent(
        after_tools(tool_call("broken", '{"query": "tea"}', id="tc-1")), tools=[broken]
    ),
    "`create_agent` with a structured response": lambda: create_agent(
        ScriptedChatModel.saying(VERDICT), tools=[], response_format=Verdict
    ),
    "`create_agent`, blocks of reasoning": lambda: create_agent(
        ScriptedChatModel.saying(
            AIMessageChunk([{"type": "reasoning", "reasoning": "hm", "index": 0}]),
            AIMessageChunk([{"type": "text", "text": "yes", "index": 1}]),
        ),
        tools=[],
    ),
    "a deep agent with a sub-agent": deep_agent,
}

SHAPES: dict[str, tuple[Any, Any]] = {
    **{name: (make, "?") for name, make in MODELS.items()},
    **{name: (make, QUESTION) for name, make in CHAINS.items()},
    "a cached chat model, twice": (CHAINS["a cached chat model, twice"], "?"),
    "a cached text LLM, twice": (CHAINS["a cached text LLM, twice"], "?"),
    **{name: (make, QUESTION) for name, make in GRAPHS.items()},
}
"""Each shape: makes a Runnable anew; its input."""
