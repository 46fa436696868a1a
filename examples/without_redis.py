"""Stream with nothing but Temporal: `python -m examples.without_redis`.

No Redis is started. Tokens travel in the details of the activities' heartbeats, while the model writes, and
in their results, in a field `custom_data` that the plugin fills: what a heartbeat could not show comes from
there. The subscription and its events are those of Redis; give both sides a backend later, for more viewers.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from devservers import temporal_server
from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel

TASK_QUEUE = "without-redis"


# ---------------------------------------------------------------------- the worker

# Real ones: `langchain.chat_models.init_chat_model("anthropic:claude-sonnet-4-5")`, and all else stays.
finder = ScriptedChatModel.saying("Three ", "boats, ", "one ", "harbour.", delay=0.15)
writer = ScriptedChatModel.saying("They ", "sail ", "at ", "dawn.", delay=0.15)


@dataclass
class Step:
    text: str
    custom_data: list[Any] | None = None  # for what heartbeats did not show


@activity.defn
async def find(question: str) -> Step:
    return Step((await finder.ainvoke(question)).text)


@activity.defn
async def write(found: str) -> Step:
    return Step((await writer.ainvoke(found)).text)


@workflow.defn
class Report:
    @workflow.run
    async def run(self, question: str) -> str:
        timeout = timedelta(minutes=5)
        found = await workflow.execute_activity(
            find, question, start_to_close_timeout=timeout, heartbeat_timeout=timedelta(seconds=10)
        )
        written = await workflow.execute_activity(
            write, found.text, start_to_close_timeout=timeout, heartbeat_timeout=timedelta(seconds=10)
        )
        return f"{found.text} {written.text}"


def report_worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Report],
        activities=[find, write],
        plugins=[TokenStreamingPlugin()],  # no backend
    )


# ---------------------------------------------------------------------- the client


async def ask(client: Client, question: str) -> None:
    handle = await client.start_workflow(Report.run, question, id="report-1", task_queue=TASK_QUEUE)
    started = time.monotonic()
    async for event in TokenSubscriber(client).subscribe(handle.id):  # no backend
        match event:
            case AttemptStarted(origin=origin):
                print(f"after {time.monotonic() - started:.1f} s, {origin.activity_type}: ", end="")
            case TokenEvent():
                print(event.token, end="|")
            case AttemptEnded():
                print()
            case StreamEnded():
                print(f"-- {event.status}, says Temporal --")


async def main() -> None:
    async with temporal_server() as temporal, report_worker(temporal.client):
        await ask(temporal.client, "When do they sail?")


if __name__ == "__main__":
    asyncio.run(main())
