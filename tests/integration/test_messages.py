"""`TokenSubscriber.messages` beside `graph.astream(stream_mode="messages")`, on real servers."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, RemoveMessage
from temporalio import activity
from temporalio.client import WorkflowFailureError

from temporal_token_interceptor import (
    ConfigurationError,
    InvalidCursor,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokenSubscriber,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import LAST
from tests.differential.shapes import GRAPHS, QUESTION
from tests.differential.streamed import SHAPES
from tests.faults.play import Play, Script, Speech
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity, Waiting

ROOT = Path(__file__).parents[2]
WORDS = ["Chunks ", "like ", "in ", "process", "."]
TEXT = "".join(WORDS)


@pytest.fixture(params=["redis", "memory"])
async def backend(request, redis_url):
    if request.param == "memory":
        yield MemoryStreamBackend()
    else:
        async with RedisStreamBackend(redis_url) as redis:
            yield redis


async def read(subscriber: TokenSubscriber, workflow_id: str, **options: Any) -> list[tuple[Any, Any]]:
    return [message async for message in subscriber.messages(workflow_id, **options)]


def held(stream: list[tuple[BaseMessage, Any]]) -> dict[str, Any]:
    """What somebody holds who adds chunks by id, and removes what is to be removed; with its metadata."""
    messages: dict[str, Any] = {}
    for chunk, metadata in stream:
        if isinstance(chunk, RemoveMessage):
            del messages[chunk.id]
        elif isinstance(chunk, AIMessageChunk) and chunk.id in messages:
            messages[chunk.id] = (messages[chunk.id][0] + chunk, metadata)
        elif isinstance(chunk, AIMessage) and chunk.id not in messages:
            messages[str(chunk.id)] = (chunk, metadata)
    return messages


# ---------------------------------------------------------------------- beside LangGraph's own stream


def facts(message: AIMessage, metadata: dict[str, Any]) -> dict[str, Any]:
    """What both streams have to tell alike; the rest of the differences stands in docs/langgraph.md."""
    blocks: list[dict[str, Any]] = []
    for block in message.content_blocks:
        kept = {key: value for key, value in block.items() if key not in ("index", "base64", "size", "id")}
        if blocks and kept["type"] == "text" == blocks[-1]["type"]:
            blocks[-1] = {"type": "text", "text": blocks[-1]["text"] + kept["text"]}
        elif kept != {"type": "text", "text": ""}:
            blocks.append(kept)
    keys = ("langgraph_node", "langgraph_step", "ls_provider", "ls_model_name", "lc_agent_name", "tags")
    return {
        "id": str(message.id).removesuffix("-0"),
        "text": message.text,
        "content": message.content,
        "blocks": blocks,
        "tool_calls": message.tool_calls,
        "usage": message.usage_metadata,
        "finish_reason": message.response_metadata.get("finish_reason"),
        "metadata": {key: metadata[key] for key in keys if metadata.get(key) is not None},
    }


@activity.defn
async def in_process(argument: Any) -> Any:
    """Run a graph as its author does today; return what a loop over its own stream was told."""
    name, subgraphs = argument
    told = SHAPES[name]().astream(QUESTION, stream_mode="messages", subgraphs=subgraphs)
    stream = [one[1] if subgraphs else one async for one in told]
    return [facts(*message) for message in held(stream).values() if message[0].id]


# LangGraph also yields, whole, what a node returns without having streamed it to this reader.
RETURNED = {
    ("a subgraph as a node", False),
    ("a graph called in a node", False),
    ("a node: tag `nostream`", False),
    ("a node: tag `nostream`", True),
}


@pytest.mark.parametrize("subgraphs", [False, True], ids=["graph", "subgraphs"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_the_chunks_add_up_to_what_langgraphs_own_do(client, redis_url, shape, subgraphs):
    """I change one line, and have the messages that `astream` gave me: ids, content, calls, usage, node."""
    workflow_id = unique("beside")
    async with RedisStreamBackend(redis_url) as backend:
        async with streaming_worker(client, backend, [in_process]) as queue:
            arguments = ["in_process", [shape, subgraphs]]
            theirs = await client.execute_workflow(
                RunActivity.run, args=arguments, id=workflow_id, task_queue=queue
            )
        stream = await read(TokenSubscriber(client, backend), workflow_id, subgraphs=subgraphs)

    ours = {one["id"]: one for one in (facts(*message) for message in held(stream).values())}
    assert bool(ours) is ((shape, subgraphs) not in RETURNED)
    for one in theirs:
        their_content = one.pop("content")
        if one["id"] not in ours and (shape, subgraphs) in RETURNED:
            continue
        our_content = ours[one["id"]].pop("content")
        assert ours.pop(one["id"]) == one
        if isinstance(their_content, str) and {block["type"] for block in one["blocks"]} <= PLAIN:
            assert our_content == their_content
    assert ours == {}
    assert all(isinstance(chunk, AIMessageChunk) for chunk, _ in stream)


PLAIN = {"text", "tool_call"}


# ---------------------------------------------------------------------- retries


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*WORDS, LAST).ainvoke("?")).text


@activity.defn
async def answer_at_second_try(argument: Any) -> str:
    pieces = [*WORDS[:2], ValueError("gone")] if activity.info().attempt == 1 else WORDS
    return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text


async def started(client, queue, name: str, workflow_id: str, attempts: int = 2):
    return await client.start_workflow(
        RunActivity.run, args=[name, None, False, attempts], id=workflow_id, task_queue=queue
    )


async def test_a_retry_removes_the_message_that_broke_off(client, backend):
    """Temporal retries the activity: what I hold is one answer, under one id, said once."""
    workflow_id = unique("messages-retry")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await started(client, queue, "answer_at_second_try", workflow_id)
        stream = await read(TokenSubscriber(client, backend), workflow_id)

    texts = [chunk.text for chunk, _ in stream if not isinstance(chunk, RemoveMessage)]
    assert "".join(texts) == "".join(WORDS[:2]) + TEXT
    broken = next(metadata for _, metadata in stream if "error" in metadata)
    assert (broken["error"], broken["attempt"]) == ("ValueError", 1)
    ((message, metadata),) = held(stream).values()
    assert (message.text, message.chunk_position, metadata["attempt"]) == (TEXT, "last", 2)
    assert metadata["message_id"] == message.id


async def test_hold_shows_the_attempt_that_succeeded_and_nothing_to_remove(client, backend):
    workflow_id = unique("messages-hold")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await started(client, queue, "answer_at_second_try", workflow_id)
        stream = await read(TokenSubscriber(client, backend), workflow_id, on_retry="hold")

    assert "".join(chunk.text for chunk, _ in stream) == TEXT
    assert not any(isinstance(chunk, RemoveMessage) for chunk, _ in stream)


async def test_whoever_goes_on_after_any_chunk_misses_nothing(client, backend):
    """The page is reloaded after each chunk, before and after the retry: what I hold is the same."""
    workflow_id = unique("messages-resume")
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await started(client, queue, "answer_at_second_try", workflow_id)
        whole = await read(subscriber, workflow_id)

    for kept in range(1, len(whole)):
        rest = await read(subscriber, workflow_id, cursor=whole[kept - 1][1]["cursor"])
        assert whole[:kept] + rest == whole


async def test_a_killed_worker_is_forgotten_by_whoever_reads(client, redis_url):
    """My worker dies in mid-sentence, and another goes on: the half sentence is taken back by its id."""
    queue, workflow_id = unique("queue"), unique("messages-killed")
    script = Script(Speech(tokens=100, delay=0.01), heartbeat=2)
    async with RedisStreamBackend(redis_url) as backend:
        first = await a_worker(client, redis_url, queue)
        workers = [first]
        try:
            handle = await client.start_workflow(Play.run, script, id=workflow_id, task_queue=queue)
            stream: list[tuple[Any, Any]] = []
            async for message in TokenSubscriber(client, backend).messages(workflow_id):
                stream.append(message)
                if len(stream) == 20:
                    first.kill()
                    workers.append(await a_worker(client, redis_url, queue))
            (told,) = await handle.result()
        finally:
            for worker in workers:
                if worker.returncode is None:
                    worker.kill()
                await worker.wait()

    assert [chunk.text for chunk, _ in held(stream).values()] == list(told.values())
    assert sum(isinstance(chunk, RemoveMessage) for chunk, _ in stream) == 1


async def a_worker(client, redis_url: str, queue: str) -> asyncio.subprocess.Process:
    """A process that can be killed, once it serves."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.worker", client.service_client.config.target_host),
        *(redis_url, queue),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"serving\n"
    return process


