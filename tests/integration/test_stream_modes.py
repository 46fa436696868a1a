"""`TokenSubscriber.astream` beside `graph.astream` with the same arguments, on a real Temporal."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableLambda
from langgraph.config import get_stream_writer
from pydantic import BaseModel
from temporalio import activity

from temporal_token_interceptor import (
    ConfigurationError,
    InvalidCursor,
    MemoryStreamBackend,
    TokenSubscriber,
    WorkflowNotCompleted,
    stream_graph,
)
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.shapes import QUESTION, graph
from tests.differential.streamed import SHAPES
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

FORWARDED: list[Any] = ["values", "updates", "custom", "tasks", "checkpoints", "debug"]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


def writing() -> Any:
    """A node that writes to the stream and calls a model; and a subgraph of such a node."""

    async def write(state: Any) -> Any:
        get_stream_writer()({"half": "way"})
        return {"messages": [await ScriptedChatModel.saying("do", "ne").ainvoke("?")]}

    return graph(("first", RunnableLambda(write)), ("sub", graph(("inner", RunnableLambda(write)))))


GRAPHS_COMPARED: dict[str, Any] = {**SHAPES, "nodes that write to the stream": writing}


def plain(value: Any) -> Any:
    """What two streams of different runs have in common: no random ids, no times, no tuples."""
    if isinstance(value, str):
        return TIME.sub("@", UUID.sub("#", value))
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, BaseMessage):
        kept = {name: plain(getattr(value, name)) for name in type(value).model_fields}
        return {"message": type(value).__name__, **kept}
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


async def by_graph(name: str, modes: Any, *, subgraphs: bool) -> list[Any]:
    """What a loop over the graph itself gets, where its models stream as in an activity that is captured."""
    with capturing(Observer(Buffer(Budget(2**26), lambda: None), default_node="here")):
        stream = GRAPHS_COMPARED[name]().astream(QUESTION, stream_mode=modes, subgraphs=subgraphs)
        # At once: LangGraph gives messages their ids later, in the same objects.
        return [plain(one) async for one in stream]


async def read(stream: AsyncGenerator[Any]) -> list[Any]:
    return [plain(one) async for one in stream]


async def at_once(check: Callable[[str], Awaitable[bool]], names: Iterable[str]) -> list[tuple[str, bool]]:
    """Run a check for each name, a few at the same time."""
    few = asyncio.Semaphore(6)

    async def one(name: str) -> tuple[str, bool]:
        async with few:
            return name, await check(name)

    async with asyncio.TaskGroup() as tasks:
        checked = [tasks.create_task(one(name)) for name in names]
    return [task.result() for task in checked]


@activity.defn
async def by_stream_graph(name: str) -> None:
    await stream_graph(GRAPHS_COMPARED[name](), QUESTION, modes=FORWARDED)


@activity.defn
async def by_ainvoke(name: str) -> None:
    await GRAPHS_COMPARED[name]().ainvoke(QUESTION)


@activity.defn
async def at_second_try(name: str) -> None:
    """The first attempt fails behind its graph."""
    await stream_graph(GRAPHS_COMPARED[name](), QUESTION, modes=FORWARDED)
    if activity.info().attempt == 1:
        raise ValueError("not this time")


@activity.defn
async def with_large_state(name: str) -> None:
    """A state that is beyond what is sent of one."""
    large = graph(("agent", RunnableLambda(lambda _: {"messages": [AIMessage("x" * 70_000)]})))
    await stream_graph(large, QUESTION, modes=["values"])


@pytest.fixture
async def backend():
    return MemoryStreamBackend()


@pytest.fixture
async def queue(client, backend):
    activities = [by_stream_graph, by_ainvoke, at_second_try, with_large_state]
    async with streaming_worker(client, backend, activities, capture=["node_output"]) as task_queue:
        yield task_queue


@pytest.fixture
def subscriber(client, backend):
    return TokenSubscriber(client, backend)


@pytest.fixture
def run(client, queue):
    """Run an activity in a workflow, and return the workflow's id once it has closed."""

    async def run(name: str, shape: str, workflow_id: str = "", attempts: int = 1) -> str:
        workflow_id = workflow_id or unique("modes")
        arguments = [name, shape, False, attempts, 20]
        await client.execute_workflow(RunActivity.run, args=arguments, id=workflow_id, task_queue=queue)
        return workflow_id

    return run


# ------------------------------------------------------------------ graphs run by `stream_graph`


async def test_a_graph_says_here_what_it_says_in_process(subscriber, run):
    """For each graph: every mode's items, in LangGraph's order, to a live reader and to a late one."""

    async def differs(name: str) -> bool:
        workflow_id = unique("modes")
        all_of_them = subscriber.astream(workflow_id, stream_mode=FORWARDED, subgraphs=True)
        live, _ = await asyncio.gather(read(all_of_them), run("by_stream_graph", name, workflow_id))
        late = await read(subscriber.astream(workflow_id, stream_mode=FORWARDED))
        there = await by_graph(name, FORWARDED, subgraphs=True)
        return live != there or late != [item for namespace, *item in there if not namespace]

    assert [name for name, is_other in await at_once(differs, GRAPHS_COMPARED) if is_other] == []
    assert len(GRAPHS_COMPARED) > 33


