"""A worker that can be killed: its activity's first attempt writes a wrong sentence, and never ends."""

import asyncio
import sys

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.workflows import RunActivity

WRONG = ["Paris ", "has ", "2.4 ", *["million "] * 1_000]
RIGHT = ["Paris ", "has ", "2.1 ", "million ", "people."]


@activity.defn
async def answer(argument: object) -> str:
    """Answer; not before it is killed in the first attempt."""
    words = WRONG if activity.info().attempt == 1 else RIGHT
    return (await ScriptedChatModel.saying(*words, delay=0.15).ainvoke("?")).text


async def main(target: str, redis_url: str, queue: str) -> None:
    """Work until the process is killed."""
    client = await Client.connect(target)
    async with (
        RedisStreamBackend(redis_url) as backend,
        Worker(
            client,
            task_queue=queue,
            workflows=[RunActivity],
            activities=[answer],
            interceptors=[TokenStreamingInterceptor(backend)],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=0,  # Temporal waits 10 s for a killed worker that had workflows in it
        ),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
