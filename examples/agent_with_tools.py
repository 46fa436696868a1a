"""Watch an agent decide, call its tools and answer: `python -m examples.agent_with_tools`.

The agent is LangChain's `create_agent`, whole, in one activity: one `ainvoke`. Its viewer sees the words of
the model, the tool calls that it writes, and each tool begin and end, with what it returned.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from langchain.agents import create_agent
from langchain_core.messages import BaseMessage, ToolMessage
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from devservers import redis_server, temporal_server
from temporal_token_interceptor import (
    CallEnded,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

TASK_QUEUE = "agent-with-tools"


# ---------------------------------------------------------------------- the worker


async def weather(city: str) -> str:
    """Look up the weather of a city."""
    await asyncio.sleep(0.2)
    return {"Lisbon": "21 degrees, clear", "Bergen": "6 degrees, rain"}[city]


def script(messages: Sequence[BaseMessage]) -> Sequence[Piece]:
    if isinstance(messages[-1], ToolMessage):
        return ["Take ", "the ", "coat ", "for ", "Bergen, ", "and ", "leave ", "it ", "in ", "Lisbon."]
    return [
        *("Let ", "me ", "look ", "at ", "both. "),
        tool_call("weather", '{"city": "Lisbon"}', id="call-1", index=0),
        tool_call("weather", '{"city": "Bergen"}', id="call-2", index=1),
    ]


# A real one: `init_chat_model("openai:gpt-5")` of langchain.chat_models. The agent and all else stay.
agent = create_agent(ScriptedChatModel(script=script, delay=0.08), tools=[weather])


@activity.defn
async def answer(question: str) -> str:
    state = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return str(state["messages"][-1].text)


@workflow.defn
class Agent:
    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )


def agent_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Agent],
        activities=[answer],
        # What tools take and return may be private: it stays at home unless you ask for it.
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url), capture=["tool_output"])],
    )


# ---------------------------------------------------------------------- the client


async def ask(client: Client, redis_url: str, question: str) -> None:
    print(f"? {question}")
    handle = await client.start_workflow(Agent.run, question, id="agent-1", task_queue=TASK_QUEUE)
    async with RedisStreamBackend(redis_url) as backend:
        async for event in TokenSubscriber(client, backend).subscribe(handle.id):
            match event:
                case TokenEvent():
                    print(event.token, end="", flush=True)
                case ToolCallChunk():  # providers send it in pieces; the first has the name
                    print(f"\n  -> {event.name}" if event.name else "", event.args, end="")
                case CallEnded():
                    print()
                case ToolStarted():
                    print(f"  {event.tool_call_id} runs {event.name}")
                case ToolEnded():
                    print(f"  {event.tool_call_id} returns {event.output!r}")
                case StreamEnded():
                    print(f"-- {event.status}, says Temporal --")


async def main() -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        agent_worker(temporal.client, redis_url),
    ):
        await ask(temporal.client, redis_url, "Do I need a coat in Lisbon, or in Bergen?")


if __name__ == "__main__":
    asyncio.run(main())