ALL: list[Any] = ["messages", *FORWARDED]


def said(items: list[Any], stream_mode: Any, *, subgraphs: bool) -> list[Any]:
    """Items, of messages only what models say and in which node; docs/langgraph.md lists the rest."""
    found = []
    for item in items:
        *where, chunk = item if subgraphs or isinstance(stream_mode, list) else [item]
        if "messages" in (stream_mode, *where[-1:]):
            message, metadata = chunk
            if message["message"] != "AIMessageChunk" or not message["content"]:
                continue
            chunk = [message["content"], metadata["langgraph_node"]]
        found.append([*where, chunk])
    return found


async def test_items_have_the_shape_of_langgraphs(subscriber, run):
    """One mode or a list of them, with subgraphs or without: chunks, pairs or triples, as there."""
    workflow_id = await run("by_stream_graph", "nodes that write to the stream")
    differ = []
    for stream_mode in (*ALL, ["values"], ["updates", "messages"]):
        for subgraphs in (False, True):
            options: Any = {"stream_mode": stream_mode, "subgraphs": subgraphs}
            here = await read(subscriber.astream(workflow_id, **options))
            there = await by_graph("nodes that write to the stream", stream_mode, subgraphs=subgraphs)
            if said(here, **options) != said(there, **options) or bool(here) is (
                stream_mode == "checkpoints"
            ):
                differ.append(options)
    assert differ == []


def collapsed(items: list[Any]) -> list[Any]:
    """Items without what models say: in its place, once, that they do, and in which graph."""
    found: list[Any] = []
    for namespace, mode, chunk in items:
        if mode == "messages":
            is_said = chunk[0]["message"] == "AIMessageChunk"
            one = [namespace, mode, chunk[1]["langgraph_node"]]
            if is_said and one not in found[-1:]:
                found.append(one)
        else:
            found.append([namespace, mode, chunk])
    return found


IN_ORDER = (
    "two nodes",
    "`Command` routing",
    "a subgraph as a node",
    "a graph called in a node",
    "`create_agent` with a tool",
    "a deep agent with a sub-agent",
)


async def test_messages_stand_among_the_items_of_other_modes_where_langgraph_has_them(subscriber, run):
    """The words of a node come before its update, under the same namespace."""

    async def differs(name: str) -> bool:
        workflow_id = await run("by_stream_graph", name)
        here = await read(subscriber.astream(workflow_id, stream_mode=ALL, subgraphs=True))
        return collapsed(here) != collapsed(await by_graph(name, ALL, subgraphs=True))

    assert [name for name, is_other in await at_once(differs, IN_ORDER) if is_other] == []


# ------------------------------------------------------------------ graphs run by `ainvoke`


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ids(part) for name, part in value.items() if name != "id"}
    return [without_ids(part) for part in value] if isinstance(value, list) else value


ANY_ORDER = {"`create_agent` with two tool calls"}  # which run in threads, and end as it happens


def in_order(name: str, items: list[Any]) -> list[Any]:
    found = [without_ids(item) for item in items]
    return sorted(found, key=repr) if name in ANY_ORDER else found


async def test_updates_of_a_plain_ainvoke_are_what_nodes_returned(subscriber, run):
    """I change no line of the activity: of each graph the updates are those of LangGraph's own stream."""

    async def differs(name: str) -> bool:
        workflow_id = await run("by_ainvoke", name)
        here = await read(subscriber.astream(workflow_id, stream_mode="updates", subgraphs=True))
        there = await by_graph(name, "updates", subgraphs=True)
        # Not here: nodes that return nothing, or interrupt; ids that LangGraph gives to messages later.
        there = [item for item in there if [*item[1].values()] != [None] and "__interrupt__" not in item[1]]
        return in_order(name, here) != in_order(name, there)

    assert [name for name, is_other in await at_once(differs, GRAPHS_COMPARED) if is_other] == []


async def test_dispatched_events_are_the_custom_mode_of_a_plain_ainvoke(subscriber, run):
    """What `get_stream_writer` writes no callback sees; what is dispatched comes with its name."""
    workflow_id = await run("by_ainvoke", "a node that dispatches custom events")
    here = await read(subscriber.astream(workflow_id, stream_mode=["custom", "updates"]))

    assert here[0] == ["custom", {"name": "progress", "data": {"done": 1}}]
    assert [mode for mode, _ in here] == ["custom", "updates"]


