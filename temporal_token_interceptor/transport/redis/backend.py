"""Redis Streams as a transport: tokens reach any number of readers, in any process, about as fast as Redis.

Needs Redis 6.2 or newer, or a server with its protocol. One connection for writing, two for reading, however
many streams and readers there are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from temporal_token_interceptor import environment
from temporal_token_interceptor._arguments import positive_duration, positive_number
from temporal_token_interceptor.errors import ConfigurationError, TransportUnavailable
from temporal_token_interceptor.events import TokenEvent
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry, EntrySource
from temporal_token_interceptor.transport.lifetime import OneLoop
from temporal_token_interceptor.transport.manual_publishing import HandPublisher, hand_stream, published
from temporal_token_interceptor.transport.redis.cluster import ClusterWriter
from temporal_token_interceptor.transport.redis.connection import entry_id, stored_time
from temporal_token_interceptor.transport.redis.examination import Answer, examine, location_of, unreachable
from temporal_token_interceptor.transport.redis.halves import connected, halves_of_cluster, halves_of_server
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.refusals import FAILURES, explained
from temporal_token_interceptor.transport.redis.writer import RedisWriter

_CONNECTIONS = 3
_KEEPS_PER_TTL = 3  # so that two may be missed
_TOO_MUCH = 2**31  # what Redis refuses is far above; so many seconds are 68 years
_DEFAULT_URL = "redis://localhost:6379"


class RedisStreamBackend:
    """Both halves of the Redis transport: pass it to a worker's interceptor and to a `TokenSubscriber`.

    A token costs a few bytes and, at load, a few microseconds; nothing connects before the first use.
    Use it on one event loop, as `async with`, or call `close` at the end.

    Args:
        redis_url: `redis://`, `rediss://` or `unix://`; by default `redis://localhost:6379`.
        channel_prefix: In front of every key. Writer and reader must agree.
        stream_maxlen: Entries that the stream of a run keeps, approximately; a reader that is further
            behind gets a `Gap`.
        stream_ttl_seconds: From the last sign of life of a run's activities to the expiry of its
            stream. It is refreshed by time while an activity streams, also when its model is silent.
        patience: How long readers wait for a Redis that does not answer, or refuses, before they get
            `TransportUnavailable`. Writers wait out a refusal as long, and an outage for as long as their
            activity runs: see docs/operations.md, What Redis refuses.
        client: Your own `redis.asyncio.Redis`, instead of a URL, with any settings (also one that a Sentinel
            made); its pool must have three connections to lend. Or a `RedisCluster`, which is polled: see
            docs/operations.md. It is not closed by `close`, and no URL may be passed beside it.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    system = "redis"
    """What telemetry calls this transport."""

    def __init__(
        self,
        redis_url: str = _DEFAULT_URL,
        channel_prefix: str = "tti:v1:",
        stream_maxlen: int = 10_000,
        stream_ttl_seconds: int = 3_600,
        *,
        patience: timedelta = timedelta(seconds=60),
        client: Redis | RedisCluster | None = None,
    ) -> None:
        for name, value in (("stream_maxlen", stream_maxlen), ("stream_ttl_seconds", stream_ttl_seconds)):
            positive_number(name, value, below=_TOO_MUCH)
        positive_duration("patience", patience)
        if not isinstance(channel_prefix, str) or not channel_prefix or {"{", "}"} & {*channel_prefix}:
            raise ConfigurationError(
                "channel_prefix must be a string that is not empty and has no braces (they mark a cluster's "
                f"hash tag), not {channel_prefix!r}"
            )
        if client is not None and not isinstance(client, Redis | RedisCluster):
            kind = f"{type(client).__module__}.{type(client).__qualname__}"
            raise ConfigurationError(f"client must be a redis.asyncio.Redis or RedisCluster, not a {kind}")
        if client is not None and redis_url != _DEFAULT_URL:
            raise ConfigurationError("redis_url and client cannot both be used: pass one of them")
        self._owns_client = client is None
        self._client = connected(redis_url) if client is None else client
        self._loop = OneLoop("RedisStreamBackend")
        self._keys = Keys(channel_prefix)
        self._ttl = stream_ttl_seconds
        self._by_hand = HandPublisher(self)
        self.keep_interval: timedelta = timedelta(seconds=stream_ttl_seconds / _KEEPS_PER_TTL)
        self._writer: RedisWriter | ClusterWriter
        if isinstance(self._client, RedisCluster):
            self._writer, self._reader = halves_of_cluster(
                self._client,
                self._keys,
                self._loop,
                maxlen=stream_maxlen,
                ttl=stream_ttl_seconds,
                patience=patience.total_seconds(),
            )
            return
        pool = self._client.connection_pool
        if pool.max_connections < _CONNECTIONS:
            raise ConfigurationError(
                f"{'redis_url' if client is None else 'client'} must allow {_CONNECTIONS} connections, "
                f"not max_connections={pool.max_connections}: one writes, one waits for entries, one asks"
            )
        self._writer, self._reader = halves_of_server(
            pool,
            self._keys,
            self._loop,
            maxlen=stream_maxlen,
            ttl=stream_ttl_seconds,
            patience=patience.total_seconds(),
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **more: Any) -> Self:
        """Return a backend as `REDIS_URL` and `TTI_*` describe it; see docs/operations.md.

        Args:
            environ: Instead of `os.environ`.
            more: Options that come before those of the environment, such as a `client` of a cluster.

        Raises:
            ConfigurationError: a variable cannot be used, or `REDIS_URL` is not set; the message names it.
        """
        environ = os.environ if environ is None else environ
        environment.warn_of_unknown(environ)
        if not environ.get("REDIS_URL") and not {"redis_url", "client"} & more.keys():
            raise ConfigurationError(
                "the environment variable REDIS_URL is not set: say where Redis is, such as "
                "REDIS_URL=redis://localhost:6379; or stream without Redis: TokenStreamingPlugin() on the "
                "worker, TokenSubscriber(client) for readers"
            )
        return environment.made(cls, environment.REDIS, environ, **more)

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once Redis has it. See `TokenSink.write`."""
        if self._loop.loop is not asyncio.get_running_loop():
            self._loop.check()
        await self._writer.write(stream, data)

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        """Append what a source has, each when it can be sent. See `FetchingSink`."""
        try:
            self._loop.check()
        except ConfigurationError as error:
            source.failed(error)
        else:
            self._writer.fetch_from(stream, source)

    def keep(self, stream: StreamKey) -> None:
        """Put the expiry of a stream off, and point its workflow to its run."""
        if self._loop.is_mine:  # else `write` raises; this never does
            self._writer.keep(stream)

    def hurry(self, stream: StreamKey) -> None:
        """Answer what is written to a stream as soon as Redis has it; see `HurriedSink`."""
        if self._loop.is_mine:
            self._writer.hurry(stream)

    def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come. See `TokenSource.read`."""
        return self._reader.read(stream, after)

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        self._loop.check()
        return await self._reader.last_id(stream)

    async def first_id(self, stream: StreamKey) -> str:
        """Return the id of the oldest entry that is still there, or an empty string."""
        self._loop.check()
        return await self._reader.first_id(stream)

    async def begun(self, stream: StreamKey) -> str:
        """Return the id of the first entry that the stream ever had; see `RememberingSource`."""
        self._loop.check()
        return await self._reader.begun(stream)

    async def store_positions(self, name: str, positions: str) -> None:
        """Keep positions under a name, as long as a stream; see `PositionStore`. Needs the right `set`."""
        self._loop.check()
        await self._reader.store_positions(name, positions, self._ttl)

    async def stored_positions(self, name: str) -> str | None:
        """Return what was stored under a name; None if it has expired."""
        self._loop.check()
        return await self._reader.stored_positions(name)

    async def caught_up(self) -> bool:
        """Wait until all that was stored before can be read; see `ReplicatedSource`. A cluster: no wait."""
        self._loop.check()
        return isinstance(self._client, RedisCluster) or await self._reader.caught_up()

    def stored_time(self, entry_id: str) -> datetime:
        """Return when Redis stored an entry, by its own clock; see `TimedSource`."""
        return stored_time(entry_id)

    @property
    def read_failures(self) -> int:
        """How often Redis could not be used so far, by any reader or writer of this backend."""
        return self._reader.failures

    @property
    def last_progress(self) -> float:
        """When bytes last came for a reader that catches up; see `TimedSource`."""
        return self._reader.last_progress

    async def newest_run(self, namespace: str, workflow_id: str) -> str | None:
        """Return the newest run of a workflow that wrote tokens."""
        self._loop.check()
        return await self._reader.newest_run(StreamKey(namespace, workflow_id, ""))

    # ------------------------------------------------------------------ by workflow id, as deepagent-temporal

    async def publish(self, workflow_id: str, event: TokenEvent | Mapping[str, Any]) -> None:
        """Store a token under a workflow id alone; return once stored, or after 5 s without success.

        For code that has a handler of its own, such as `TokenCapturingHandler`. With the interceptor on the
        worker it is not needed. What is lost is logged, and a gap to readers; nothing is raised. It is stored
        as plain JSON, also where the client has a payload codec.

        Raises:
            ConfigurationError: `workflow_id` is no string.
        """
        await self._by_hand.publish(workflow_id, event)

    async def publish_complete(self, workflow_id: str) -> None:
        """Store the end of what is published for a workflow: `subscribe` ends there."""
        await self._by_hand.complete(workflow_id)

    def subscribe(
        self, workflow_id: str, *, last_id: str = "0-0", block_ms: int | None = None
    ) -> AsyncGenerator[dict[str, str]]:
        """Iterate over what was published for a workflow, as flat mappings, up to `publish_complete`.

        It reads what `publish` stored, and waits for the end that `publish_complete` stores. What workers
        with the interceptor write, `TokenSubscriber` reads, and ends as Temporal does.

        Args:
            workflow_id: The workflow.
            last_id: An id of Redis: only what came after it.
            block_ms: Ignored: what comes is there at once.

        Raises:
            ConfigurationError: `workflow_id` is no string.
            InvalidCursor: `last_id` is no id of Redis.
            TransportUnavailable: Redis was away for longer than `patience`.
        """
        del block_ms
        return published(self, hand_stream(workflow_id), entry_id(last_id))

    async def cleanup(self, workflow_id: str) -> None:
        """Delete what was published for a workflow. Needs a right that neither workers nor readers need.

        Raises:
            TransportUnavailable: Redis did not take it; everything expires by itself.
        """
        self._loop.check()
        stream = hand_stream(workflow_id)
        self._by_hand.forget(workflow_id)
        try:
            keys = (self._keys.stream(stream), self._keys.begun(stream), self._keys.pointer(stream))
            for key in keys:  # two slots of a cluster
                await self._client.delete(key)
        except FAILURES as error:
            raise TransportUnavailable(
                f"the stream of workflow {workflow_id!r} could not be deleted ({explained(error)}); "
                "it expires by itself"
            ) from error

    @property
    def location(self) -> str:
        """Where Redis is, without user and password: for logs."""
        return location_of(self._client)

    async def check(self) -> str:
        """Return why Redis cannot be reached, and the fix; empty if it answers. Uses a new connection."""
        return await unreachable(self._client)

    def examine(self) -> AsyncIterator[Answer]:
        """Yield what an operator asks of this Redis: version, memory policy, rights; for `tti doctor`."""
        return examine(self._client, self._keys)

    # ------------------------------------------------------------------ its life

    async def close(self) -> None:
        """Let go of tasks and connections; those of your own client go back to its pool.

        Readers that are still open end with `TransportUnavailable`, writers with `TokenStreamError`: close it
        after the last of them.

        Raises:
            ConfigurationError: it was used on another event loop.
        """
        self._loop.check()
        try:
            await self._reader.close()
        finally:
            try:
                await self._writer.close()
            finally:
                if self._owns_client:
                    await self._client.aclose()

    async def __aenter__(self) -> Self:
        """Return itself: nothing connects before the first use."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    def __repr__(self) -> str:
        # Never the URL: it may hold a password.
        return f"<RedisStreamBackend {self._writer!r} {self._reader!r}>"
