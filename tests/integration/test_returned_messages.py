"""What nodes return whole, beside LangGraph's own streams of messages: the activity runs `ainvoke`."""

import asyncio
import json
import operator
import re
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.types import Command, RetryPolicy
from pydantic import BaseModel
from temporalio import activity
from typing_extensions import TypedDict

from temporal_token_interceptor import MemoryStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import tool_call
from tests.differential.models import after_tools
from tests.differential.shapes import QUESTION, node, says
from tests.differential.streamed import SHAPES as STREAMED
from tests.support.run_objects import told_by
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


@dataclass
class Thread:
    """A state that is a dataclass."""

    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)


class Chat(BaseModel):
    """A state that is a model of pydantic."""

    messages: Annotated[list[AnyMessage], add_messages] = []
    last: AnyMessage | None = None


class Plain(TypedDict):
    """A state that gives no ids."""

    messages: Annotated[list[Any], operator.add]


def steps(state: type, *nodes: tuple[str, Any], **options: Any) -> Any:
    builder = StateGraph(state)
    before = START
    for name, run in nodes:
        builder.add_node(name, run)
        builder.add_edge(before, name)
        before = name
    return builder.compile(**options)


def returns(*messages: Any, key: str = "messages") -> Any:
    return lambda state: {key: [message.model_copy() for message in messages]}


def passes_on(state: Any) -> Any:
    """Return all that came in, and one more."""
    return {"messages": [*state["messages"], AIMessage("more")]}


def literal() -> Any:
    return steps(MessagesState, ("one", returns(AIMessage("I said so."))), ("two", passes_on))


def asks_another() -> Any:
    inner = steps(MessagesState, ("inner", node(says("in", "ner"))), ("last", returns(AIMessage("done"))))

    async def ask(state: Any) -> Any:
        return await inner.ainvoke({"messages": [HumanMessage("sub-question", id="h-1")]})

    return steps(MessagesState, ("outer", ask))


def functional() -> Any:
    @task
    async def greets(name: str) -> AIMessage:
        return AIMessage(f"Hello {name}")

    @task
    async def asks(question: str) -> Any:
        return await says("a", "b").ainvoke(question)

    @entrypoint()
    async def flow(value: Any) -> Any:
        return [await greets("you"), await asks("?"), AIMessage("end")]

    return flow


def remembers() -> Any:
    """A graph whose thread holds a conversation already."""
    compiled = steps(MessagesState, ("node", passes_on), checkpointer=InMemorySaver()).with_config(
        configurable={"thread_id": "t"}
    )
    compiled.update_state(compiled.config, {"messages": [HumanMessage("before", id="h-0"), AIMessage("was")]})
    return compiled


def two_levels() -> Any:
    inner = steps(MessagesState, ("inner", returns(AIMessage("from within"), HumanMessage("who?"))))
    return steps(MessagesState, ("middle", steps(MessagesState, ("sub", inner))), ("last", passes_on))


def again() -> Any:
    """A graph whose node is tried again after what its model has streamed."""
    tries = []

    async def node_of(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            await says("half").ainvoke("?")
            raise ConnectionError
        return {"messages": [AIMessage("whole")]}

    builder = StateGraph(MessagesState)
    at_once = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ConnectionError)
    builder.add_node("n", node_of, retry_policy=at_once)
    builder.add_edge(START, "n")
    return builder.compile()


def passes_up() -> Any:
    """A node that returns what a graph within it has returned, and one more."""
    inner = steps(MessagesState, ("inner", returns(AIMessage("within", id="i-1"))))

    async def ask(state: Any) -> Any:
        answer = await inner.ainvoke({"messages": []})
        return {"messages": [*answer["messages"], AIMessage("above")]}

    return steps(MessagesState, ("outer", ask))


def by_a_tool() -> Any:
    """An agent whose tool returns a command with messages."""

    @tool
    def look() -> Command:
        """Look it up."""
        found = [AIMessage("I looked."), ToolMessage("found", tool_call_id="tc")]
        return Command(update={"messages": found})

    return create_agent(after_tools(tool_call("look", "{}", id="tc", index=0)), [look])


def commands(state: Any) -> Any:
    return [
        Command(update={"messages": [AIMessage("by command")]}),
        {"messages": [AIMessage("beside it")]},
        Command(goto="__end__"),
    ]


