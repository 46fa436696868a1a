"""A worker that can be killed: its activity's first attempt writes a wrong sentence, and never ends."""

import asyncio
import sys
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.workflows import RunActivity

WRONG = ["Paris ", "has ", "2.4 ", *["million "] * 1_000]
RIGHT = ["Paris ", "has ", "2.1 ", "million ", "people."]


@activity.defn
async def answer(argument: list[float] | None) -> str:
    """Answer; not before it is killed in the first attempt. Each attempt is a line of output.

    Args:
        argument: Seconds from word to word, and how often the right answer is repeated.
    """
    delay, times = argument or (0.15, 1)
    attempt = activity.info().attempt
    print(attempt, flush=True)  # noqa: T201 - who reads it knows which process to kill
    words = WRONG if attempt == 1 else RIGHT * int(times)
    return (await ScriptedChatModel.saying(*words, delay=delay).ainvoke("?")).text


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
            max_heartbeat_throttle_interval=timedelta(seconds=0.3),  # slack for a full machine
            max_cached_workflows=0,  # Temporal waits 10 s for a killed worker that had workflows in it
        ),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
