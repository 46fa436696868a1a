"""What docs/blocking.md shows, in a thread of its own, as a program without asyncio has it."""

import asyncio
import io
import threading
from contextlib import asynccontextmanager, redirect_stdout
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client

import temporal_token_interceptor
from temporal_token_interceptor import BlockingSubscriber, RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

PAGE = "docs/blocking.md"


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying("It is ", "tea.").ainvoke("?")).text


async def answered(stage: Stage) -> dict[str, Any]:
    """What the page takes for granted, with this machine's servers in place of the usual addresses."""
    backend = await stage.exits.enter_async_context(RedisStreamBackend(stage.redis_url))
    queue = await stage.exits.enter_async_context(streaming_worker(stage.client, backend, [answer]))
    workflow_id = unique("plain")
    await stage.client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
    address = stage.client.service_client.config.target_host

    class Here:
        @staticmethod
        async def connect(_: str) -> Client:
            return await Client.connect(address)

    ours = {name: getattr(temporal_token_interceptor, name) for name in temporal_token_interceptor.__all__}
    here = {
        "Client": Here,
        "RedisStreamBackend": lambda _: RedisStreamBackend(stage.redis_url),
        "workflow_id": workflow_id,
        "asynccontextmanager": asynccontextmanager,
        "timedelta": timedelta,
    }
    return {**ours, **here}


def subscriber_of(known: dict[str, Any]) -> BlockingSubscriber:
    """The subscriber that the page's first snippet makes."""

    @asynccontextmanager
    async def connecting() -> Any:
        async with known["RedisStreamBackend"]("") as backend:
            yield TokenSubscriber(await known["Client"].connect(""), backend)

    return BlockingSubscriber(connecting)


async def run_in_thread(block: Block, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    out = io.StringIO()

    def run() -> dict[str, Any]:
        with redirect_stdout(out):
            return asyncio.run(block.run(**known))

    after = await asyncio.to_thread(run)
    return out.getvalue(), after


@play(PAGE, "@asynccontextmanager\nasync def connecting")
async def a_plain_loop_prints_the_answer(stage: Stage, block: Block) -> None:
    """And the thread of the subscriber is gone once it is closed."""
    printed, after = await run_in_thread(block, await answered(stage))

    assert printed == "It is tea."
    await asyncio.to_thread(after["subscriber"].close)
    assert not any(thread.name == "token-stream-loop" for thread in threading.enumerate())


@play(PAGE, "with subscriber.subscribe(workflow_id) as events:")
async def a_wait_with_a_limit_reads_to_the_end(stage: Stage, block: Block) -> None:
    known = await answered(stage)
    subscriber = subscriber_of(known)
    _, after = await run_in_thread(block, {**known, "subscriber": subscriber, "ended": False})
    await asyncio.to_thread(subscriber.close)

    assert after["ended"] is True


@play(PAGE, "with subscriber.run(workflow_id) as run:")
async def a_run_is_an_object_for_plain_loops(stage: Stage, block: Block) -> None:
    known = await answered(stage)
    subscriber = subscriber_of(known)
    printed, _ = await run_in_thread(block, {**known, "subscriber": subscriber})
    await asyncio.to_thread(subscriber.close)

    assert printed == "It is tea. None\nIt is tea.\n"
