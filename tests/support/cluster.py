"""A real Redis Cluster on loopback: three nodes that share the slots, and a replica of the first."""

import asyncio
import random
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

SLOTS = 16_384


class Node:
    """One process, which a test may kill."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.port = free_port()
        home = directory / str(self.port)
        home.mkdir()
        # fmt: off
        self.process = subprocess.Popen(  # noqa: S603 - our own binary
            [
                binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(home),
                "--save", "", "--appendonly", "no",
                "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
            ],
            stdout=subprocess.DEVNULL,
        )
        # fmt: on

    async def raw(self, *command: str | int) -> str:
        """Send a command whose reply redis-py would parse; return it as it is."""
        async with Redis(port=self.port, retry=None) as client:
            connection = await client.connection_pool.get_connection()
            try:
                await connection.send_command(*command)
                reply = await connection.read_response()
            finally:
                await client.connection_pool.release(connection)
            return reply.decode() if isinstance(reply, bytes) else str(reply)

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def a_cluster(binary: str) -> AsyncIterator[list[Node]]:
    """Three masters and, last, a replica of the first, agreed on who has what."""
    with tempfile.TemporaryDirectory(prefix="tti-cluster-") as directory, ExitStack() as stack:
        nodes = []
        for _ in range(4):
            nodes.append(Node(binary, Path(directory)))
            stack.callback(nodes[-1].kill)
        for node in nodes:
            await until(partial(_says, node, "PONG", "PING"))
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for place, node in enumerate(nodes[:3]):
            await node.raw("CLUSTER", "ADDSLOTS", *range(bounds[place], bounds[place + 1]))
        for node in nodes[1:]:
            await node.raw("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for node in nodes:
            await until(partial(_says, node, "cluster_known_nodes:4", "CLUSTER", "INFO"))
        await nodes[3].raw("CLUSTER", "REPLICATE", await nodes[0].raw("CLUSTER", "MYID"))
        await until(partial(_says, nodes[3], "master_link_status:up", "INFO", "replication"))
        for node in nodes:
            await until(partial(_says, node, "cluster_state:ok", "CLUSTER", "INFO"))
        yield nodes


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


async def _says(node: Node, expected: str, *command: str) -> bool:
    with suppress(RedisError, OSError):
        return expected in await node.raw(*command)
    return False


def free_port() -> int:
    """Return a port that nobody uses now, below those of outgoing connections."""
    # The nodes talk over port + 10,000, which must be free too.
    for port in random.sample(range(12_000, 20_000), 100):
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 10_000))
            return port
    raise RuntimeError("no free loopback ports")
