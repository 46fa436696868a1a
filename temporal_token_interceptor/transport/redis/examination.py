"""Questions to a Redis that an operator asks: is it there, new enough, allowed, and will it keep the streams?

Everything is tried on keys of its own under the prefix, which expire within a minute; none is left behind.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.keys import Keys

_OLDEST = (6, 2)
_SECONDS = 60  # until what the rights were tried with expires
_UNREACHABLE_FIX = "start it, or correct REDIS_URL (host, port, password, TLS)"
_EVICTING = ("allkeys-", "volatile-")


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that was examined.

    Attributes:
        subject: What was looked at.
        verdict: `fine`, `doubtful` or `wrong`.
        finding: What was seen.
        fix: What to do; empty where nothing is to be done.
    """

    subject: str
    verdict: Literal["fine", "doubtful", "wrong"]
    finding: str
    fix: str = ""


def location_of(client: Redis | RedisCluster) -> str:
    """Return where a client connects to, without user and password."""
    if isinstance(client, RedisCluster):
        return "a cluster"
    found = client.connection_pool.connection_kwargs
    if path := found.get("path"):
        return f"unix://{path}"
    if "host" in found:
        return f"{found['host']}:{found.get('port', 6379)}"
    return f"{type(client.connection_pool).__name__}"


async def unreachable(client: Redis | RedisCluster) -> str:
    """Return why a server cannot be reached, and the fix; empty if it answers."""
    try:
        if isinstance(client, RedisCluster):
            await client.initialize()
        else:
            connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
            finally:
                await connection.disconnect()
    except (RedisError, OSError) as error:
        # Not the error's text: it may hold a password.
        return f"it does not answer ({type(error).__name__}); {_UNREACHABLE_FIX}"
    return ""


async def examine(client: Redis | RedisCluster, keys: Keys) -> AsyncIterator[Answer]:
    """Yield what was found, one answer for each subject; stops at a Redis that does not answer."""
    try:
        info: dict[str, Any] = await client.info()
    except ResponseError as error:
        yield Answer("Redis", "doubtful", f"refuses INFO ({type(error).__name__}); its version is unknown")
    except (RedisError, OSError) as error:
        yield Answer("Redis", "wrong", f"does not answer ({type(error).__name__})", _UNREACHABLE_FIX)
        return
    else:
        yield _version(info)
        yield _memory(info)
    for subject, attempt in _attempts(client, keys):
        yield await _tried(subject, attempt)


def _version(info: dict[str, Any]) -> Answer:
    version = str(info.get("redis_version", "0.0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        return Answer("Redis", "wrong", f"answers, version {version}", "use Redis 6.2 or newer")
    return Answer("Redis", "fine", f"answers, version {version}")


def _memory(info: dict[str, Any]) -> Answer:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit = int(info.get("maxmemory", 0))
    if limit and policy.startswith(_EVICTING):
        return Answer(
            "memory",
            "doubtful",
            f"evicts keys by {policy} when it reaches maxmemory: streams that still live may go",
            "set maxmemory-policy noeviction, and enough memory; see docs/operations.md",
        )
    return Answer("memory", "fine", f"{policy}, maxmemory {limit or 'unlimited'}")


def _attempts(client: Redis | RedisCluster, keys: Keys) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    stream = StreamKey("tti-doctor", secrets.token_hex(8), "run")
    key, pointer = keys.stream(stream), keys.pointer(stream)

    async def write() -> None:
        await client.expire(key, _SECONDS)  # first: where it is refused, no key is left that lasts
        await client.xadd(key, {"f": b"{}"}, maxlen=10, approximate=True)
        await client.expire(key, _SECONDS)

    async def point() -> None:
        await client.set(pointer, "run", ex=_SECONDS)

    async def read() -> None:
        await client.xread({key: "0-0"}, count=1)
        await client.xrange(key, count=1)
        await client.xrevrange(key, count=1)

    async def script() -> None:
        await client.eval("return redis.call('TTL', KEYS[1])", 1, key)

    return [
        ("right to write (XADD, EXPIRE)", write),
        ("right to name the newest run (SET)", point),
        ("right to read (XREAD, XRANGE)", read),
        ("right to run scripts (EVAL)", script),
    ]


async def _tried(subject: str, attempt: Callable[[], Awaitable[Any]]) -> Answer:
    try:
        await attempt()
    except ResponseError as error:
        # Workers may lack the rights of readers, and readers those of workers: both are set-ups that work.
        word = str(error).split(" ", 1)[0][:20]
        return Answer(
            subject,
            "doubtful",
            f"refused ({word})",
            "grant it if this side needs it; docs/operations.md lists the rights of workers and of readers",
        )
    except (RedisError, OSError) as error:
        return Answer(subject, "wrong", f"failed ({type(error).__name__})", "look at the log of Redis")
    return Answer(subject, "fine", "granted")
