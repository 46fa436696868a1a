"""A backend's life: one event loop, eager tasks, and readers of a backend that is closed."""

import asyncio
import re
from contextlib import aclosing
from datetime import timedelta

import pytest

from temporal_token_interceptor import (
    ConfigurationError,
    RedisStreamBackend,
    TokenStreamError,
    TokenSubscriber,
    TransportUnavailable,
)
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from temporal_token_interceptor.transport.memory import MemoryStreamBackend
from temporal_token_interceptor.worker.fetched_session import session_to
from tests.support.eager import eager_tasks
from tests.support.fetching import write_by_fetching
from tests.support.frames import a_call, an_origin
from tests.support.streams import unique


def a_stream() -> StreamKey:
    return StreamKey("default", unique("loop"), "run")


@pytest.fixture(params=["redis", "fetching redis", "memory"])
def make(request, monkeypatch):
    if request.param == "memory":
        return MemoryStreamBackend
    if request.param == "fetching redis":
        monkeypatch.setattr(RedisStreamBackend, "write", write_by_fetching)
    url = request.getfixturevalue("redis_url")
    return lambda: RedisStreamBackend(url)


def test_a_second_loop_is_named(make):
    """I call asyncio.run twice with one backend: I am told the rule, and not that some loop is closed."""
    stream, backend = a_stream(), make()

    async def first():
        await backend.write(stream, b"entry")
        if isinstance(backend, RedisStreamBackend):
            await backend._client.aclose()  # no socket may outlive its loop

    async def second():
        backend.keep(stream)  # it never raises
        for use in (
            backend.write(stream, b"entry"),
            backend.last_id(stream),
            backend.newest_run("default", "workflow"),
            _first_batch(backend, stream),
            backend.close(),
        ):
            with pytest.raises(ConfigurationError, match=r"one loop: .* that is closed"):
                await use

    asyncio.run(first())
    asyncio.run(second())


async def test_a_loop_of_another_thread_is_named(make):
    """A thread with a loop of its own cannot use the backend of the first."""
    stream = a_stream()
    async with make() as backend:
        await backend.write(stream, b"entry")

        def elsewhere():
            asyncio.run(backend.write(stream, b"entry"))

        with pytest.raises(ConfigurationError, match=r"one loop: .*which still runs"):
            await asyncio.to_thread(elsewhere)
        assert [entry.data for entry in await _first_batch(backend, stream)] == [b"entry"]


async def test_a_closed_backend_says_who_closes_it(make):
    """After `close` a writer learns what closed it."""
    backend = make()
    await backend.close()

    with pytest.raises(TokenStreamError, match=r"closed by `close`, .* or by the plugin"):
        await backend.write(a_stream(), b"entry")


def test_eager_tasks_keep_the_laws(make):
    """With `asyncio.eager_task_factory`, a task runs before its creator knows it: everything still works."""

    async def check(law):
        with eager_tasks():
            await check_transport(make, laws=[law])

    for law in TRANSPORT_LAWS:
        asyncio.run(check(law))


def test_eager_readers_that_come_and_go_are_served(redis_url):
    """The shared read ends with its last reader, and begins again with the next: also eagerly."""

    async def check():
        with eager_tasks():
            await come_and_go()

    async def come_and_go():
        async with RedisStreamBackend(redis_url) as backend:
            for _ in range(20):
                stream = a_stream()
                reading = asyncio.ensure_future(_read(backend, stream, 3))
                for number in range(3):
                    await backend.write(stream, b"%d" % number)
                    await asyncio.sleep(0.002)
                async with asyncio.timeout(5):
                    assert await reading == [b"0", b"1", b"2"]

    asyncio.run(check())


async def test_eager_sessions_share_one_writer(redis_url):
    """What a session asks of its backend while it is fetched begins no second batch beside the first."""
    stream = a_stream()
    origin = an_origin(workflow_id=stream.workflow_id, run_id=stream.run_id)
    with eager_tasks():
        async with (
            RedisStreamBackend(redis_url) as backend,
            session_to(origin, backend, budget=Budget(2**20), flush_timeout=timedelta(seconds=10)) as session,
        ):
            for place in range(20):
                session.buffer.put_text(a_call(), "text", place, "token ")
                writers = [task for task in asyncio.all_tasks() if task.get_name() == "token-stream-writer"]
                assert len(writers) <= 1
                await asyncio.sleep(0)
            await session.finish("completed_provisional")
            last = await backend.last_id(stream)
            entries = [entry async for entry in _up_to(backend, stream, last)]

    assert [decode(entry.data).seq for entry in entries] == list(range(len(entries)))
    assert session.statistics.undelivered == 0


async def test_the_eager_factory_of_these_tests_is_eager():
    """The first step of a task runs within `create_task`, as the task that it is."""
    steps = []

    async def work():
        steps.append(asyncio.current_task())
        await asyncio.sleep(0)
        steps.append(asyncio.current_task())
        return "done"

    me = asyncio.current_task()
    with eager_tasks():
        task = asyncio.get_running_loop().create_task(work())
        assert steps == [task]
        assert asyncio.current_task() is me
        assert await task == "done"
        assert steps == [task, task]


async def _up_to(backend, stream, last):
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            for entry in batch:
                yield entry
                if entry.id == last:
                    return


async def _first_batch(backend, stream):
    async with aclosing(backend.read(stream)) as batches:
        return await anext(batches)


async def _read(backend, stream, count):
    data = []
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            data += [entry.data for entry in batch]
            if len(data) >= count:
                break
    return data


async def test_a_reader_learns_that_its_backend_was_closed_by_a_plugin(make):
    """I gave one backend to the worker's plugin and to my reader: once the worker stops, I am told why."""
    backend, until = make(), asyncio.get_running_loop().create_future()
    stream = a_stream()
    await backend.write(stream, b"no frame")
    events = TokenSubscriber(None, backend).subscribe(stream.workflow_id, stream.run_id, until=until)
    reading = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(5):
        while not re.search("1 (listeners|readers)", repr(backend)):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    await backend.close()  # as the plugin does with its last worker

    with pytest.raises(TransportUnavailable, match=r"closed while it was read .*or by the plugin"):
        await reading
