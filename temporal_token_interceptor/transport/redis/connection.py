"""Plain questions to Redis over connections of a redis-py pool, below redis-py's client.

Both halves need what the client does not give: entries as bytes also where the user's client decodes, one
shape of reply whatever the client's `protocol` and `legacy_responses`, deadlines by progress, replies that
are given up when they grow too large, and a connection that is never replaced by the client's own retries,
because `CLIENT UNBLOCK` names it by number.

On a connection with a socket timeout, redis-py sends with `asyncio.wait_for`, and that of Python 3.11
swallows a cancellation that meets its result (https://github.com/python/cpython/issues/81839). A reader that
was cancelled just then would never end. So here a swallowed cancellation is noticed and raised, and tasks
that use redis-py's client are cancelled again until they end (`ended`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.keys import FIELD
from temporal_token_interceptor.transport.redis.packing import Command, packed
from temporal_token_interceptor.transport.redis.progress import Exchange

ANSWER_SECONDS: Final = 5.0
"""How long Redis may let nothing be received or sent of what does not block, a new connection included."""

# For a client with a socket timeout, which would bound a whole reply. redis-py takes no "none" here.
_NO_TIMEOUT: Final = 86_400.0

# As Redis writes an id; and as entries have it: a number that is too long for its zeros has a letter before.
_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_ENTRY_ID = re.compile(r"z?([0-9]{1,20})-z?([0-9]{1,20})")
_WIDTHS: Final = (15, 10)  # of both numbers: to the year 33658, and entries of one millisecond
_USUAL_ID = re.compile(r"(?=.{15}-)0{0,14}([0-9]+)-0{0,9}([0-9]+)")
_USUAL_LENGTH: Final = sum(_WIDTHS) + 1
_LONGEST: Final = 20
_MOST: Final = 2**64
_FIELD = FIELD.encode()


class Queries(Protocol):
    """Answers questions: `QueryConnection`, or its counterpart for a cluster."""

    @property
    def last_progress(self) -> float:  # pyright: ignore[reportReturnType] - a property of a protocol
        """When bytes last came or went, on the loop's clock; 0 if none did."""
        ...

    async def ask(self, *command: str | int | bytes, at_most: int | None = None) -> Any:
        """Return the reply, its strings as bytes.

        Raises:
            FAILURES: Redis refused, or could not be reached.
            ReplyTooLarge: it has more bytes than `at_most`.
        """
        ...

    async def ask_many(self, commands: Sequence[Command], *, at_most: int | None = None) -> list[Any]:
        """Return the reply to each command, or the error in its place.

        Raises:
            FAILURES: Redis could not be reached.
            ReplyTooLarge: the replies have more bytes than `at_most`, together.
        """
        ...

    async def silence(self) -> None:
        """Wait until the question under way is over."""
        ...

    async def reconnect(self) -> None:
        """Let go of connections that may lead to a server that is no longer the primary."""
        ...


class QueryConnection:
    """Asks one question at a time, over one connection at most, however many readers catch up.

    Args:
        pool: Lends the connection.
        keeps: Whether to keep it from one question to the next, until `silence`: to borrow it and to give it
            back costs 20 us.
    """

    def __init__(self, pool: ConnectionPool, *, keeps: bool = False) -> None:
        self._pool = pool
        self._keeps = keeps
        self._kept: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._exchange = Exchange()

    @property
    def last_progress(self) -> float:
        """When bytes last came or went, on the loop's clock; 0 if none did."""
        return self._exchange.last

    async def ask(self, *command: str | int | bytes, at_most: int | None = None) -> Any:
        """Return the reply. See `Queries.ask`."""
        async with self._turn:
            with self._exchange.within(ANSWER_SECONDS, at_most):
                before = cancellations()
                connection = await self._begin()
                try:
                    await _send(connection, packed(connection, (command,)), before)
                    return await _receive(connection)
                finally:
                    await self._end(connection)

    async def ask_many(self, commands: Sequence[Command], *, at_most: int | None = None) -> list[Any]:
        """Return the reply to each command, or the error in its place. See `Queries.ask_many`."""
        replies: list[Any] = []
        async with self._turn:
            with self._exchange.within(ANSWER_SECONDS, at_most):
                before = cancellations()
                connection = await self._begin()
                try:
                    await _send(connection, packed(connection, commands), before)
                    for _ in commands:
                        try:
                            replies.append(await _receive(connection))
                        except ResponseError as error:
                            replies.append(error)
                finally:
                    await self._end(connection)
        return replies

    async def silence(self) -> None:
        """Wait until the question under way is over; give the connection back."""
        async with self._turn:
            await self._give_back()

    async def reconnect(self) -> None:
        """Let go of idle connections, and of the kept one."""
        async with self._turn:
            if self._kept is not None:
                await self._kept.disconnect(nowait=True)
            await self._give_back()
        await self._pool.disconnect(inuse_connections=False)

    async def _begin(self) -> AbstractConnection:
        """Return a connected connection; redis-py closes one that is left in the middle of a reply."""
        connection = self._kept
        if connection is not None and (
            not connection.is_connected
            or connection.should_reconnect()  # type: ignore[no-untyped-call]
            or await connection.can_read()
        ):
            # Closed by the server, or about to be: the pool opens another one.
            await connection.disconnect(nowait=True)
            await self._give_back()
            connection = None
        if connection is None:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            self._kept = connection if self._keeps else None
        self._exchange.watch(connection)
        return connection

    async def _end(self, connection: AbstractConnection) -> None:
        if not self._keeps:
            self._exchange.leave()
            await self._pool.release(connection)
        elif not connection.is_connected:  # it failed
            await self._give_back()

    async def _give_back(self) -> None:
        connection, self._kept = self._kept, None
        self._exchange.leave()
        if connection is not None:
            await self._pool.release(connection)


