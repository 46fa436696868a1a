"""Large streams and slow links: pages bounded by bytes, deadlines by progress, memory by bytes."""

import asyncio
import logging
import os
import socket
import tracemalloc
from contextlib import aclosing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from temporal_token_interceptor import AttemptEnded, Gap, RedisStreamBackend, TokenEvent, TokenSubscriber
from temporal_token_interceptor.events import CallEnded, CallStarted, Frame, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.pages import PAGE_BYTES, PAGE_ENTRIES, REPLY_BYTES, PageSize
from tests.support.frames import a_call, an_origin
from tests.support.odd_redis import OddRedis
from tests.support.streams import unique

MB = 1024 * 1024
SLOW = 2 * MB  # bytes a second

pytestmark = pytest.mark.timeout(60)


def a_stream() -> StreamKey:
    return StreamKey("default", unique("slow-link"), "run")


@pytest.fixture
async def odd(redis_url):
    async with OddRedis().before(redis_url) as odd:
        yield odd


async def read(backend, stream, count):
    """The sizes of so many entries."""
    sizes = []
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            sizes += [len(entry.data) for entry in batch]
            if len(sizes) >= count:
                break
    return sizes


# ------------------------------------------------------------------ transfers that take seconds


async def a_large_stream(redis_url):
    """500 entries of 30 kB over 2 MB/s; returns their sizes, and how many bytes Redis has sent."""
    stream = a_stream()
    async with RedisStreamBackend(redis_url) as writer:
        for _ in range(500):
            await writer.write(stream, os.urandom(30_000))
    async with OddRedis().before(redis_url) as odd:
        odd.bytes_per_second = SLOW
        async with RedisStreamBackend(odd.url, patience=timedelta(seconds=2)) as reader:
            return await read(reader, stream, 500), odd.replied


async def many_readers(redis_url):
    """Eight readers of 30 entries of 30 kB over one link of 2 MB/s; returns what sizes each got."""
    stream, count = a_stream(), 30
    async with RedisStreamBackend(redis_url) as writer:
        for _ in range(count):
            await writer.write(stream, os.urandom(30_000))
    async with OddRedis().before(redis_url) as odd:
        odd.bytes_per_second = SLOW
        async with RedisStreamBackend(odd.url, patience=timedelta(seconds=1)) as reader:
            return await asyncio.gather(*(read(reader, stream, count) for _ in range(8)))


async def one_large_entry(redis_url):
    """One of 10 MB over 1.5 MB/s takes 7 s; returns its size."""
    stream = a_stream()
    async with RedisStreamBackend(redis_url) as writer:
        await writer.write(stream, b"x" * (10 * MB))
    async with OddRedis().before(redis_url) as odd:
        odd.bytes_per_second = 1.5 * MB
        async with RedisStreamBackend(odd.url, patience=timedelta(seconds=2)) as reader:
            return await read(reader, stream, 1)


async def one_large_entry_sent(redis_url):
    """One of 8 MB over 1 MB/s; returns the size of each that was stored."""
    stream = a_stream()
    async with SlowUplink(redis_url, MB) as url, RedisStreamBackend(url) as writer:
        await writer.write(stream, b"x" * (8 * MB))

    async with RedisStreamBackend(redis_url) as reader, Redis.from_url(redis_url) as redis:
        sizes = await read(reader, stream, 1)
        return sizes * await redis.xlen(f"tti:v1:{{{stream.name}}}")


async def the_end_of_a_closed_run(redis_url):
    """A late reader of a run that has closed gets a frame of 10 MB over 1.5 MB/s; returns its events."""
    origin = an_origin(workflow_id=unique("slow-end"))
    text = TextRun("text", 0, 0, ["x" * (10 * MB)], 1)
    records = (CallStarted(call=a_call()), text, CallEnded(call=a_call()))
    ended = (AttemptEnded(outcome="completed_provisional"),)
    async with RedisStreamBackend(redis_url) as writer:
        stream = StreamKey.of(origin)
        await writer.write(stream, encode(Frame(origin, 0, records, header=True)))
        await writer.write(stream, encode(Frame(origin, 1, ended, header=True)))
    async with OddRedis().before(redis_url) as odd:
        odd.bytes_per_second = 1.5 * MB
        async with RedisStreamBackend(odd.url, patience=timedelta(seconds=2)) as reader:
            closed = asyncio.get_running_loop().create_future()
            closed.set_result(None)
            reading = TokenSubscriber(None, reader).subscribe(origin.workflow_id, origin.run_id, until=closed)
            return [event async for event in reading]


TRANSFERS = [a_large_stream, many_readers, one_large_entry, one_large_entry_sent, the_end_of_a_closed_run]