# ---------------------------------------------------------------------- further runs, and the end


async def test_a_workflow_that_continues_as_new_is_one_loop(client, backend):
    """Each run's answer is a message of its own, though all runs name their activities alike."""
    workflow_id = unique("messages-continued")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Continuing.run, args=["answer", 2], id=workflow_id, task_queue=queue
        )
        stream = await read(
            TokenSubscriber(client, backend), workflow_id, run_id=handle.first_execution_run_id
        )

    messages = held(stream)
    assert [message.text for message, _ in messages.values()] == [TEXT] * 3
    assert len({metadata["workflow_run_id"] for _, metadata in messages.values()}) == 3
    assert {metadata["call_id"] for _, metadata in messages.values()} == {"1:0"}


@pytest.mark.parametrize(
    ("end", "status"), [("fail", "failed"), ("cancel", "canceled"), ("terminate", "terminated")]
)
async def test_a_workflow_that_does_not_complete_ends_the_loop_with_an_error(client, backend, end, status):
    """I have all that was said, and then an exception, as `astream` would raise one."""
    workflow_id = unique("messages-end")
    stream: list[tuple[Any, Any]] = []

    async def read_on() -> None:
        async for message in TokenSubscriber(client, backend).messages(workflow_id):
            stream.append(message)
            if getattr(message[0], "chunk_position", None) == "last":
                await (handle.signal(Waiting.end, end) if end == "fail" else getattr(handle, end)())

    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        with pytest.raises(WorkflowNotCompleted) as ended:
            await read_on()

    assert [message.text for message, _ in held(stream).values()] == [TEXT]
    assert ended.value.status == status
    with pytest.raises(WorkflowNotCompleted):
        await read(TokenSubscriber(client, backend), workflow_id, cursor=ended.value.cursor)


