"""A Redis Cluster is a transport like the others, also when it loses a node."""

import asyncio
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import RedisCluster

from temporal_token_interceptor import Gap, RedisStreamBackend, TokenEvent, TokenSubscriber
from temporal_token_interceptor.events import Call, CallStarted, Frame, Record, TextRun
from temporal_token_interceptor.protocol import StreamKey, encode
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from tests.support.cluster import a_cluster
from tests.support.frames import an_origin

STREAMS, TOKENS, PACE = 12, 150, 0.02


@pytest.fixture(scope="module")
async def cluster(redis_binary):
    async with a_cluster(redis_binary) as nodes:
        yield nodes


@asynccontextmanager
async def a_backend(nodes):
    async with (
        RedisCluster(host="127.0.0.1", port=nodes[1].port) as client,
        RedisStreamBackend(client=client, patience=timedelta(seconds=30)) as backend,
    ):
        yield backend


@pytest.mark.parametrize("law", TRANSPORT_LAWS)
async def test_a_cluster_keeps_every_law_of_a_transport(cluster, law):
    """Nothing that I rely on is different in a cluster."""
    await check_transport(lambda: a_backend(cluster), laws=[law])


async def test_a_node_that_dies_costs_nothing_that_is_not_told(redis_binary, capsys):
    """While models speak, a node dies and its replica takes over: each token comes once, or a `Gap` tells."""
    async with a_cluster(redis_binary) as nodes, a_backend(nodes) as writer, a_backend(nodes) as reader:
        # A first try of an attempt; its stream goes where its hash tag says, which spreads them.
        runs = [
            an_origin(workflow_id=f"cluster-{n}", run_id=uuid.uuid4().hex, attempt_id=f"{n:016x}")
            for n in range(STREAMS)
        ]
        spoken = asyncio.get_running_loop().create_future()
        subscriber = TokenSubscriber(None, reader)

        async def speak(place: int) -> None:
            origin = runs[place]
            for seq in range(TOKENS):
                said: Record = TextRun("text", 0, seq, (f"{seq} ",), 1)
                first = (CallStarted(call=Call(ordinal=0, node_name="answer", run_id="lc")),) * (seq == 0)
                frame = Frame(origin, seq, (*first, said), header=seq == 0, open_calls=())
                await writer.write(StreamKey.of(origin), encode(frame))
                await asyncio.sleep(PACE)

        async def listen(place: int) -> tuple[list[int], int]:
            origin = runs[place]
            tokens, missing = [], 0
            async for event in subscriber.subscribe(origin.workflow_id, origin.run_id, until=spoken):
                if isinstance(event, TokenEvent):
                    tokens.append(event.index)
                elif isinstance(event, Gap):
                    missing += event.missing or 0
            return tokens, missing

        listening = asyncio.gather(*(listen(place) for place in range(STREAMS)))
        speaking = asyncio.gather(*(speak(place) for place in range(STREAMS)))
        await asyncio.sleep(TOKENS * PACE / 3)
        sizes = [int(await node.raw("DBSIZE")) for node in nodes[:3]]
        nodes[0].kill()
        died = datetime.now(UTC)
        async with asyncio.timeout(40):
            await speaking
            took = datetime.now(UTC) - died
            spoken.set_result(None)
            heard = await listening

    with capsys.disabled():
        print(  # noqa: T201 - what a failover costs, for whoever runs the tests
            f"\ncluster: streams per node {sizes}, all written {took.total_seconds():.1f} s after the kill; "
            f"{sum(len(tokens) for tokens, _ in heard)} of {STREAMS * TOKENS} tokens heard, "
            f"{sum(missing for _, missing in heard)} told missing"
        )
    assert all(sizes)
    for tokens, missing in heard:
        assert tokens == sorted(set(tokens))
        assert len(tokens) + missing == TOKENS
