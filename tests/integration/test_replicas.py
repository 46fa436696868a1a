"""Readers that read from a replica: what is not there yet when the run closes is waited for, or a gap."""

import asyncio
import random
import signal
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from temporalio import activity

from devservers import RedisServer
from temporal_token_interceptor import Gap, RedisStreamBackend, TokensMissing, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.transport.redis import replica as module
from tests.faults.proxy import Proxy
from tests.support.cluster import until
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity

TEXT = "all of it"


@activity.defn
async def answer(_: Any) -> str:
    """Its result has no `custom_data`: nothing but Redis knows that it called a model."""
    return (await ScriptedChatModel.saying(*TEXT).ainvoke("?")).text


class Pair:
    """A primary, a replica of it, and the way between them."""

    def __init__(self) -> None:
        self.primary, self.replica = RedisServer(), RedisServer()
        self.way = Proxy(random.Random(0))

    @asynccontextmanager
    async def running(self):
        await self.primary.start()
        await self.replica.start()
        try:
            async with (
                self.way.before(self.primary.url),
                Redis.from_url(self.primary.url) as primary,
                Redis.from_url(self.replica.url) as replica,
            ):
                for name, value in (
                    ("repl-diskless-sync", "yes"),
                    ("repl-diskless-sync-delay", 0),
                    ("repl-ping-replica-period", 1),
                ):
                    await primary.config_set(name, value)
                await replica.config_set("repl-diskless-load", "swapdb")
                await replica.replicaof("127.0.0.1", self.way.url.rpartition(":")[2])

                async def is_linked() -> bool:
                    facts: dict[str, Any] = await replica.info("replication")
                    return bool(facts["master_link_status"] == "up")

                await until(is_linked)
                yield self
                self.way.thaw()
                await replica.replicaof("NO", "ONE")
        finally:
            await self.replica.kill()
            await self.primary.kill()


@pytest.fixture
async def pair():
    async with Pair().running() as pair:
        yield pair


async def read_from_replica(client: Any, pair: Pair, workflow_id: str) -> list[Any]:
    async with RedisStreamBackend(pair.replica.url) as backend:
        return await read_all(client, backend, workflow_id)


async def test_a_replica_that_lags_is_waited_for(client, pair):
    """Everything is on the primary when the workflow completes, and nothing on my replica: I get it all."""
    workflow_id = unique("lags")
    async with (
        RedisStreamBackend(pair.primary.url) as backend,
        streaming_worker(client, backend, [answer]) as queue,
    ):
        pair.way.freeze()
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        reading = asyncio.ensure_future(read_from_replica(client, pair, workflow_id))
        await asyncio.wait({reading}, timeout=2.5)
        has_waited = not reading.done()
        pair.way.thaw()
        events = await reading

    assert has_waited
    assert standing_text(events) == TEXT
    assert not [event for event in events if isinstance(event, Gap)]
    assert events[-1].status == "completed"


async def test_a_replica_that_is_cut_off_is_a_gap(client, pair, monkeypatch, caplog):
    """The way to the primary is dead: I learn that something may be missing, and `text()` raises."""
    monkeypatch.setattr(module, "LONGEST", 2.0)
    workflow_id = unique("cut-off")
    async with (
        RedisStreamBackend(pair.primary.url) as backend,
        streaming_worker(client, backend, [answer]) as queue,
    ):
        pair.way.freeze()
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        pair.primary.signal(signal.SIGSTOP)  # a replica that connects again must not be served either
        events = await read_from_replica(client, pair, workflow_id)
        async with RedisStreamBackend(pair.replica.url) as behind:
            with pytest.raises(TokensMissing, match="transport"):
                await TokenSubscriber(client, behind).text(workflow_id)
            snapshot = await TokenSubscriber(client, behind).snapshot(workflow_id)  # waits for nothing
        pair.primary.signal(signal.SIGCONT)

    assert [(event.reason, event.origin) for event in events if isinstance(event, Gap)] == [
        ("transport", None)
    ]
    assert events[-1].status == "completed"
    assert snapshot.text == ""
    assert "let them read from the primary" in caplog.text


async def test_a_primary_is_asked_once_and_a_silent_server_never_again(redis_url, redis_client):
    """A thousand streams that end cost one question; a user without the right is not refused twice."""
    before = await redis_client.info("commandstats")
    async with RedisStreamBackend(redis_url) as backend:
        assert await asyncio.gather(*(backend.caught_up() for _ in range(100))) == [True] * 100
    after = await redis_client.info("commandstats")
    await redis_client.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "-info")
    try:
        async with RedisStreamBackend(redis_url.replace("//", "//mute:pw@")) as backend:
            assert [await backend.caught_up() for _ in range(3)] == [True] * 3
    finally:
        await redis_client.execute_command("ACL", "DELUSER", "mute")
    refused = (await redis_client.info("commandstats"))["cmdstat_info"]

    # The one is that of `before`.
    assert after["cmdstat_info"]["calls"] - before.get("cmdstat_info", {"calls": 0})["calls"] <= 2
    assert refused["rejected_calls"] - before.get("cmdstat_info", {}).get("rejected_calls", 0) == 1
