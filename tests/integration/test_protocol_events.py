"""`TokenSubscriber.protocol_events` on a real Temporal and a real Redis: who reads when, and from where."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from temporalio import activity

from temporal_token_interceptor import MemoryStreamBackend, RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import LAST
from tests.differential.shapes import QUESTION, graph, node
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity


def notes(state: Any) -> Any:
    """Return messages that no model has streamed, several at once."""
    return {"messages": [HumanMessage("And?"), AIMessage("Noted.")]}


@activity.defn
async def nested(argument: Any) -> str:
    """A graph in a graph; the first attempt fails in mid-sentence, behind messages that are whole."""
    fails = activity.info().attempt == 1
    words = ["half ", ConnectionError("reset")] if fails else ["It ", "is ", "tea.", LAST]
    inner = graph(("answer", node(ScriptedChatModel.saying(*words, delay=0.002))))
    outer = graph(("think", node(ScriptedChatModel.saying("hm", LAST))), ("note", notes), ("sub", inner))
    state = await outer.ainvoke(QUESTION)
    return str(state["messages"][-1].text)


@pytest.fixture(params=["redis", "memory"])
async def backend(request, redis_url):
    if request.param == "memory":
        yield MemoryStreamBackend()
    else:
        async with RedisStreamBackend(redis_url) as redis:
            yield redis


async def read(subscriber: TokenSubscriber, workflow_id: str, **place: Any) -> list[dict[str, Any]]:
    return [event async for event in subscriber.protocol_events(workflow_id, **place)]


@activity.defn
async def answer(argument: Any) -> str:
    return str((await ScriptedChatModel.saying("It is ", "tea.", LAST).ainvoke("?")).text)


async def test_runs_of_a_workflow_are_numbered_as_one(client, backend):
    """It continues as new twice: a reader resumes in each of its runs, and behind the end is nothing."""
    workflow_id, subscriber = unique("continued"), TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Continuing.run, args=["answer", 2], id=workflow_id, task_queue=queue
        )
        on_retry = "hold" if isinstance(backend, MemoryStreamBackend) else "reset"
        options = {"run_id": handle.first_execution_run_id, "on_retry": on_retry}
        seen = await read(subscriber, workflow_id, **options)

    middle = len(seen) // 2
    by_id = [
        await read(subscriber, workflow_id, cursor=seen[at]["event_id"], **options) for at in (middle, -1)
    ]
    assert by_id == [seen[middle + 1 :], []]
    assert await read(subscriber, workflow_id, since=seen[middle]["seq"], **options) == seen[middle + 1 :]


async def test_all_readers_have_the_same_events_and_numbers(client, backend):
    """One that was there, one that comes late, and those that resume anywhere; with a retry in the middle."""
    workflow_id, subscriber = unique("protocol"), TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [nested], capture=["node_output"]) as queue:
        live = asyncio.create_task(read(subscriber, workflow_id))
        await client.execute_workflow(
            RunActivity.run, args=["nested", None, False, 2], id=workflow_id, task_queue=queue
        )
        seen = await live
    late = await read(subscriber, workflow_id)

    assert late == seen
    said = [event["params"]["data"][0] for event in seen if event["method"] == "messages"]
    whole = [one for one in said if isinstance(one, BaseMessage)]
    assert [one.text for one in whole] == ["And?", "Noted."] * 2
    said = [one for one in said if one not in whole]
    assert [one["event"] for one in said].count("message-start") == 4
    assert [one["message"] for one in said if one["event"] == "error"] == ["ConnectionError"]
    statuses = [event["params"]["data"]["event"] for event in seen if event["method"] == "lifecycle"]
    assert statuses == ["started", "failed", "started", "completed"]
    namespaces = {tuple(event["params"]["namespace"]) for event in seen if event["method"] == "messages"}
    assert sorted(len(namespace) for namespace in namespaces) == [0, 1, 1]
    assert all(level.startswith("sub:") for namespace in namespaces for level in namespace)
    for kept in range(0, len(seen), 5):
        last = seen[kept]
        assert await read(subscriber, workflow_id, cursor=last["event_id"]) == seen[kept + 1 :]
        assert await read(subscriber, workflow_id, since=last["seq"]) == seen[kept + 1 :]
