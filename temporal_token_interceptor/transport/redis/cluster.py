"""Redis Cluster: the same streams, spread over nodes by their hash tag.

redis-py's cluster client finds the node of a key and follows it when it moves. What a cluster does not do
costs something. A script may not touch two streams, so batches go by pipeline, one writer for each node, or
a node that is down would hold up the others. And streams are polled (`polling`), in one pipeline for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.client import NEVER_DECODE

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import EntrySource
from temporal_token_interceptor.transport.lifetime import closed_error
from temporal_token_interceptor.transport.redis.connection import ANSWER_SECONDS, cancellations
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.outage import Outage
from temporal_token_interceptor.transport.redis.packing import Command
from temporal_token_interceptor.transport.redis.progress import Exchange
from temporal_token_interceptor.transport.redis.refusals import FAILURES
from temporal_token_interceptor.transport.redis.writer import RedisWriter

FIRST_ENTRIES: Final = 10
"""The entries of the first page at a cluster, where a reply that grows too large cannot be given up."""

# The commands whose replies the cluster client changes.
_RANGES: Final = ("XRANGE", "XREVRANGE")


class ClusterWriter:
    """One group commit for each node.

    Args:
        client: Sends; finds the node of a key, and follows it.
        keys: Names the keys.
        outage: Notes when writing fails.
        maxlen: Entries that a stream keeps, approximately.
        ttl: Seconds from the last write or `keep` of a stream to its expiry.
        patience: Seconds that a refusal is waited out.
    """

    def __init__(
        self, client: RedisCluster, keys: Keys, outage: Outage, *, maxlen: int, ttl: int, patience: float
    ) -> None:
        self._client = client
        self._keys = keys
        self._outage = outage
        self._maxlen = maxlen
        self._ttl = ttl
        self._patience = patience
        self._writers: dict[str, RedisWriter] = {}
        self._closed = False

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once Redis has it. See `RedisWriter.write`."""
        if self._closed:
            raise closed_error()
        await self._writer_of(stream).write(stream, data)

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        """Append what a source has, each when it can be sent. See `RedisWriter.fetch_from`."""
        if self._closed:
            source.failed(closed_error())
        else:
            self._writer_of(stream).fetch_from(stream, source)

    def keep(self, stream: StreamKey) -> None:
        """Put the expiry of a stream off, and point its workflow to its run."""
        if not self._closed:
            self._writer_of(stream).keep(stream)

    def hurry(self, stream: StreamKey) -> None:
        """Answer what is written to a stream at once; see `HurriedSink`."""
        for writer in list(self._writers.values()):  # it may have had another node, and get one more
            writer.hurry(stream)

    async def close(self) -> None:
        """Stop all writers. Closing twice is fine."""
        self._closed = True
        for writer in self._writers.values():
            await writer.close()

    def __repr__(self) -> str:
        return f"<ClusterWriter of {len(self._writers)} nodes>"

    def _writer_of(self, stream: StreamKey) -> RedisWriter:
        try:
            node = self._client.get_node_from_key(self._keys.stream(stream))
        except FAILURES:  # not connected yet, or no node has the slot
            node = None
        name = node.name if node else ""
        writer = self._writers.get(name)
        if writer is None:
            writer = self._writers[name] = RedisWriter(
                ClusterQueries(self._client, one_at_a_time=False),
                self._keys,
                self._outage,
                maxlen=self._maxlen,
                ttl=self._ttl,
                patience=self._patience,
                scripts=False,
                go_on=self.fetch_from,  # a stream may have another node by then
            )
        return writer


class ClusterQueries:
    """Asks the node of each key. See `Queries`.

    Args:
        client: Finds the nodes.
        one_at_a_time: Whether one question waits for the other: then it takes one connection at each node.
    """

    def __init__(self, client: RedisCluster, *, one_at_a_time: bool = True) -> None:
        self._client = client
        self._turn = asyncio.Lock() if one_at_a_time else None
        self._exchange = Exchange()  # the last one

    @property
    def last_progress(self) -> float:
        """When bytes last came or went, on the loop's clock; 0 if none did."""
        return self._exchange.last

    async def ask(self, *command: str | int | bytes, at_most: int | None = None) -> Any:
        """Return the reply, in the shape that a single server sends; `at_most` is not observed."""
        del at_most
        async with AsyncExitStack() as stack:
            await self._begin(stack)
            reply = await self._client.execute_command(*command, **_raw(command))
        return _as_sent(command, reply)

    async def ask_many(self, commands: Sequence[Command], *, at_most: int | None = None) -> list[Any]:
        """Return the reply to each command, or the error in its place; `at_most` is not observed."""
        del at_most
        async with AsyncExitStack() as stack:
            await self._begin(stack)
            pipe: Any = self._client.pipeline(transaction=False)
            await stack.enter_async_context(pipe)
            for command in commands:
                pipe.execute_command(*command, **_raw(command))
            replies = await pipe.execute(raise_on_error=False)
        return [_as_sent(command, reply) for command, reply in zip(commands, replies, strict=True)]

    async def silence(self) -> None:
        """Wait until the question under way is over."""
        if self._turn is not None:
            async with self._turn:
                pass

    async def reconnect(self) -> None:
        """Have the client ask for the topology again when it is used next."""
        await self._client.aclose()

    async def _begin(self, stack: AsyncExitStack) -> None:
        """Wait for our turn, and bound what follows: by progress, over the connections that there are."""
        if self._turn is not None:
            await stack.enter_async_context(self._turn)
        before = cancellations()
        stack.callback(_raise_lost_cancellation, before)
        exchange = Exchange()
        stack.callback(exchange.leave)
        stack.enter_context(exchange.within(ANSWER_SECONDS))
        for node in self._client.get_nodes():
            for connection in getattr(node, "_connections", ()):
                exchange.watch(connection)
        exchange.last, self._exchange = self._exchange.last, exchange


def _raise_lost_cancellation(before: int) -> None:
    if cancellations() > before:  # redis-py has lost one: see `connection`
        raise asyncio.CancelledError


def _raw(command: Command) -> dict[str, Any]:
    """Have entries stay bytes, also where the user's client decodes."""
    return {NEVER_DECODE: True} if command[0] in _RANGES else {}


def _as_sent(command: Command, reply: Any) -> Any:
    """Undo what the client makes of entries."""
    if command[0] not in _RANGES or not isinstance(reply, list):
        return reply
    return [
        (_bytes(entry_id), [_bytes(part) for pair in (fields or {}).items() for part in pair])
        for entry_id, fields in reply
    ]


def _bytes(part: bytes | str) -> bytes:
    # A command that was redirected comes back as the user's client decodes it.
    return part.encode() if isinstance(part, str) else part
