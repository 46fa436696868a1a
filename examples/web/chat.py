"""An agent in an activity, and a workflow that runs it. Nothing here knows of streaming or of browsers."""

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta

from langchain.agents import create_agent
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

TASK_QUEUE = "web"


async def timetable(place: str) -> str:
    """Say when the ferry to a place leaves."""
    await asyncio.sleep(0.6)
    return f"{place}: 09:40, 14:10, 18:30"


def script(messages: Sequence[BaseMessage]) -> Sequence[Piece]:
    if not isinstance(messages[-1], ToolMessage):
        return [*words("Let me look that up."), tool_call("timetable", '{"place": "Lisbon"}', id="call-1")]
    question = next(message.text for message in messages if isinstance(message, HumanMessage))
    if "die" in question and activity.info().attempt == 1:
        return [*words("The last ferry has gone alr"), ConnectionError("the provider hung up")]
    return words(
        "Three ferries are left today: at 09:40, at 14:10 and at 18:30. Take the second if you like company, "
        "and the third if you like the sea to yourself. Tickets are sold on the quay, until ten minutes "
        "before."
    )


def words(text: str) -> list[Piece]:
    return [*re.findall(r"\s*\S+", text)]


# A real one: `init_chat_model("anthropic:claude-sonnet-4-5")` of langchain.chat_models. All else stays.
agent = create_agent(ScriptedChatModel(script=script, delay=0.1), tools=[timetable])


@activity.defn
async def answer(question: str) -> str:
    state = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return str(state["messages"][-1].text)


@workflow.defn
class Chat:
    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=5),  # without one, Temporal cannot ask an activity to stop
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
