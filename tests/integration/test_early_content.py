"""Content that must not leave early, on real servers: middleware comes too late, a transform does not."""

import re
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import PIIMiddleware
from temporalio import activity

from temporal_token_interceptor import CallEnded, Gap, RedisStreamBackend, TokenEvent
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.workflows import RunActivity

ADDRESS = "ada@example.com"
PIECES = ("Write to ada", "@exam", "ple.com today")


class Redacted:
    """Blanks addresses, also where they come in pieces."""

    def __init__(self) -> None:
        self.waiting = ""

    def feed(self, text: str) -> str:
        sent, space, self.waiting = (self.waiting + text).rpartition(" ")
        return self.blanked(sent + space)

    def flush(self) -> str:
        return self.blanked(self.waiting)

    def blanked(self, text: str) -> str:
        return re.sub(r"\S+@\S+", "[email]", text)


@activity.defn
async def answer(argument: Any) -> str:
    agent = create_agent(
        ScriptedChatModel.saying(*PIECES),
        tools=[],
        middleware=[PIIMiddleware("email", strategy="redact", apply_to_output=True)],
    )
    return str((await agent.ainvoke({"messages": [("user", "?")]}))["messages"][-1].text)


async def answered(client: Any, backend: Any, **options: Any) -> tuple[str, list[Any]]:
    workflow_id = unique("early")
    async with streaming_worker(client, backend, [answer], **options) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer", None, False, 1, 20], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)
        return await handle.result(), events


def text_of(events: list[Any]) -> str:
    return "".join(event.token for event in events if isinstance(event, TokenEvent))


async def test_redacting_middleware_comes_too_late_for_a_stream(client, redis_url):
    """What docs/reading.md says: the result is redacted, and readers had the address."""
    async with RedisStreamBackend(redis_url) as backend:
        result, events = await answered(client, backend)

    assert ADDRESS not in result
    assert ADDRESS in text_of(events)


@pytest.mark.parametrize("hold_calls", [False, True])
async def test_a_transform_on_the_worker_lets_no_address_out(client, redis_url, hold_calls):
    """Readers get what the transform returned, whole and verified; the transport never had the rest."""
    async with RedisStreamBackend(redis_url) as backend:
        result, events = await answered(
            client, backend, transform=lambda call: Redacted(), hold_calls=hold_calls
        )

    assert ADDRESS not in result
    assert text_of(events) == "Write to [email] today"
    assert not [event for event in events if isinstance(event, Gap)]
    assert len([event for event in events if isinstance(event, CallEnded)]) == 1
