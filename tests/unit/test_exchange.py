"""Deadlines by progress, and bounds of replies, for one command after the other over a connection."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest

from temporal_token_interceptor.transport.redis.progress import Exchange, ReplyTooLarge

SOON = 0.05  # seconds
LONG = 60.0

pytestmark = pytest.mark.timeout(30)


class Connection:
    """As much of a connection of redis-py as is watched."""

    def __init__(self, transport=None):
        self._writer = transport and SimpleNamespace(transport=transport)
        self.connect()

    def connect(self):
        self._reader = asyncio.StreamReader()

    def receive(self, data):
        self._reader.feed_data(data)

    async def reply(self, size):
        return await self._reader.readexactly(size)


@pytest.fixture
async def connection():
    return Connection()


@pytest.fixture
async def exchange(connection):
    exchange = Exchange()
    exchange.watch(connection)
    return exchange


async def test_a_command_without_an_answer_times_out(connection, exchange):
    with pytest.raises(TimeoutError), exchange.within(SOON):
        await connection.reply(1)
    assert asyncio.current_task().cancelling() == 0


async def test_each_byte_puts_the_deadline_off(connection, exchange):
    loop = asyncio.get_running_loop()
    for place in range(12):
        loop.call_later(place * 0.05, connection.receive, b".")
    begun = loop.time()
    with exchange.within(0.3):
        assert await connection.reply(12) == b"." * 12
    assert loop.time() - begun > 0.3
    assert exchange.last >= begun + 0.3


async def test_a_reply_that_is_too_large_is_given_up(connection, exchange):
    asyncio.get_running_loop().call_soon(connection.receive, b"four")
    with pytest.raises(ReplyTooLarge, match="more than 3 bytes"), exchange.within(LONG, 3):
        await connection.reply(100)
    assert asyncio.current_task().cancelling() == 0


async def test_a_reply_may_have_as_many_bytes_as_the_bound_says_each_time(connection, exchange):
    loop = asyncio.get_running_loop()
    for _ in range(3):
        with exchange.within(LONG, 4):
            loop.call_soon(connection.receive, b"four")
            assert await connection.reply(4) == b"four"


async def test_every_command_has_a_deadline_of_its_own(connection, exchange):
    loop = asyncio.get_running_loop()
    connection.receive(b"..")
    for seconds in (LONG, 0.2):
        with exchange.within(seconds):
            await connection.reply(1)
    begun = loop.time()
    with pytest.raises(TimeoutError), exchange.within(0.3):  # while the timer of the one before still runs
        await connection.reply(1)
    assert loop.time() - begun >= 0.29
    with pytest.raises(TimeoutError), exchange.within(SOON):
        await connection.reply(1)


async def test_who_is_cancelled_from_outside_stays_cancelled(connection, exchange):
    async def ask():
        with exchange.within(LONG, 3):
            await connection.reply(100)

    for too_large in (False, True):
        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        if too_large:
            connection.receive(b"four")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_comes_between_two_commands_ends_nothing(connection, exchange):
    with exchange.within(SOON, 1):
        pass
    connection.receive(b"late")
    with suppress(TimeoutError):
        async with asyncio.timeout(3 * SOON):
            await asyncio.Event().wait()
    assert asyncio.current_task().cancelling() == 0
    with exchange.within(LONG, 1):
        assert await connection.reply(4) == b"late"


async def test_a_connection_that_connects_again_is_watched_again(connection, exchange):
    before = connection._reader
    connection.connect()
    exchange.watch(connection)
    asyncio.get_running_loop().call_soon(connection.receive, b"four")
    with pytest.raises(ReplyTooLarge), exchange.within(LONG, 3):
        await connection.reply(100)
    assert "feed_data" not in vars(before)


async def test_a_connection_that_was_cut_has_a_deadline_all_the_same(exchange):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert writer.get_extra_info("socket").fileno() == -1
    connection = Connection(writer.transport)
    exchange.watch(connection)
    with pytest.raises(TimeoutError), exchange.within(SOON):
        await connection.reply(1)


async def test_connections_are_left_as_they_were(connection, exchange):
    with exchange.within(LONG):
        pass
    exchange.leave()
    assert "feed_data" not in vars(connection._reader)
    before = exchange.last
    connection.receive(b"more")
    assert exchange.last == before


async def test_two_do_not_count_the_same_bytes(connection, exchange):
    other = Exchange()
    other.watch(connection)
    connection.receive(b"four")
    assert exchange.last > 0
    assert other.last == 0
    other.leave()
    connection.receive(b"five")
    assert await connection.reply(8) == b"fourfive"
