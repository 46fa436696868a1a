"""Many clients of one run, most of them slow: each ends with the whole state, and Redis has one reader."""

import asyncio
import os
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest
from temporalio import activity

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway import hub as hub_module
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.views.projector import Projector
from tests.support.gateways import Listener, folded
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

CLIENTS = int(os.environ.get("TTI_TEST_SLOW_CLIENTS", "60"))  # `make viewers`: 320
WORDS = [f"{number} " for number in range(100)]


class Slow(Listener):
    """A client that accepts nothing while it rests."""

    rests: Random

    async def _send(self, message):
        await super()._send(message)
        for _ in range(self.rests.choice([0, 0, 1, 20, 200])):
            await asyncio.sleep(0)


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


async def test_slow_clients_are_exact(client, backend, monkeypatch):
    """A worker dies in mid-sentence, clients are given the state again; none has a word too many."""
    monkeypatch.setattr(hub_module, "WAITING", 16)
    release = asyncio.Event()

    @activity.defn
    async def speaks(argument: Any) -> None:
        await release.wait()
        is_first = activity.info().attempt == 1
        pieces = [*WORDS[:70], RuntimeError("lost")] if is_first else WORDS
        await ScriptedChatModel.saying(*pieces).ainvoke("?")

    subscriber = TokenSubscriber(client, backend)
    app = gateway(subscriber, authorize=anyone)
    async with streaming_worker(client, backend, [speaks]) as queue, AsyncExitStack() as stack:
        workflow_id = unique("load")
        handle = await client.start_workflow(
            RunActivity.run,
            args=["speaks", None, False, 2, 20.0],  # neither attempt dies of a full machine
            id=workflow_id,
            task_queue=queue,
        )
        path = f"/v1/workflows/{workflow_id}/events"
        slow = [await stack.enter_async_context(_slow(app, path, seed)) for seed in range(CLIENTS)]
        release.set()
        await handle.result()
        ends = [await one.end() for one in slow]
        await app.aclose()

    projector = Projector()
    async for event in subscriber.subscribe(workflow_id):
        projector.read(event)
    expected = projector.view
    assert {tuple((item.id, item.text) for item in folded(end).items.values()) for end in ends} == {
        tuple((item.id, item.text) for item in expected.items.values())
    }
    assert sum(name == "snapshot" for end in ends for name, _, _ in end) > CLIENTS
    assert "".join(item.text for item in expected.items.values()) == "".join(WORDS)


def _slow(app, path, seed):
    client = Slow(app, path)
    client.rests = Random(seed)
    return client
