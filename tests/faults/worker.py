"""A worker, and what its activities say: in a test's own process, or as one that can be killed.

Every piece names itself, `<attempt>.<call>.<index>.<filler>;`, and an attempt's name is its own. So what a
viewer holds can be judged piece by piece, whatever happened on the way.
"""

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.faults.play import Play, Speech
from tests.faults.verdict import UNSEEN


@activity.defn(name="speak")
async def speak_unseen(speech: Speech) -> dict[str, Any]:
    """Speak on a worker without the interceptor, and say so: no viewer is promised any of it."""
    return {**await _spoken(f"{UNSEEN}{uuid.uuid4().hex[:8]}", speech)}


@activity.defn
async def speak(speech: Speech) -> dict[str, Any]:
    """Speak; return the text of each call, as the activity's own code saw it."""
    texts = await _spoken(uuid.uuid4().hex[:8], speech)
    return {**texts, "custom_data": None} if speech.has_place else {**texts}


async def _spoken(name: str, speech: Speech) -> dict[str, str]:
    speaking = asyncio.ensure_future(_speak(name, speech))
    if speech.deaf and activity.info().attempt == 1:
        while not speaking.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({speaking})
        return speaking.result()
    try:
        while not speaking.done():
            activity.heartbeat()
            await asyncio.wait({speaking}, timeout=0.2)
        return speaking.result()
    finally:
        speaking.cancel()


async def _speak(name: str, speech: Speech) -> dict[str, str]:
    hurried = speech.deaf and activity.info().attempt > 1
    filler = "x" * speech.filler
    texts: dict[str, str] = {}
    for turn in range(speech.turns):
        models = {
            f"{name}.{call}": ScriptedChatModel.saying(
                *(f"{name}.{call}.{index}.{filler};" for index in range(speech.tokens)),
                delay=speech.delay / 20 if hurried else speech.delay,
            )
            for call in range(turn * speech.calls, (turn + 1) * speech.calls)
        }
        messages = await asyncio.gather(*(model.ainvoke("?") for model in models.values()))
        texts |= {
            call: message.text.replace(filler, "") if filler else message.text
            for call, message in zip(models, messages, strict=True)
        }
    return texts


@asynccontextmanager
async def serving_unseen(client: Client, queue: str) -> AsyncIterator[None]:
    """Run a worker without the interceptor, for activities alone, as long as the block lasts."""
    async with Worker(client, task_queue=queue, activities=[speak_unseen], max_concurrent_activities=200):
        yield


@asynccontextmanager
async def serving(
    client: Client, backend: RedisStreamBackend | None, queue: str, **options: Any
) -> AsyncIterator[TokenStreamingInterceptor]:
    """Run a worker as long as the block lasts; it has 0.3 s for a graceful end.

    Where tokens may go through heartbeats, it lets those through as the plugin would.
    """
    uses_heartbeats = backend is None or options.get("fallback") == "heartbeats"
    often = timedelta(seconds=0.2 if uses_heartbeats else 60)
    interceptor = TokenStreamingInterceptor(backend, **options)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Play],
        activities=[speak],
        interceptors=[interceptor],
        workflow_runner=UnsandboxedWorkflowRunner(),  # a busy machine takes long to fill a sandbox
        graceful_shutdown_timeout=timedelta(seconds=0.3),
        max_cached_workflows=0,  # the workflow task may go to any worker: some of them are dead
        max_concurrent_activities=200,
        max_heartbeat_throttle_interval=often,
        default_heartbeat_throttle_interval=min(often, timedelta(seconds=30)),
    ):
        yield interceptor


def _set_clock(skew: float) -> None:
    """Make this process's clock wrong by so many seconds."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + skew
    time.time_ns = lambda: now_ns() + round(skew * 1e9)


async def _main(address: str, redis_url: str, queue: str) -> None:
    client = await Client.connect(address)
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(RedisStreamBackend(redis_url)) if redis_url else None
        await stack.enter_async_context(serving(client, backend, queue))
        print("serving", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # ends with whoever started us, however that happens


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("redis_url")
    parser.add_argument("queue")
    parser.add_argument("--skew", type=float, default=0.0)
    arguments = parser.parse_args()
    if arguments.skew:
        _set_clock(arguments.skew)
    asyncio.run(_main(arguments.address, arguments.redis_url, arguments.queue))
