"""A real Redis Cluster on loopback: three nodes that share the slots, and a replica of each."""

import asyncio
import random
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import RedisError

SLOTS = 16_384
MASTERS = 3


class Node:
    """One process, which a test may kill, and start again at the same address."""

    def __init__(self, binary: str, directory: Path, port: int) -> None:
        self.port = port
        self._binary = binary
        self._home = directory / str(self.port)
        self._home.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Node port={self.port} {'up' if self.is_up else 'down'}>"

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    def start(self) -> None:
        """Run; it answers a little later. What it knew of the cluster it finds in its directory."""
        # fmt: off
        self._process = subprocess.Popen(  # noqa: S603 - our own binary
            [
                self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._home),
                "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
                "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
            ],
            stdout=subprocess.DEVNULL,
        )
        # fmt: on

    def kill(self) -> None:
        """As a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def ask(self, *command: str | int) -> Any:
        """Send a command whose reply redis-py would parse; return the reply as it came."""
        async with Redis(port=self.port, retry=None) as client:
            connection = await client.connection_pool.get_connection()
            try:
                await connection.send_command(*command)
                return await connection.read_response()
            finally:
                await client.connection_pool.release(connection)

    async def says(self, expected: str, *command: str | int) -> bool:
        """Return whether the text of the reply has this in it; no reply has."""
        with suppress(RedisError, OSError):
            reply = await self.ask(*command)
            return expected in (reply.decode() if isinstance(reply, bytes) else str(reply))
        return False


class Cluster:
    """The nodes, and who of them has which slots.

    Attributes:
        turn: A fault that kills a node holds this until the node is back.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.turn = asyncio.Lock()

    def client(self, **options: Any) -> RedisCluster:
        """Return a client, to be closed, that finds the cluster by any node that is up."""
        up = [ClusterNode("127.0.0.1", node.port) for node in self.nodes if node.is_up]
        return RedisCluster(startup_nodes=up, **options)

    async def master_of(self, key: str) -> Node:
        """Return the node that has a key, as the others see it."""
        slot = key_slot(key.encode())
        return next(node for node, first, last in await self._slots() if first <= slot <= last)

    async def masters(self) -> list[Node]:
        """Return the nodes that have slots."""
        return list({node.port: node for node, *_ in await self._slots()}.values())

    async def replaced(self, dead: Node) -> None:
        """Wait until a replica has taken over what a dead node had, and all know."""
        for node in self._up():
            await until(partial(self._has_forgotten, node, dead))
            await until(partial(node.says, "cluster_state:ok", "CLUSTER", "INFO"))

    async def restart(self, dead: Node) -> None:
        """Let a node come back that was replaced: it is a replica now, and has what the master has."""
        dead.start()
        await until(partial(dead.says, "master_link_status:up", "INFO", "replication"))
        for node in self.nodes:
            await until(partial(node.says, "cluster_state:ok", "CLUSTER", "INFO"))

    async def _slots(self) -> list[tuple[Node, int, int]]:
        by_port = {node.port: node for node in self.nodes}
        return [
            (by_port[master[1]], first, last)
            for first, last, master, *_ in await self._up()[0].ask("CLUSTER", "SLOTS")
        ]

    async def _has_forgotten(self, node: Node, dead: Node) -> bool:
        with suppress(RedisError, OSError):
            return all(master[1] != dead.port for _, _, master, *_ in await node.ask("CLUSTER", "SLOTS"))
        return False

    def _up(self) -> list[Node]:
        return [node for node in self.nodes if node.is_up]


@asynccontextmanager
async def a_cluster(binary: str) -> AsyncIterator[Cluster]:
    """A cluster whose nodes agree on who has what, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="tti-cluster-") as directory, ExitStack() as stack:
        nodes = []
        for port in free_ports(2 * MASTERS):
            nodes.append(Node(binary, Path(directory), port))
            nodes[-1].start()
            stack.callback(nodes[-1].kill)
        for node in nodes:
            await until(partial(node.says, "PONG", "PING"))
        bounds = [SLOTS * place // MASTERS for place in range(MASTERS + 1)]
        for node, first, after in zip(nodes, bounds, bounds[1:], strict=False):
            await node.ask("CLUSTER", "ADDSLOTS", *range(first, after))
        for node in nodes[1:]:
            await node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for node in nodes:
            await until(partial(node.says, f"cluster_known_nodes:{len(nodes)}", "CLUSTER", "INFO"))
        for master, replica in zip(nodes, nodes[MASTERS:], strict=False):
            await replica.ask("CLUSTER", "REPLICATE", (await master.ask("CLUSTER", "MYID")).decode())
        for replica in nodes[MASTERS:]:
            await until(partial(replica.says, "master_link_status:up", "INFO", "replication"))
        for node in nodes:
            await until(partial(node.says, "cluster_state:ok", "CLUSTER", "INFO"))
        yield Cluster(nodes)


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, below those of outgoing connections. No two are the same."""
    # The nodes talk over port + 10,000, which must be free too.
    found: list[int] = []
    for port in random.sample(range(12_000, 20_000), 100):
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 10_000))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free loopback ports")
