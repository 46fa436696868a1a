"""A Redis Cluster is a transport like the others; `tests/faults` kills its nodes."""

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.protocol import StreamKey
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from tests.support.cluster import a_cluster
from tests.support.streams import unique


@pytest.fixture(scope="module")
async def cluster(redis_binary):
    async with a_cluster(redis_binary) as cluster:
        yield cluster


@asynccontextmanager
async def a_backend(cluster):
    async with (
        cluster.client() as client,
        RedisStreamBackend(client=client, patience=timedelta(seconds=30)) as backend,
    ):
        yield backend


@pytest.mark.parametrize("law", TRANSPORT_LAWS)
async def test_a_cluster_keeps_every_law_of_a_transport(cluster, law):
    """Nothing that I rely on is different in a cluster."""
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
