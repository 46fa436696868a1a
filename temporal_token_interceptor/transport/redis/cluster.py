"""Redis Cluster: the same streams, spread over nodes by their hash tag.

redis-py's cluster client finds the node of a key and follows it when it moves. What a cluster does not do
costs something. A script may not touch two streams, so batches go by pipeline, one writer for each node, or a
node that is down would hold up the others. One `XREAD` may not name two streams, and a blocked one holds a
connection; so streams are not waited for but polled, in one pipeline for all of them, every
`_FIRST_PAUSE` seconds while entries come, up to `_LONGEST_PAUSE` while none do.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.connection import (
    ANSWER_SECONDS,
    cancellations,
    entries,
    server_id,
)
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.outage import Outage, Trouble, passes, refused
from temporal_token_interceptor.transport.redis.shared_read import PAGE, Follower
from temporal_token_interceptor.transport.redis.writer import RedisWriter

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.05


class ClusterWriter:
    """One group commit for each node.

    Args:
        client: Sends; finds the node of a key, and follows it.
        keys: Names the keys.
        outage: Is told when writing fails.
        maxlen: Entries that a stream keeps, approximately.
        ttl: Seconds from the last write or `keep` of a stream to its expiry.
    """

    def __init__(self, client: RedisCluster, keys: Keys, outage: Outage, *, maxlen: int, ttl: int) -> None:
        self._client = client
        self._keys = keys
        self._outage = outage
        self._maxlen = maxlen
        self._ttl = ttl
        self._writers: dict[str, RedisWriter] = {}
        self._closed = False

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once Redis has it. See `RedisWriter.write`."""
        if self._closed:
            raise TokenStreamError("the backend is closed: the entry was not stored")
        await self._writer_of(stream).write(stream, data)

    def keep(self, stream: StreamKey) -> None:
        """Put the expiry of a stream off, and point its workflow to its run."""
        if not self._closed:
            self._writer_of(stream).keep(stream)

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
        except RedisError:  # not connected yet, or no node has the slot
            node = None
        name = node.name if node else ""
        writer = self._writers.get(name)
        if writer is None:
            writer = self._writers[name] = RedisWriter(
                self._client, self._keys, self._outage, maxlen=self._maxlen, ttl=self._ttl, scripts=False
            )
        return writer


class ClusterDesk:
    """Asks one question at a time, of the node of its key."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._turn = asyncio.Lock()

    async def ask(self, command: str, /, *words: str | int) -> Any:
        """Return the reply, in the shape that a single server sends."""
        async with self._turn, asyncio.timeout(ANSWER_SECONDS):
            before = cancellations()
            reply = await self._client.execute_command(command, *words)
            if cancellations() > before:  # redis-py has lost one: see `redis_connection`
                raise asyncio.CancelledError
        return _as_sent(reply) if isinstance(reply, list) else reply

    async def silence(self) -> None:
        """Wait until the question under way is over."""
        async with self._turn:
            pass


class PollingFollower(Follower):
    """Asks for what is new in all streams, in one pipeline, again and again.

    Args:
        client: Asks.
        outage: Is told when reading fails.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
    """

    def __init__(self, client: RedisCluster, outage: Outage, *, patience: float) -> None:
        super().__init__(outage, patience=patience)
        self._client = client

    async def _serve(self, trouble: Trouble) -> None:
        pause = _FIRST_PAUSE
        while self._is_mine():
            feeds = self._feeds.copy()
            async with asyncio.timeout(ANSWER_SECONDS):
                replies = await self._ask(feeds)
            news = False
            for (key, feed), reply in zip(feeds.items(), replies, strict=True):
                if isinstance(reply, Exception):
                    if passes(reply):
                        raise reply
                    feed.end(refused(key, reply))
                elif batch := entries(_as_sent(reply)):
                    news = True
                    feed.publish(batch)
                self._remove_if_unheard(key, feed)
            trouble.over()
            pause = _FIRST_PAUSE if news else min(pause * 1.5, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _ask(self, feeds: dict[str, Any]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for key, feed in feeds.items():
                low = f"({server_id(feed.position)}" if feed.position else "-"
                pipe.execute_command("XRANGE", key, low, "+", "COUNT", PAGE)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies


def _as_sent(reply: list[Any]) -> list[Any]:
    """Undo what the client makes of the fields of an entry."""
    return [
        (entry_id, [part for pair in (fields or {}).items() for part in pair]) for entry_id, fields in reply
    ]
