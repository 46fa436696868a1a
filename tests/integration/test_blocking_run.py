"""The run object of `BlockingSubscriber` beside LangGraph's own sync one (`stream_events`, v3)."""

import asyncio
import gc
import re
import threading
import time
import warnings
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.stream import StreamChannel, StreamTransformer
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError

from temporal_token_interceptor import (
    AttemptStarted,
    CallNotCompleted,
    ConfigurationError,
    RedisStreamBackend,
    WorkflowNotCompleted,
    stream_graph,
)
from tests.differential.shapes import GRAPHS, QUESTION, graph, node, says
from tests.support.plain_loops import blocking_subscriber, silent_workflow
from tests.support.run_objects import message_facts, tool_facts
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


def answers(state: Any) -> Any:
    """Return messages that no model has streamed."""
    return {"messages": [HumanMessage("And?"), ToolMessage("found", tool_call_id="t"), AIMessage("Tea.")]}


SHAPES = {
    **{
        name: GRAPHS[name]
        for name in (
            "two nodes",
            "a subgraph as a node",
            "`create_agent` with a tool",
            "`create_agent`, blocks of reasoning",
            "a deep agent with a sub-agent",
        )
    },
    "messages that nodes return": lambda: graph(
        ("first", answers), ("sub", graph(("second", answers))), ("third", node(says("hm")))
    ),
}


@activity.defn
async def invokes(name: str) -> str:
    await SHAPES[name]().ainvoke(QUESTION)
    return "done"


@activity.defn
async def streams(argument: Any) -> None:
    await stream_graph(SHAPES["two nodes"](), QUESTION, modes=["values", "updates"])


@activity.defn
async def at_second_try(argument: Any) -> None:
    fails = activity.info().attempt == 1
    made = graph(
        ("think", node(says("hm"))), ("sub", graph(("in", node(says("half", *([OSError()] * fails))))))
    )
    await made.ainvoke(QUESTION)


@activity.defn
async def fails(argument: Any) -> None:
    await graph(("think", node(says("hm")))).ainvoke(QUESTION)
    raise ValueError("no")


@pytest.fixture(scope="module")
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


@pytest.fixture
async def queue(client, backend):
    activities = [invokes, streams, at_second_try, fails]
    async with streaming_worker(
        client, backend, activities, capture=["tool_input", "node_output"]
    ) as task_queue:
        yield task_queue


@pytest.fixture
def subscriber(client, redis_url):
    """Made in whichever thread first uses it."""
    with blocking_subscriber(client, redis_url) as subscriber:
        yield subscriber


@pytest.fixture
async def silent(client):
    async with silent_workflow(client) as workflow_id:
        yield workflow_id


async def execute(client: Client, queue: str, name: str, argument: Any = None, attempts: int = 1) -> str:
    workflow_id = unique("plain-run")
    await client.execute_workflow(
        RunActivity.run, args=[name, argument, False, attempts, 20], id=workflow_id, task_queue=queue
    )
    return workflow_id


def read(run: Any, names: tuple[str, ...]) -> list[Any]:
    """What a run says, LangGraph's or ours, by one loop: the same code reads both."""
    found: list[Any] = []
    for name, item in run.interleave(*names):
        match name:
            case "messages":
                parts = ("".join(item.text), "".join(item.reasoning), [*item.tool_calls], item.output)
                found.append((name, *parts[:3], message_facts(item)))
            case "tool_calls":
                found.append((name, item))
            case "subgraphs":
                found.append((name, item.path, item.graph_name, read(item, names), item.status))
            case _:
                found.append((name, item))
    return [one if one[0] != "tool_calls" else (one[0], tool_facts(one[1])) for one in found]


def without_ids(value: Any) -> Any:
    """Ids differ from run to run; of the tools' outputs ours are texts."""
    if isinstance(value, dict):
        left_out = ("id", "run_id", "output")
        return {key: without_ids(part) for key, part in value.items() if key not in left_out}
    if isinstance(value, list | tuple):
        return [without_ids(part) for part in value]
    return (
        re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "id", value) if isinstance(value, str) else value
    )


@pytest.mark.parametrize("name", SHAPES)
async def test_the_plain_run_object_is_langgraphs(client, queue, subscriber, name):
    """Messages with their projections, tools, subgraphs within subgraphs, and their lifecycle."""
    workflow_id = await execute(client, queue, "invokes", name)

    def here() -> Any:
        with subscriber.run(workflow_id) as run:
            names = ("messages", "subgraphs", "lifecycle", *(["tool_calls"] if "agent" in name else []))
            return read(run, names), run.output

    def there() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LangGraph's: v3 is in beta
            with SHAPES[name]().stream_events(QUESTION, version="v3") as run:
                names = ("messages", "subgraphs", "lifecycle", "tool_calls")
                return read(run, tuple(each for each in names if each in run.extensions))

    (ours, output), theirs = await asyncio.to_thread(here), await asyncio.to_thread(there)

    assert output == "done"
    assert without_ids(ours) == without_ids(theirs)


class Words(StreamTransformer):
    """Counts the texts that end."""

    def init(self) -> dict[str, Any]:
        self.texts = StreamChannel[str]("texts")
        return {"texts": self.texts}

    def process(self, event: Any) -> bool:
        if event["method"] == "messages" and event["params"]["data"][0]["event"] == "message-finish":
            self.texts.push(event["params"]["data"][1]["langgraph_node"])
        return True


