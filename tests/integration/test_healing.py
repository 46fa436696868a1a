"""What an outage held back comes from the durable result, in its place."""

import asyncio
import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client

from examples.servers import RedisServer
from temporal_token_interceptor import (
    CallEnded,
    Gap,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import Backend, read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity

WORDS = [f"word {number}, " for number in range(40)]


@dataclass
class Answer:
    text: str
    custom_data: list[Any] | None = None


async def test_the_last_words_that_redis_did_not_take_come_from_the_result(client: Client):
    """Redis hangs in mid-answer until the activity is over: I read the whole answer all the same, once."""
    server = RedisServer()
    await server.start()
    half_said, go_on = asyncio.Event(), asyncio.Event()

    class Halting(ScriptedChatModel):
        async def _astream(self, *args, **kwargs):
            count = 0
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                count += 1
                if count == len(WORDS) // 2:
                    half_said.set()
                    await go_on.wait()

    @activity.defn
    async def answer(argument: Any) -> Answer:
        return Answer((await Halting.saying(*WORDS).ainvoke("?")).text)

    workflow_id = unique("healing")
    try:
        async with (
            RedisStreamBackend(server.url) as backend,
            streaming_worker(client, backend, [answer], flush_timeout=timedelta(milliseconds=200)) as queue,
        ):
            handle = await client.start_workflow(
                RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
            )
            await half_said.wait()
            await _first_words_are_stored(client, backend, workflow_id)

            server.signal(signal.SIGSTOP)
            go_on.set()
            await handle.result()
            server.signal(signal.SIGCONT)
            async with RedisStreamBackend(server.url) as another:
                events = await read_all(client, another, workflow_id)
    finally:
        await server.kill()

    assert standing_text(events) == "".join(WORDS)
    assert not [event for event in events if isinstance(event, Gap)]
    assert len([event for event in events if isinstance(event, CallEnded)]) == 1
    assert isinstance(events[-1], StreamEnded)
    healed = [event.from_history for event in events if isinstance(event, TokenEvent)]
    assert healed == sorted(healed)  # what was delivered first, then what the result told
    assert any(healed)
    assert not all(healed)


async def _first_words_are_stored(client: Client, backend: Backend, workflow_id: str) -> None:
    async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
        if isinstance(event, TokenEvent):
            return