@pytest.mark.parametrize("mode", ["values", "tasks", "checkpoints", "debug"])
async def test_a_mode_that_no_worker_sends_is_an_error_that_says_what_to_do(subscriber, run, mode):
    """I ask for the state of a graph that is run by `ainvoke`: the error names `stream_graph`."""
    workflow_id = await run("by_ainvoke", "one node")
    stream = subscriber.astream(workflow_id, stream_mode=["messages", mode])

    words = [(await anext(stream))[1][0].text for _ in "abc"]
    assert words == ["a", "b", ""], "all that there is comes before"
    with pytest.raises(ConfigurationError, match=rf"stream_graph\(graph, input, modes=\['{mode}'\]\)"):
        await anext(stream)


async def test_updates_that_no_worker_sends_have_two_ways_out(client, subscriber, backend):
    workflow_id = unique("modes")
    async with streaming_worker(client, backend, [by_ainvoke]) as queue:
        arguments = ["by_ainvoke", "one node", False, 1, 20]
        await client.execute_workflow(RunActivity.run, args=arguments, id=workflow_id, task_queue=queue)

    with pytest.raises(ConfigurationError, match=r"capture=\{'node_output'\}, or await stream_graph"):
        await read(subscriber.astream(workflow_id))


# ------------------------------------------------------------------ what Temporal adds


async def test_a_retry_takes_back_by_an_item_in_each_mode(subscriber, run):
    """The attempt failed behind its graph: each mode says so in its place, then all of it comes again."""
    workflow_id = await run("at_second_try", "two nodes", attempts=2)
    modes: list[Any] = ["updates", "messages", "values"]
    items = await read(subscriber.astream(workflow_id, stream_mode=modes))

    there = said(await by_graph("two nodes", modes, subgraphs=False), modes, subgraphs=False)
    again = {"__retry__": {"activity_id": "1", "activity_type": "at_second_try", "attempt": 2}}
    assert said(items, modes, subgraphs=False) == [*there, ["updates", again], ["values", again], *there]
    removed = [
        chunk for mode, chunk in items if mode == "messages" and chunk[0]["message"] == "RemoveMessage"
    ]
    assert len(removed) == 2


async def test_hold_has_nothing_of_an_attempt_that_failed(subscriber, run):
    workflow_id = await run("at_second_try", "two nodes", attempts=2)
    items = await read(
        subscriber.astream(workflow_id, stream_mode=FORWARDED, subgraphs=True, on_retry="hold")
    )

    assert items == await by_graph("two nodes", FORWARDED, subgraphs=True)


async def test_a_reader_goes_on_after_any_item(subscriber, run):
    """The page is reloaded after each item, before and after the retry: what follows is the same."""
    workflow_id = await run("at_second_try", "a subgraph as a node", attempts=2)
    options: dict[str, Any] = {"stream_mode": ["updates", "values", "messages"]}
    stream = subscriber.astream(workflow_id, **options)
    whole, cursors, origins, again = [], [], [], []
    async for item in stream:
        whole.append(plain(item))
        cursors.append(stream.cursor)
        origins.append(stream.origin.attempt)

    assert origins == sorted(origins)
    assert {*origins} == {1, 2}
    for kept, cursor in enumerate(cursors, 1):
        rest = await read(subscriber.astream(workflow_id, cursor=cursor, **options))
        assert rest == whole[len(whole) - len(rest) :]
        again.append(len(rest) - (len(whole) - kept))
    assert sum(again) == 1 + 2, "the retry alone is three items: those of them that came last come again"
    assert {*again} == {0, 1, 2}


async def test_what_is_too_large_is_an_item_that_says_so(subscriber, run):
    workflow_id = await run("with_large_state", "")
    items = await read(subscriber.astream(workflow_id, stream_mode="values"))

    assert [set(item) for item in items] == [{"messages"}, {"__truncated__"}]


async def test_a_workflow_that_fails_ends_the_loop_with_an_error(subscriber, client, queue):
    arguments = ["at_second_try", "one node", False, 1, 20]
    handle = await client.start_workflow(
        RunActivity.run, args=arguments, id=unique("modes"), task_queue=queue
    )
    with pytest.raises(WorkflowNotCompleted, match="failed"):
        await read(subscriber.astream(handle.id))


def test_what_cannot_be_used_is_refused_at_the_call():
    subscriber = TokenSubscriber(None, MemoryStreamBackend())
    until: Any = asyncio.Future
    later: Any = ["values", "later"]
    with pytest.raises(ConfigurationError, match="tools"):
        subscriber.astream("any", stream_mode="tools", until=until())
    with pytest.raises(ConfigurationError, match="one or more of values, updates"):
        subscriber.astream("any", stream_mode=later, until=until())
    with pytest.raises(ConfigurationError, match="one or more"):
        subscriber.astream("any", stream_mode=[], until=until())
    with pytest.raises(ConfigurationError, match="on_retry"):
        subscriber.astream("any", on_retry="annotate", until=until())
    with pytest.raises(InvalidCursor):
        subscriber.astream("any", cursor="0-0", until=until())