KINDS: tuple[BaseMessage, ...] = (
    AIMessage("said", id="m-1"),
    HumanMessage("asked"),
    ToolMessage("found", tool_call_id="tc", id="m-2"),
    SystemMessage("ordered", id="m-3"),
    AIMessageChunk("a piece", id="m-4"),
)
BLOCKS: tuple[BaseMessage, ...] = (
    AIMessage(
        [
            {"type": "reasoning", "reasoning": "hm", "extras": {"signature": "s"}},
            {"type": "text", "text": "Look: ", "annotations": [{"type": "citation", "url": "https://a.b"}]},
            {"type": "image", "url": "https://a.b/c.png"},
            {"type": "text", "text": ""},
        ],
        tool_calls=[{"name": "find", "args": {"q": ["tea"]}, "id": "tc-1"}],
        invalid_tool_calls=[{"name": "find", "args": "{", "id": "tc-2", "error": "no JSON"}],
        usage_metadata={"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
        response_metadata={"finish_reason": "stop", "model_name": "tea-1", "model_provider": "kettle"},
        additional_kwargs={"own": 1},
    ),
    AIMessage(""),
    HumanMessage([{"type": "text", "text": "this?"}, {"type": "image", "url": "https://a.b/d.png"}]),
)

ODD: dict[str, Any] = {
    "literal messages": literal,
    "a person's words out of a node": lambda: steps(MessagesState, ("ask", returns(HumanMessage("I?")))),
    "one message, not in a list": lambda: steps(MessagesState, ("n", lambda _: {"messages": AIMessage("x")})),
    "a dataclass": lambda: steps(Thread, ("n", lambda _: Thread([AIMessage("x")]))),
    "a pydantic model": lambda: steps(Chat, ("n", lambda _: Chat(last=AIMessage("l"), messages=[]))),
    "no ids": lambda: steps(
        Plain, ("a", returns(AIMessage("x"))), ("b", lambda s: {"messages": s["messages"]})
    ),
    "no ids, two levels": lambda: steps(Plain, ("sub", steps(Plain, ("in", returns(AIMessage("x")))))),
    "a graph that asks another": asks_another,
    "two levels": two_levels,
    "tasks": functional,
    "a thread that goes on": remembers,
    "several commands": lambda: steps(MessagesState, ("n", commands)),
    "a command with a list": lambda: steps(
        MessagesState, ("n", lambda _: Command(update=[("messages", [AIMessage("x")])]))
    ),
    "the same twice": lambda: steps(MessagesState, ("n", returns(*[AIMessage("x", id="i")] * 2))),
    "a removal": lambda: steps(
        MessagesState,
        ("say", returns(AIMessage("x", id="i"))),
        ("take back", returns(RemoveMessage(id="i"), RemoveMessage(id="__remove_all__"))),
    ),
    "tuples and dicts": lambda: steps(
        MessagesState, ("n", lambda _: {"messages": [("ai", "x"), {"role": "user", "content": "y"}]})
    ),
    "the sum of what it streamed": lambda: steps(MessagesState, ("n", summed)),
    "what it streamed, changed": lambda: steps(MessagesState, ("n", changed)),
    "messages of all kinds": lambda: steps(MessagesState, ("n", returns(*KINDS))),
    "messages of all kinds, in a subgraph": lambda: steps(
        MessagesState, ("sub", steps(MessagesState, ("n", returns(*KINDS)))), ("last", passes_on)
    ),
    "blocks": lambda: steps(MessagesState, ("n", returns(*BLOCKS))),
    "an id of a tool's message once more": lambda: steps(
        Plain, ("n", returns(ToolMessage("t", tool_call_id="tc", id="i"), AIMessage("x", id="i")))
    ),
    "an id once more": lambda: steps(
        MessagesState, ("a", returns(AIMessage("x", id="i"))), ("b", returns(AIMessage("y", id="i")))
    ),
    "a node that is tried again": again,
    "what a graph within has returned": passes_up,
    "a tool's command": by_a_tool,
}


async def changed(state: Any) -> Any:
    """Return another text under the id of what its model has streamed."""
    message = await says("a", "b").ainvoke("?")
    return {"messages": [message.model_copy(update={"content": "c"})]}


async def summed(state: Any) -> Any:
    chunks = [chunk async for chunk in says("a", "b").astream("?")]
    return {"messages": [chunks[0] + chunks[1]]}


SHAPES = {
    **{name: make for name, make in STREAMED.items() if re.search("deep|agent`|graph|nostream|Send", name)},
    **ODD,
}


def message_facts(message: Any, metadata: Any) -> Any:
    """What is the same in two runs of a graph: ids are not."""
    place = [metadata.get(key) for key in ("langgraph_node", "langgraph_step", "lc_agent_name")]
    own = message.id if len(str(message.id)) < 20 else None  # one that the graph chose
    calls = [call["name"] for call in getattr(message, "tool_calls", ())]
    return [message.type.removesuffix("MessageChunk").lower(), message.text, calls, own, *place]


async def summed_up(stream: Any) -> list[Any]:
    """The messages of a stream, in the order in which they began; parallel ones in that of the alphabet."""
    messages: dict[str, Any] = {}
    async for message, metadata in stream:
        if isinstance(message, AIMessageChunk) and message.id in messages:
            message = messages[message.id][0] + message  # noqa: PLW2901
        messages[str(message.id)] = (message, metadata)
    return sorted((message_facts(*one) for one in messages.values()), key=lambda one: [one[5], str(one)])


async def shown_by(run: Any) -> tuple[Any, Any]:
    """What a run object shows of messages: its handles, those of subgraphs too, and its raw events."""
    tree, raw = await asyncio.gather(told_by(run, ("messages", "subgraphs")), raw_of(run))
    return without_made_ids(tree), without_made_ids(raw)


async def raw_of(run: Any) -> list[Any]:
    """The events of messages and of subgraphs, in their order; of a streamed message its two ends."""
    found: list[Any] = []
    async for event in run:
        data, namespace = event["params"]["data"], event["params"]["namespace"]
        if event["method"] == "lifecycle":
            found.append([data["event"], data["namespace"]])
        elif event["method"] == "messages" and isinstance(data[0], BaseMessage):
            found.append([namespace, *message_facts(*data), "run_id" in data[1]])
        elif event["method"] == "messages" and data[0]["event"].startswith("message-"):
            found.append([namespace, data[0]["event"], data[1]["langgraph_node"], "run_id" in data[1]])
    return found


def without_made_ids(tree: Any) -> Any:
    """A tree whose ids are left out, but for those that the graph chose: in two runs the others differ."""
    made = r"(lc_run--)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-[0-9]+)?"
    return json.loads(re.sub(made, "made", json.dumps(tree)))


@activity.defn
async def at_second_try(argument: Any) -> None:
    """The first attempt fails after a node has returned."""
    fails = activity.info().attempt == 1
    last = says("a", ConnectionError("reset") if fails else "b")
    await steps(
        MessagesState, ("one", returns(AIMessage("x"), HumanMessage("y", id="h"))), ("two", node(last))
    ).ainvoke(QUESTION)


async def test_a_retry_takes_back_what_nodes_returned_and_a_reader_resumes_anywhere(client):
    """Whole messages are taken back by their ids, also from a reader that saw them before it resumed."""
    backend, workflow_id = MemoryStreamBackend(), unique("returned-retry")
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [at_second_try], capture=["node_output"]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["at_second_try", None, False, 2, 20], id=workflow_id, task_queue=queue
        )
    whole = [one async for one in subscriber.messages(workflow_id)]
    held: dict[Any, str] = {}
    for message, _ in whole:
        if isinstance(message, RemoveMessage):
            del held[message.id]
        else:
            held[message.id] = held.get(message.id, "") + message.text

    assert list(held.values()) == ["x", "y", "ab"]
    assert sum(isinstance(message, RemoveMessage) for message, _ in whole) == 3
    for kept in range(1, len(whole)):
        cursor = whole[kept - 1][1]["cursor"]
        rest = [one async for one in subscriber.messages(workflow_id, cursor=cursor)]
        # Several messages of one event come again: none is lost, and each has its id.
        missing = [one for one in whole[kept:] if one not in rest]
        assert missing == []
        assert len(rest) - len(whole[kept:]) in (0, 1)