class Warnings(logging.Handler):
    """Keeps the text of warnings: `caplog` is for one test, not for a module."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(scope="module")
def warnings():
    """The warnings of all transfers."""
    warnings, logger = Warnings(), logging.getLogger("temporal_token_interceptor")
    logger.addHandler(warnings)
    yield warnings.texts
    logger.removeHandler(warnings)


@pytest.fixture(scope="module")
async def transferred(redis_url, warnings):
    """Get what a transfer came to. All run at the same time, each over a link of its own: they only wait."""
    results = await asyncio.gather(*(transfer(redis_url) for transfer in TRANSFERS), return_exceptions=True)

    def result(transfer):
        found = results[TRANSFERS.index(transfer)]
        if isinstance(found, BaseException):
            raise found
        return found

    return result


def test_a_large_stream_comes_over_a_slow_link(transferred):
    """500 entries of 30 kB over 2 MB/s: all arrive, each once."""
    sizes, sent = transferred(a_large_stream)

    assert sizes == [30_000] * 500
    assert sent < 1.5 * sum(sizes)


def test_many_readers_wait_for_each_other_on_a_slow_link(transferred):
    """Who waits behind others that get their pages does not lose patience."""
    assert transferred(many_readers) == [[30_000] * 30] * 8


def test_one_entry_that_takes_longer_than_any_deadline_arrives(transferred):
    """An entry of 10 MB over 1.5 MB/s takes 7 s: bytes come all the time."""
    assert transferred(one_large_entry) == [10 * MB]


def test_a_large_entry_is_sent_over_a_slow_link(transferred):
    """What takes longer to send than any deadline is stored once: bytes go all the time."""
    assert transferred(one_large_entry_sent) == [8 * MB]


def test_a_closed_run_is_read_to_its_end_over_a_slow_link(transferred):
    """A reader that comes late gets a last frame that takes longer than any of its waits: no gap."""
    events = transferred(the_end_of_a_closed_run)

    assert [len(event.token) for event in events if isinstance(event, TokenEvent)] == [10 * MB]
    assert not [event for event in events if isinstance(event, Gap)]


def test_no_slow_link_is_logged_as_an_outage(transferred, warnings):
    """Bytes came all the time."""
    assert all(transferred(transfer) for transfer in TRANSFERS)
    assert warnings == []


# ------------------------------------------------------------------ large entries over a good link


@pytest.mark.parametrize("size", [100_000, 5 * MB])
async def test_live_entries_of_any_size_arrive(odd, size):
    """Large entries come while the reader follows, and before it did: each once."""
    stream, before, after = a_stream(), 4, 4
    async with RedisStreamBackend(odd.url) as backend:
        for _ in range(before):
            await backend.write(stream, b"x" * size)
        reading = asyncio.ensure_future(read(backend, stream, before + after))
        for _ in range(after):
            await backend.write(stream, b"x" * size)

        assert await reading == [size] * (before + after)


async def test_many_large_streams_at_once_arrive(odd, redis_client):
    """Ten streams get 2 MB each at once, behind one shared read: more than a reply may have."""
    streams = [a_stream() for _ in range(10)]
    async with RedisStreamBackend(odd.url) as backend:
        readers = [asyncio.ensure_future(read(backend, stream, 3)) for stream in streams]
        async with asyncio.timeout(5):
            while "10 listeners" not in repr(backend):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        async with redis_client.pipeline(transaction=True) as pipe:
            for stream in streams:
                for _ in range(3):
                    pipe.xadd(f"tti:v1:{{{stream.name}}}", {"f": b"x" * (2 * MB // 3)})
            await pipe.execute()

        assert await asyncio.gather(*readers) == [[2 * MB // 3] * 3] * 10


async def test_reading_takes_memory_by_bytes(redis_url):
    """100 entries of 2 MB take what a few of them have, not 200 MB."""
    stream, count, size = a_stream(), 100, 2 * MB
    async with (
        RedisStreamBackend(redis_url) as backend,
        Redis.from_url(redis_url) as redis,
        aclosing(backend.read(stream)) as batches,
    ):
        for _ in range(count):
            await redis.xadd(f"tti:v1:{{{stream.name}}}", {"f": b"x" * size})
        tracemalloc.start()
        try:
            read = 0
            async for batch in batches:
                read += len(batch)
                del batch
                if read >= count:
                    break
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await redis.delete(f"tti:v1:{{{stream.name}}}")

    print(f"peak {peak / MB:.0f} MB")  # noqa: T201
    assert peak < 8 * REPLY_BYTES


class SlowUplink:
    """Passes so many bytes a second from the client to Redis."""

    def __init__(self, redis_url, bytes_per_second):
        self._target = redis_url.removeprefix("redis://").split(":")
        self._rate = bytes_per_second
        self._tasks = set()

    async def __aenter__(self):
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # what has come is not on its way
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=65_536)
        return f"redis://127.0.0.1:{listening.getsockname()[1]}"

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        back_reader, back_writer = await asyncio.open_connection(*self._target)

        async def up():
            while data := await reader.read(65_536):
                await asyncio.sleep(len(data) / self._rate)
                back_writer.write(data)

        async def down():
            while data := await back_reader.read(65_536):
                writer.write(data)

        try:
            await asyncio.gather(up(), down())
        finally:
            writer.transport.abort()
            back_writer.transport.abort()


# ------------------------------------------------------------------ the size of a page, alone


@given(st.lists(st.integers(min_value=1, max_value=20 * MB), min_size=1, max_size=60))
def test_a_page_follows_the_size_of_entries(sizes):
    """Whatever sizes come: from 1 to 500 entries; and after any page, the next one fits by its average."""
    page = PageSize()
    for size in sizes:
        count = page.count
        if page.most_bytes is not None and count * size > page.most_bytes:
            page.too_large()
            assert page.count == 1
        else:
            page.received(count, count * size)
            assert page.count * size <= max(PAGE_BYTES, size)
        assert 1 <= page.count <= PAGE_ENTRIES


def test_small_entries_soon_come_in_whole_pages():
    """Of a long stream of small entries few pages are small."""
    page, pages = PageSize(), 0
    while page.count < PAGE_ENTRIES:
        page.received(page.count, page.count * 150)
        pages += 1

    assert pages <= 2
