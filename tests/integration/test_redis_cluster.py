"""A Redis Cluster is a transport like the others; `tests/faults` kills its nodes."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import pytest

from temporal_token_interceptor import RedisStreamBackend, TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from tests.support.cluster import a_cluster
from tests.support.fetching import write_by_fetching
from tests.support.rights import CLUSTER_READER, CLUSTER_WRITER
from tests.support.streams import unique

PASSWORD = unique("password")
SHORT = timedelta(seconds=2)  # until a refusal has lasted


@pytest.fixture(scope="module")
async def cluster(redis_binary):
    async with a_cluster(redis_binary) as cluster:
        yield cluster


@asynccontextmanager
async def a_backend(cluster, patience=timedelta(seconds=30), **user):
    async with (
        cluster.client(**user) as client,
        RedisStreamBackend(client=client, patience=patience) as backend,
    ):
        yield backend


@pytest.mark.parametrize("law", TRANSPORT_LAWS)
@pytest.mark.parametrize("way", ["written", "fetched"])
async def test_a_cluster_keeps_every_law_of_a_transport(cluster, law, way, monkeypatch):
    """Nothing that I rely on is different in a cluster."""
    if way == "fetched":
        monkeypatch.setattr(RedisStreamBackend, "write", write_by_fetching)
    await check_transport(lambda: a_backend(cluster), laws=[law])


async def test_runs_spread_over_the_nodes(cluster):
    """No node has all the work: each of many runs goes where its id says."""
    workflow_id = unique("spread")
    async with a_backend(cluster) as backend:
        for run in range(100):
            await backend.write(StreamKey("default", workflow_id, f"run-{run}"), b"x")

    masters = await cluster.masters()
    found = {node.port: await node.ask("KEYS", f"*{workflow_id}*") for node in masters}

    assert sum(map(len, found.values())) >= 100
    assert all(len(keys) > 15 for keys in found.values()), found


async def test_connections_do_not_grow_with_streams(cluster):
    """At a node a worker has at most two connections and a reader three, however many runs there are."""
    streams = [StreamKey("default", unique("connections"), "run") for _ in range(60)]
    most = {"worker": 0, "viewer": 0}
    async with (
        a_backend(cluster, client_name="worker") as writer,
        a_backend(cluster, client_name="viewer") as reader,
    ):

        async def write(stream):
            for number in range(30):
                await writer.write(stream, b"%d" % number)

        async def read(stream):
            read = 0
            async with aclosing(reader.read(stream)) as entries:
                while read < 30:
                    read += len(await anext(entries))
                    await reader.last_id(stream)  # a question beside the shared read

        async def count(done):
            while not done.is_set():
                for node in cluster.nodes:
                    clients = (await node.ask("CLIENT", "LIST")).decode()
                    for name, so_far in most.items():
                        most[name] = max(so_far, clients.count(f"name={name} "))

        done = asyncio.Event()
        counting = asyncio.create_task(count(done))
        async with asyncio.timeout(30):
            await asyncio.gather(*map(write, streams), *map(read, streams))
        done.set()
        await counting

    assert 1 <= most["worker"] <= 2
    assert 2 <= most["viewer"] <= 3


async def test_writers_and_readers_of_a_cluster_need_few_rights(cluster):
    """I give each a user on every node, as documented; neither can do what the other does."""
    for node in cluster.nodes:
        for name, rights in (("writer", CLUSTER_WRITER), ("reader", CLUSTER_READER)):
            await node.ask("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", "~tti:v1:*", *rights)
    stream = StreamKey("default", unique("rights"), "run")
    async with (
        a_backend(cluster, username="writer", password=PASSWORD, patience=SHORT) as writer,
        a_backend(cluster, username="reader", password=PASSWORD, patience=SHORT) as reader,
    ):
        async with asyncio.timeout(10), aclosing(reader.read(stream)) as entries:
            await writer.write(stream, b"there")
            assert [entry.data for entry in await anext(entries)] == [b"there"]
            coming = asyncio.ensure_future(anext(entries))
            await writer.write(stream, b"comes")
            assert [entry.data for entry in await coming] == [b"comes"]
            writer.keep(stream)
            while await reader.newest_run(stream.namespace, stream.workflow_id) != "run":  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        with pytest.raises(TokenStreamError, match="the rights"):
            await reader.write(stream, b"forged")
        with pytest.raises(TokenStreamError, match="the rights"):
            await writer.last_id(stream)
