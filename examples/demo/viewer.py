"""Asks the questions, in a process of its own, and draws the answers as they arrive.

It shares nothing with the worker but the addresses of Temporal and Redis.
"""

import asyncio
import logging
import os
import sys
import time
import uuid
from datetime import timedelta

from temporalio.client import Client

from devservers import SDK_REST
from examples.demo import without_redis
from examples.demo.notes import note
from examples.demo.page import Page, page_on
from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    Gap,
    Origin,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
    ToolCallChunk,
)

TIME_TO_READ = timedelta(seconds=0.7)
READER_LEFT = 141  # what a shell reports of a program whose reader hung up, as in `make demo | head`


async def watch(client: Client, subscriber: TokenSubscriber, page: Page, question: str) -> None:
    """Ask, and draw the answer until Temporal says how it ended."""
    page.ask(question)
    asked = time.monotonic()
    workflow_id = f"question-{uuid.uuid4()}"
    # By name: the viewer has none of the worker's code.
    await client.start_workflow("Support", question, id=workflow_id, task_queue="support")
    first_token = 0.0

    async for event in subscriber.subscribe(workflow_id):
        match event:
            case AttemptStarted(supersedes=Origin() as dead):
                page.take_back(dead)
                note("taken back", workflow_id, dead.attempt)
            case TokenEvent(origin=origin):
                page.write(origin, event.call.id, event.node_name, event.token)
                drawn = time.monotonic()
                first_token = first_token or drawn - asked
                note("drawn", workflow_id, origin.attempt, token=event.token, at=drawn)
            case ToolCallChunk(origin=origin, name=str(tool)):
                page.call_tool(origin, event.call.node_name, f"{tool}({event.args})")
            case AttemptEnded(origin=origin, outcome="failed"):
                page.mark_dead(origin, will_retry=event.will_retry is not False)
            case Gap():
                page.remark(f"tokens are missing here: {event.reason}")
            case StreamEnded(status=status):
                page.end(status, first_token)
                note("ended", workflow_id, status=status, first_token=first_token)
            case _:
                pass  # beginnings and ends of calls, reasoning, content blocks: there is more than we draw


async def main(temporal_address: str, redis_url: str, *questions: str) -> None:
    """Ask one question after the other."""
    page = page_on(sys.stdout)
    client = await Client.connect(temporal_address)
    async with RedisStreamBackend(redis_url) as backend:
        subscriber = TokenSubscriber(client, backend)
        for question in questions:
            await watch(client, subscriber, page, question)
            await asyncio.sleep(TIME_TO_READ.total_seconds())
    await without_redis.watch(client, questions[0])
    await asyncio.sleep(SDK_REST.total_seconds())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except BrokenPipeError:
        os._exit(READER_LEFT)  # an orderly exit would try to write the rest
