"""Plain questions to Redis over connections of a redis-py pool, below redis-py's client.

The reading half needs what the client does not give: entries as bytes also where the user's client decodes,
one shape of reply whatever the client's `protocol` and `legacy_responses`, and a connection that is never
replaced behind our back by the client's own retries, because `CLIENT UNBLOCK` names it by number.

On a connection with a socket timeout, redis-py sends with `asyncio.wait_for`, and that of Python 3.11
swallows a cancellation that meets its result (https://github.com/python/cpython/issues/81839). A reader that
was cancelled just then would read on for ever. So here a swallowed cancellation is noticed and raised, and
whoever cancels redis-py's client says so until it is heard (`ended`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.keys import FIELD

ANSWER_SECONDS = 5.0
"""How long Redis may take to answer what does not block, a new connection included."""

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_FIELD = FIELD.encode()


class Desk:
    """Asks one question at a time, over one connection at most: however many readers catch up."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._turn = asyncio.Lock()

    async def ask(self, command: str, /, *words: str | int) -> Any:
        """Return the reply, its strings as bytes.

        Raises:
            RedisError: Redis refused, or could not be reached.
            TimeoutError: no answer in `ANSWER_SECONDS`.
        """
        async with self._turn, borrowed(self._pool) as connection:
            return await roundtrip(connection, command, *words)

    async def silence(self) -> None:
        """Wait until the question under way is over."""
        async with self._turn:
            pass


@asynccontextmanager
async def borrowed(pool: ConnectionPool) -> AsyncIterator[AbstractConnection]:
    """Lend a connected connection; one that was left in the middle of a reply redis-py has closed itself."""
    before = cancellations()
    async with asyncio.timeout(ANSWER_SECONDS):
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        if cancellations() > before:
            raise asyncio.CancelledError
        yield connection
    finally:
        await pool.release(connection)


async def roundtrip(connection: AbstractConnection, *command: str | int, blocks: float = 0) -> Any:
    """Send a command and return the reply, its strings as bytes.

    Args:
        connection: Nobody else may use it.
        command: The command's words.
        blocks: Seconds that the command itself may wait.
    """
    before = cancellations()
    async with asyncio.timeout(blocks + ANSWER_SECONDS):
        await connection.send_command(*command)
        if cancellations() > before:
            await connection.disconnect(nowait=True)  # its next reply would be that of this command
            raise asyncio.CancelledError
        return await connection.read_response(disable_decoding=True)


def cancellations() -> int:
    """Return how often the current task was told to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they are over: one cancellation may get lost in redis-py."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)


def streams(reply: Any) -> list[tuple[str, list[Entry]]]:
    """Read the reply of `XREAD`: a map in RESP3, pairs in RESP2, nothing after a timeout."""
    pairs = reply.items() if isinstance(reply, dict) else reply or ()
    return [(key.decode(), entries(raw)) for key, raw in pairs]


def entries(reply: list[Any]) -> list[Entry]:
    """Read the reply of `XRANGE`, or the part of a stream in the reply of `XREAD`."""
    return [Entry(_padded(raw_id.decode()), _data(fields)) for raw_id, fields in reply]


def server_id(entry_id: str) -> str:
    """Return an entry's id as Redis writes it.

    Raises:
        InvalidCursor: no entry of this transport has such an id.
    """
    if not _ID.fullmatch(entry_id):
        raise InvalidCursor(
            f"entry id {entry_id!r} is not one of a Redis stream: a cursor is only good for the transport "
            "that it came from; pass none to read from the start"
        )
    milliseconds, _, number = entry_id.partition("-")
    return f"{int(milliseconds)}-{int(number)}"


def entry_id(server_id: str) -> str:
    """Return an id of Redis as entries have it.

    Raises:
        InvalidCursor: it is none.
    """
    if not _ID.fullmatch(server_id):
        raise InvalidCursor(
            f"{server_id!r} is no id of a Redis stream: pass one like '1700000000000-0', or none"
        )
    return _padded(server_id)


def _padded(raw_id: str) -> str:
    """Pad an id of Redis, so that ids sort as strings."""
    milliseconds, _, number = raw_id.partition("-")
    return f"{milliseconds:>015}-{number:>010}"


def _data(fields: list[bytes] | None) -> bytes:
    if not fields:
        return b""
    if fields[0] == _FIELD:
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(_FIELD, b"")
