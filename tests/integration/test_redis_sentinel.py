"""A Redis that Sentinel watches: my own client, and a failover in the middle of a stream."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.protocol.stream_key import StreamKey
from tests.support.cluster import free_ports, until

NAME = "tokens"


@asynccontextmanager
async def a_watched_redis(binary: str) -> AsyncIterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port of a sentinel, and the process of the master that it watches; there is a replica."""
    with tempfile.TemporaryDirectory(prefix="tti-sentinel-") as directory, ExitStack() as stack:

        def start(port: int, *options: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(  # noqa: S603 - our own binary
                [binary, *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        master, replica, sentinel = free_ports(3)
        first = start(master, "--save", "", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        start(replica, "--save", "", "--replicaof", "127.0.0.1", str(master))
        await until(lambda: says(replica, "master_link_status:up", "INFO", "replication"))
        configuration = Path(directory, "sentinel.conf")
        configuration.write_text(  # noqa: ASYNC240 - a few bytes
            f"sentinel monitor {NAME} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {NAME} 500\n"
            # A busy sentinel may find no good replica at first, and tries again after twice this time.
            f"sentinel failover-timeout {NAME} 1000\n"
        )
        start(sentinel, str(configuration), "--sentinel")
        await until(lambda: says(sentinel, "slaves=1", "INFO", "sentinel"))
        yield sentinel, first


async def says(port: int, expected: str, *command: str) -> bool:
    with suppress(RedisError, OSError):
        async with Redis(port=port, retry=None) as client:
            connection = await client.connection_pool.get_connection()
            await connection.send_command(*command)
            reply = await connection.read_response()
            await client.connection_pool.release(connection)
            return expected in reply.decode()
    return False


async def test_a_stream_goes_on_after_the_sentinel_has_promoted_the_replica(redis_binary):
    """I pass the client that Sentinel made; the master dies, and writer and reader find the new one."""
    async with a_watched_redis(redis_binary) as (port, master):
        sentinel = Sentinel([("127.0.0.1", port)])
        client = sentinel.master_for(NAME)
        stream = StreamKey("default", "sentinel", "run")
        async with client, RedisStreamBackend(client=client) as backend:
            entries = backend.read(stream)
            await backend.write(stream, b"before")
            assert [entry.data for entry in await anext(entries)] == [b"before"]

            master.kill()
            async with asyncio.timeout(30):
                await backend.write(stream, b"after")
                read = [entry.data for entry in await anext(entries)]
            await entries.aclose()

        assert read == [b"after"]
        for watcher in sentinel.sentinels:
            await watcher.aclose()