@activity.defn
async def invokes(name: str) -> None:
    """All that an activity needs."""
    await SHAPES[name]().ainvoke(QUESTION)


async def test_what_nodes_return_is_what_langgraph_shows_of_it(client):
    """I run my graph by `ainvoke`, and a reader has the messages that `graph.astream` would have shown me."""
    backend = MemoryStreamBackend()
    subscriber = TokenSubscriber(client, backend)
    differ: dict[Any, Any] = {}

    async def compare(name: str, queue: str) -> None:
        workflow_id = unique("returned")
        await client.execute_workflow(
            RunActivity.run, args=["invokes", name, False, 1, 20], id=workflow_id, task_queue=queue
        )
        for subgraphs in (False, True):
            here = await summed_up(subscriber.messages(workflow_id, subgraphs=subgraphs))
            stream = SHAPES[name]().astream(QUESTION, stream_mode="messages", subgraphs=subgraphs)
            there = await summed_up(one[1] if subgraphs else one async for one in stream)
            if here != there:
                differ[name, subgraphs] = (here, there)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LangGraph's: v3 is in beta
            async with await SHAPES[name]().astream_events(QUESTION, version="v3") as run:
                theirs = await shown_by(run)
        async with subscriber.run(workflow_id) as run:
            ours = await shown_by(run)
        for what, here, there in zip(("handles", "raw"), ours, theirs, strict=True):
            if here != there:
                differ[name, what] = (here, there)

    names = list(SHAPES)
    async with streaming_worker(client, backend, [invokes], capture=["node_output"]) as queue:
        for begin in range(0, len(names), 8):
            await asyncio.gather(*(compare(name, queue) for name in names[begin : begin + 8]))

    # There a model that is streamed by its caller comes as one chunk, and is not in `run.messages`.
    assert [differ.pop(("the sum of what it streamed", what))[1] for what in ("handles", "raw")] == [
        {"messages": [], "subgraphs": []},
        [[[], "ai", "ab", [], None, "n", 1, None, False]],
    ]
    assert differ == {}
