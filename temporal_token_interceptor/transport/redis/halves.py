"""The parts of a backend: a client, and the halves that write and read, for one server or for a cluster."""

from __future__ import annotations

from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.transport.lifetime import OneLoop
from temporal_token_interceptor.transport.redis.cluster import FIRST_ENTRIES, ClusterQueries, ClusterWriter
from temporal_token_interceptor.transport.redis.connection import QueryConnection
from temporal_token_interceptor.transport.redis.grouped_questions import GroupedQueries
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.outage import Outage
from temporal_token_interceptor.transport.redis.polling import PollingFollower
from temporal_token_interceptor.transport.redis.reader import RedisReader
from temporal_token_interceptor.transport.redis.shared_read import BlockingFollower
from temporal_token_interceptor.transport.redis.writer import RedisWriter

# One XREAD waits this long, or most of the socket timeout of a client that was passed in: redis-py 8 gives
# up after 5 s by default.
_BLOCK_MS = 4_000
_CONNECT_SECONDS = 5.0
_MOST_OF_CLUSTER = 16  # questions at once, since redis-py bounds no reply of a cluster by its bytes
_BLOCK_SHARE = 0.8  # of a client's socket timeout


def halves_of_server(
    pool: ConnectionPool, keys: Keys, loop: OneLoop, *, maxlen: int, ttl: int, patience: float
) -> tuple[RedisWriter, RedisReader]:
    """Return what writes to one server, and what reads from it, over one pool."""
    outage = Outage()
    writer = RedisWriter(
        QueryConnection(pool, keeps=True), keys, outage, maxlen=maxlen, ttl=ttl, patience=patience
    )
    queries = GroupedQueries(QueryConnection(pool))
    follower = BlockingFollower(pool, queries, outage, block_ms=_block_ms(pool), patience=patience)
    return writer, RedisReader(queries, follower, keys, outage, loop, patience=patience)


def halves_of_cluster(
    client: RedisCluster, keys: Keys, loop: OneLoop, *, maxlen: int, ttl: int, patience: float
) -> tuple[ClusterWriter, RedisReader]:
    """Return what writes to a cluster, and what reads from it."""
    outage = Outage()
    writer = ClusterWriter(client, keys, outage, maxlen=maxlen, ttl=ttl, patience=patience)
    follower = PollingFollower(ClusterQueries(client), outage, patience=patience, first_entries=FIRST_ENTRIES)
    queries = GroupedQueries(ClusterQueries(client), most=_MOST_OF_CLUSTER)
    reader = RedisReader(
        queries, follower, keys, outage, loop, patience=patience, first_entries=FIRST_ENTRIES
    )
    return writer, reader


def connected(redis_url: str) -> Redis:
    """Return a client of one's own, which connects at its first use.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    # The writer and the reader try again by themselves, once for all streams and with one log line an
    # outage. Retries inside the client would hide an outage and store entries twice. They have their own
    # deadlines, too; a socket timeout of redis-py costs a task for each command. RESP2, because with RESP3
    # redis-py does not look whether a connection out of the pool is still alive.
    settings: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": _CONNECT_SECONDS,
    }
    try:
        client = Redis.from_url(redis_url, **settings)
        # Does not connect, but looks at what stands behind a `?` in the URL.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, RedisError) as error:
        # Neither the URL nor redis-py's message: they may hold a password.
        raise ConfigurationError(
            "redis_url cannot be used: it must look like redis://host:6379, rediss://host:6379 or "
            f"unix:///path, with options that redis-py knows ({type(error).__name__})"
        ) from None
    return client


def _block_ms(pool: ConnectionPool) -> int:
    # Not from the pool's settings: defaults stand nowhere but in the connection.
    timeout = pool.make_connection().socket_timeout  # type: ignore[no-untyped-call]
    return _BLOCK_MS if timeout is None else max(1, min(_BLOCK_MS, int(timeout * 1_000 * _BLOCK_SHARE)))