async def test_a_loop_that_is_left_early_leaves_nothing_behind(client, backend):
    workflow_id = unique("messages-left")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
        )
        before = asyncio.all_tasks()
        async with aclosing(TokenSubscriber(client, backend).messages(workflow_id)) as stream:
            chunk, _ = await anext(stream)
        await handle.result()

        assert chunk.text == WORDS[0]
        left = {task for task in asyncio.all_tasks() - before if "temporal_token" in repr(task.get_coro())}
        assert left == set()


def test_what_cannot_be_used_is_refused_at_the_call(client):
    subscriber = TokenSubscriber(client, MemoryStreamBackend())
    with pytest.raises(ConfigurationError, match="on_retry"):
        subscriber.messages("any", on_retry="annotate")
    with pytest.raises(InvalidCursor):
        subscriber.messages("any", cursor="0-0")
    with pytest.raises(ConfigurationError, match="start"):
        subscriber.messages("any", start="later")
    with pytest.raises(ConfigurationError, match="until"):
        TokenSubscriber(None, MemoryStreamBackend()).messages("any")


# ---------------------------------------------------------------------- the run as an object


async def test_a_run_streams_calls_and_tools_and_has_the_result(client, backend):
    """An agent with a tool, in an activity that is tried twice: I read its calls, its tools, its result."""
    failed: list[int] = []

    @activity.defn
    async def ask(argument: Any) -> Any:
        state = await GRAPHS["`create_agent` with a tool"]().ainvoke(QUESTION)
        if not failed:
            failed.append(activity.info().attempt)
            raise ValueError("not this time")
        return state["messages"][-1].text

    workflow_id = unique("run-view")
    async with streaming_worker(client, backend, [ask]) as queue:
        await started(client, queue, "ask", workflow_id)
        async with TokenSubscriber(client, backend).run(workflow_id, result_type=str) as run:
            texts = [(await call.text, await call.tool_calls, call) async for call in run.messages]
            tools = [tool async for tool in run.tool_calls]
            result = await run.output

    assert [text for text, _, call in texts if not call.superseded] == ["", "It is tea."]
    assert [call.origin.attempt for _, _, call in texts] == [1, 1, 2, 2]
    assert [[one["name"] for one in calls] for _, calls, _ in texts] == [["search"], [], ["search"], []]
    assert [(tool.tool_name, tool.completed, tool.error) for tool in tools] == [("search", True, None)] * 2
    assert result == "It is tea."


async def test_the_output_of_a_run_is_that_of_the_last_run(client, backend):
    """The workflow continues as new twice: what I await is what the last run returned."""
    workflow_id = unique("run-continued")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Continuing.run, args=["answer", 2], id=workflow_id, task_queue=queue
        )
        subscriber = TokenSubscriber(client, backend)
        async with subscriber.run(workflow_id, handle.first_execution_run_id) as run:
            texts = [await call.text async for call in run.messages]
            result = await run.output

    assert (texts, result) == ([TEXT] * 3, 0)


async def test_the_output_of_a_run_that_failed_is_its_failure(client, backend):
    """`await run.output` raises what Temporal's own handle raises; and the streams say that it failed."""
    workflow_id = unique("run-failed")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        await handle.signal(Waiting.end, "fail")
        async with TokenSubscriber(client, backend).run(workflow_id) as run:
            with pytest.raises(WorkflowFailureError):
                await run.output
            call = await anext(run.messages)
            assert await call.text == TEXT
            with pytest.raises(WorkflowNotCompleted):
                await anext(run.messages)


async def test_without_temporal_a_run_has_no_output():
    subscriber = TokenSubscriber(None, MemoryStreamBackend())
    with pytest.raises(ConfigurationError, match="client"):
        await subscriber.run("any", until=asyncio.Future()).output
