"""Redact, count and judge what models say, on the reader's side: `python -m examples.transformers`.

The worker knows nothing of it: any reader may have transformers of its own, and they are LangGraph's. No
Redis is started, and there is no key and no network.
"""

import asyncio
from datetime import timedelta
from typing import Any

from langchain_core.messages import AIMessageChunk
from temporalio import activity, workflow
from temporalio.worker import Worker

from devservers import temporal_server
from examples.transformers.costs import CostCounter
from examples.transformers.moderation import Moderation
from examples.transformers.redaction import Redaction
from temporal_token_interceptor import TokenStreamingPlugin, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel

TASK_QUEUE = "transformers"
USAGE = AIMessageChunk(
    content="", usage_metadata={"input_tokens": 12, "output_tokens": 9, "total_tokens": 21}
)


# ---------------------------------------------------------------------- the worker


@activity.defn
async def answer(question: str) -> str:
    model = ScriptedChatModel.saying("Write to ", "ada@", "example", ".org", " or call.", USAGE, delay=0.05)
    return (await model.ainvoke(question)).text


@workflow.defn
class Ask:
    @workflow.run
    async def run(self, question: str) -> str:
        timeout, heartbeat = timedelta(minutes=5), timedelta(seconds=10)
        return await workflow.execute_activity(
            answer, question, start_to_close_timeout=timeout, heartbeat_timeout=heartbeat
        )


# ---------------------------------------------------------------------- the client


async def judge(text: str) -> str:
    """A moderation service, in place of one on the network."""
    await asyncio.sleep(0.05)
    return "names a person" if "[address]" in text or "@" in text else "fine"


def moderation(scope: tuple[str, ...]) -> Moderation:
    return Moderation(scope, judge)


async def watch(subscriber: TokenSubscriber, workflow_id: str) -> list[tuple[str, Any]]:
    """Print a run as its viewer may see it; return what the transformers showed."""
    shown: list[tuple[str, Any]] = []
    async with subscriber.run(workflow_id, transformers=[Redaction, CostCounter, moderation]) as run:
        async for call in run.messages:
            async for text in call.text:
                print(text, end="", flush=True)
            print()
        async for name, item in run.interleave("costs", "verdicts"):
            print(f"{name}: {item}")
            shown.append((name, item))
    return shown


async def main() -> None:
    async with temporal_server() as temporal:
        worker = Worker(
            temporal.client,
            task_queue=TASK_QUEUE,
            workflows=[Ask],
            activities=[answer],
            plugins=[TokenStreamingPlugin()],
        )
        async with worker:
            await temporal.client.start_workflow(Ask.run, "How?", id="ask-1", task_queue=TASK_QUEUE)
            await watch(TokenSubscriber(temporal.client), "ask-1")


if __name__ == "__main__":
    asyncio.run(main())
