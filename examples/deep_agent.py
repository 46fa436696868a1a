"""Watch a deep agent hand work to its sub-agents, and see whose text it is: `python -m examples.deep_agent`.

Two sub-agents of `deepagents` work at the same time, so their words arrive interleaved. Every event says
which agent it comes from, and which tool call of the main agent that one works for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from deepagents import create_deep_agent
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from devservers import redis_server, temporal_server
from temporal_token_interceptor import (
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
    ToolCallChunk,
)
from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

TASK_QUEUE = "deep-agent"


# ---------------------------------------------------------------------- the worker


def script(messages: Sequence[BaseMessage]) -> Sequence[Piece]:
    if isinstance(messages[-1], ToolMessage):
        return ["Take ", "the ", "night ", "train: ", "both ", "agree."]
    task = next(message.text for message in messages if isinstance(message, HumanMessage))
    if task == "prices":
        return ["The ", "train ", "costs ", "half."]
    if task == "hours":
        return ["It ", "leaves ", "at ", "nine."]
    return [
        *("I ", "ask ", "two ", "others. "),
        tool_call("task", '{"description": "prices", "subagent_type": "accountant"}', id="call-1", index=0),
        tool_call("task", '{"description": "hours", "subagent_type": "clerk"}', id="call-2", index=1),
    ]


agent = create_deep_agent(
    # A real one: `model="anthropic:claude-sonnet-4-5"`, and all else stays.
    model=ScriptedChatModel(script=script, delay=0.1),
    subagents=[
        {"name": "accountant", "description": "Knows prices.", "system_prompt": "Be exact.", "tools": []},
        {"name": "clerk", "description": "Knows timetables.", "system_prompt": "Be brief.", "tools": []},
    ],
)


@activity.defn
async def answer(question: str) -> str:
    state = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return str(state["messages"][-1].text)


@workflow.defn
class Research:
    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )


def research_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Research],
        activities=[answer],
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url))],
    )


# ---------------------------------------------------------------------- the client


async def ask(client: Client, redis_url: str, question: str) -> None:
    print(f"? {question}")
    handle = await client.start_workflow(Research.run, question, id="research-1", task_queue=TASK_QUEUE)
    speaker, said = "", defaultdict[str, str](str)
    async with RedisStreamBackend(redis_url) as backend:
        async for event in TokenSubscriber(client, backend).subscribe(handle.id):
            match event:
                case TokenEvent(call=call):
                    name = f"{call.agent_name}, for {call.tool_call_id}" if call.agent_name else "main agent"
                    if name != speaker:
                        speaker = name
                        print(f"\n{speaker:>24}: ", end="")
                    print(event.token, end="", flush=True)
                    said[name] += event.token
                case ToolCallChunk():
                    print(f"\n{event.id or '':>24}  {event.name}({event.args})", end="")
                case StreamEnded():
                    print(f"\n-- {event.status}, says Temporal --\n")
    for name, text in said.items():
        print(f"{name:>24}: {text}")


async def main() -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        research_worker(temporal.client, redis_url),
    ):
        await ask(temporal.client, redis_url, "Train or plane to Lisbon?")


if __name__ == "__main__":
    asyncio.run(main())