async def test_each_projection_is_a_plain_loop(client, queue, subscriber):
    """States and updates, raw events, extensions, `tee` with a slow reader, and one reader for each."""
    workflow_id = await execute(client, queue, "streams")

    def read_all() -> None:
        with subscriber.run(workflow_id, transformers=[Words]) as run:
            assert run.values is run.values is run.extensions["values"]
            fast, slow = run.values.tee(2)
            assert next(slow) == next(fast)
            assert len([*fast]) == 2
            assert len([*slow]) == 2
            assert [[*update] for update in run.updates] == [["plan"], ["write"]]
            assert [*run.extensions["texts"]] == ["plan", "write"]
            assert [str(call.text) for call in run.messages] == ["ab", "cd"]
            with pytest.raises(ConfigurationError, match="has a reader"):
                iter(run.messages)
            with pytest.raises(ConfigurationError, match="no projection"):
                run.interleave("mesages")
            with pytest.raises(AttributeError, match="it shows"):
                _ = run.mesages
            assert run.interrupted is False
            assert run.interrupts == []
            assert isinstance(next(run.temporal), AttemptStarted)
        with subscriber.run(workflow_id) as run:
            numbers = [event["seq"] for event in run]
            assert numbers == sorted({*numbers})
            assert len(numbers) > 10

    await asyncio.to_thread(read_all)


async def test_a_call_that_a_retry_replaces_raises_where_it_is_read(client, queue, subscriber):
    """In its subgraph, too; the others stand, and one that had ended is marked."""
    workflow_id = await execute(client, queue, "at_second_try", attempts=2)

    def read_all() -> Any:
        found, calls = [], []
        with subscriber.run(workflow_id, subgraphs=True) as run:
            for call in run.messages:
                calls.append(call)
                try:
                    found.append((call.node, call.output.text, call.usage.get()))
                except CallNotCompleted as broken:
                    found.append((call.node, str(broken.reason), call.done))
        return found, [call.superseded for call in calls]

    found, superseded = await asyncio.to_thread(read_all)

    assert found == [
        ("think", "hm", None),
        ("in", "OSError", True),
        ("think", "hm", None),
        ("in", "half", None),
    ]
    assert superseded == [True, True, False, False]


async def test_errors_come_where_they_come_in_async_loops(client, queue, subscriber):
    workflow_id = unique("plain-fails")
    with pytest.raises(WorkflowFailureError):
        await client.execute_workflow(
            RunActivity.run, args=["fails", None, False, 1, 20], id=workflow_id, task_queue=queue
        )

    def read_all() -> None:
        with subscriber.run(workflow_id) as run:
            assert str(next(run.messages).text) == "hm"
            with pytest.raises(WorkflowNotCompleted):
                next(run.messages)
            with pytest.raises(WorkflowFailureError):
                _ = run.output
        left = subscriber.run(workflow_id)
        with pytest.raises(ConfigurationError, match="async with"):
            next(left.messages)

    await asyncio.to_thread(read_all)


async def tasks(_: Any) -> int:
    """How many tasks there are on the loop of the thread."""
    return len(asyncio.all_tasks())


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_run_that_is_left_early_is_freed(client, queue, subscriber, silent):
    """By `break`, by an error, while another thread waits, and by forgetting it in any thread."""
    workflow_id = await execute(client, queue, "invokes", "two nodes")

    def leave() -> None:
        before = subscriber.wait(tasks)

        def is_freed() -> bool:
            return bool(subscriber.wait(tasks) == before)

        with subscriber.run(workflow_id) as run:
            for call in run.messages:
                for _ in call.text:
                    break
                break
        wait_until(is_freed)
        with suppress(KeyError), subscriber.run(workflow_id) as run:
            for _ in run.interleave("messages", "lifecycle"):
                raise KeyError
        wait_until(is_freed)

        errors: list[str] = []

        def wait_for(projection: Any) -> None:
            try:
                next(projection)
            except ConfigurationError as error:
                errors.append(str(error))

        with subscriber.run(silent) as run:
            waiting = threading.Thread(target=wait_for, args=[run.values])
            waiting.start()
            assert not run.messages.wait(timedelta(seconds=0.05))
        waiting.join(10)
        assert errors == ["the run was left: read it within its `async with`, or `with`"]
        wait_until(is_freed)

        run = subscriber.run(silent).__enter__()
        waiting = threading.Thread(target=wait_for, args=[run.values])
        waiting.start()
        assert not run.messages.wait(timedelta(seconds=0.05))
        subscriber.close()
        waiting.join(10)
        assert errors[1:] == ["the BlockingSubscriber was closed while it was read"]
        run.abort()

        run = subscriber.run(silent)
        run.__enter__()
        assert not run.messages.wait(timedelta(seconds=0.05))
        assert not is_freed()
        del run
        gc.collect()
        wait_until(is_freed)

        circle: list[Any] = [subscriber.subscribe(silent)]
        assert not circle[0].wait(timedelta(seconds=0.05))
        circle.append(circle)
        del circle
        subscriber.wait(collect)
        wait_until(is_freed)

    await asyncio.to_thread(leave)


async def collect(_: Any) -> None:
    """Let the garbage collector run on the thread of the loop, as it may at any time."""
    gc.collect()