class Line:
    """A connected connection, which the owner uses alone: for one command after the other.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._exchange = Exchange()

    async def ask(self, *command: str | int | bytes, blocks: float = 0, at_most: int | None = None) -> Any:
        """Send a command and return the reply, its strings as bytes.

        Args:
            command: The command's words.
            blocks: Seconds that the command itself may wait.
            at_most: Bytes that the reply may have; None for any number.

        Raises:
            FAILURES: Redis refused, or nothing was received or sent for `ANSWER_SECONDS`.
            ReplyTooLarge: the reply has more bytes; the connection is closed.
        """
        with self._exchange.within(blocks + ANSWER_SECONDS, at_most):
            self._exchange.watch(self._connection)
            await _send(self._connection, packed(self._connection, (command,)), cancellations())
            return await _receive(self._connection)

    def leave(self) -> None:
        """Leave the connection as it was."""
        self._exchange.leave()


@asynccontextmanager
async def borrowed(pool: ConnectionPool) -> AsyncIterator[Line]:
    """Lend a connected connection."""
    before = cancellations()
    async with asyncio.timeout(ANSWER_SECONDS):
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    line = Line(connection)
    try:
        if cancellations() > before:
            raise asyncio.CancelledError
        yield line
    finally:
        line.leave()
        await pool.release(connection)


async def _send(connection: AbstractConnection, command: list[bytes], before: int) -> None:
    """Send a command; raise a cancellation that redis-py has lost since there were so many."""
    await connection.send_packed_command(command)
    if cancellations() > before:
        await connection.disconnect(nowait=True)  # its next reply would be that of this command
        raise asyncio.CancelledError


async def _receive(connection: AbstractConnection) -> Any:
    timeout = None if connection.socket_timeout is None else _NO_TIMEOUT
    return await connection.read_response(disable_decoding=True, timeout=timeout)


def cancellations() -> int:
    """Return how often the current task was cancelled."""
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


def range_after(key: str, position: str, count: int, until: str = "") -> Command:
    """Return the command for so many entries after a position, up to another one."""
    low = f"({server_id(position)}" if position else "-"
    return ("XRANGE", key, low, server_id(until) if until else "+", "COUNT", count)


def server_id(entry_id: str) -> str:
    """Return an entry's id as Redis writes it.

    Raises:
        InvalidCursor: no entry of this transport has such an id.
    """
    # Nearly all are as long as this; a shared read asks for each of its streams.
    if len(entry_id) == _USUAL_LENGTH and (usual := _USUAL_ID.fullmatch(entry_id)):
        return f"{usual[1]}-{usual[2]}"
    if (numbers := _numbers(_ENTRY_ID, entry_id)) is None:
        raise InvalidCursor(
            f"entry id {entry_id!r} is not one of a Redis stream: a cursor is only good for the transport "
            "that it came from; pass none to read from the start"
        )
    return f"{numbers[0]}-{numbers[1]}"


def stored_time(entry_id: str) -> datetime:
    """Return the time that an entry's id shows: the last one that there is, where a writer made it up.

    Raises:
        InvalidCursor: no entry of this transport has such an id.
    """
    milliseconds = int(server_id(entry_id).partition("-")[0])
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _DOOMSDAY


_EPOCH = datetime.fromtimestamp(0, UTC)
_DOOMSDAY = datetime.max.replace(tzinfo=UTC)


def entry_id(server_id: str) -> str:
    """Return an id of Redis as entries have it.

    Raises:
        InvalidCursor: it is none.
    """
    if _numbers(_ID, server_id) is None:
        raise InvalidCursor(
            f"{server_id!r} is no id of a Redis stream: pass one like '1700000000000-0', or none"
        )
    return _padded(server_id)


def _numbers(form: re.Pattern[str], text: str) -> tuple[int, int] | None:
    """Return the two numbers of an id; None if it is none, or if Redis refuses numbers as large."""
    match = form.fullmatch(text)
    numbers = (int(match[1]), int(match[2])) if match else None
    return None if numbers is None or max(numbers) >= _MOST else numbers


def _padded(raw_id: str) -> str:
    """Pad an id of Redis, so that ids sort as strings, also those that a writer made up."""
    milliseconds, _, number = raw_id.partition("-")
    if len(milliseconds) > _WIDTHS[0]:
        milliseconds = f"z{milliseconds.zfill(_LONGEST)}"
    if len(number) > _WIDTHS[1]:
        number = f"z{number.zfill(_LONGEST)}"
    return f"{milliseconds.zfill(_WIDTHS[0])}-{number.zfill(_WIDTHS[1])}"


def _data(fields: list[bytes] | None) -> bytes:
    if not fields:
        return b""
    if fields[0] == _FIELD:
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(_FIELD, b"")
