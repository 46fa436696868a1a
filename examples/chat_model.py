"""Watch a chat model think inside of a Temporal activity, token by token: `python -m examples.chat_model`.

The activity calls `ainvoke` and knows nothing of streaming. One line of the worker makes it stream, and one
loop of the client reads it. A Temporal and a Redis are started for the occasion; no key and no network.
"""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from devservers import redis_server, temporal_server
from temporal_token_interceptor import (
    CallEnded,
    CallStarted,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel

TASK_QUEUE = "chat-model"

# A real one: `langchain.chat_models.init_chat_model("anthropic:claude-sonnet-4-5")`, and all else stays.
model = ScriptedChatModel.saying(
    "A ", "durable ", "answer, ", "shown ", "while ", "it ", "is ", "made.", delay=0.1
)


# ---------------------------------------------------------------------- the worker


@activity.defn
async def answer(question: str) -> str:
    message = await model.ainvoke(question)
    return message.text


@workflow.defn
class Chat:
    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )


def chat_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Chat],
        activities=[answer],
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url))],  # this is all
    )


# ---------------------------------------------------------------------- the client


async def ask(client: Client, redis_url: str, question: str) -> None:
    print(f"? {question}")
    handle = await client.start_workflow(Chat.run, question, id="chat-1", task_queue=TASK_QUEUE)
    async with RedisStreamBackend(redis_url) as backend:
        async for event in TokenSubscriber(client, backend).subscribe(handle.id):
            match event:
                case CallStarted(call=call):
                    print(f"[{call.node_name}, {call.model}] ", end="")
                case TokenEvent():
                    print(event.token, end="|", flush=True)
                case CallEnded():
                    print()
                case StreamEnded():
                    print(f"-- {event.status}, says Temporal --")
    print(f"result: {await handle.result()}")


async def main() -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        chat_worker(temporal.client, redis_url),
    ):
        await ask(temporal.client, redis_url, "What will you say?")


if __name__ == "__main__":
    asyncio.run(main())
