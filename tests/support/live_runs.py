"""Workflows that write while a page shows them, and go on when a test wants it."""

import asyncio
import re
from contextlib import asynccontextmanager

from temporalio import activity

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

WRONG = "Paris has 24 million"
RIGHT = ["Paris ", "has ", "2.1 ", "million"]


class Runs:
    """Workflows whose model writes a part, and goes on when the test wants it to."""

    def __init__(self, client, queue):
        self.client = client
        self.queue = queue
        self.released = {}

    async def start(self, name="answers", attempts=3):
        workflow_id = unique("live/with a slash")
        self.released[workflow_id] = asyncio.Event()
        return await self.client.start_workflow(
            RunActivity.run,
            args=[name, workflow_id, False, attempts, 20.0],  # no attempt dies of a full machine
            id=workflow_id,
            task_queue=self.queue,
        )

    def release(self, handle):
        self.released[handle.id].set()


@asynccontextmanager
async def running(client, redis_url):
    """A worker of `Runs`."""

    @activity.defn
    async def answers(name: str) -> str:
        if activity.info().attempt == 1:
            await ScriptedChatModel.saying(*re.findall(r"\S+ ?", WRONG)).ainvoke("?")
            await started.released[name].wait()
            raise RuntimeError("lost")
        return (await ScriptedChatModel.saying(*RIGHT).ainvoke("?")).text

    @activity.defn
    async def counts(name: str) -> str:
        text, number = "", 0
        while not started.released[name].is_set():
            activity.heartbeat()
            words = [f"{number + place} " for place in range(5)]
            text += (await ScriptedChatModel.saying(*words, delay=0.01).ainvoke("?")).text
            number += 5
        return text

    @activity.defn
    async def waits(name: str) -> str:
        text = (await ScriptedChatModel.saying("It waits").ainvoke("?")).text
        while not started.released[name].is_set():
            activity.heartbeat()
            await asyncio.sleep(0.1)
        return text

    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answers, counts, waits]) as queue,
    ):
        started = Runs(client, queue)
        yield started
