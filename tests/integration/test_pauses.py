"""A workflow waits for longer than its stream lives: who comes afterwards learns that there was more."""

import asyncio
from typing import Any

import pytest
from temporalio import activity

from devservers import RedisServer
from temporal_token_interceptor import (
    AttemptEnded,
    Event,
    Gap,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokensMissing,
    TokenSubscriber,
)
from temporal_token_interceptor.events import CallStarted, Frame, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.cluster import until
from tests.support.frames import a_call, an_origin
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunInTurn

DONE = AttemptEnded(outcome="completed_provisional")


def activities(redis: Any, streams: list[str]) -> list[Any]:
    """One that says something, a pause in which the stream expires, and one that says more."""

    @activity.defn
    async def first(_: Any) -> str:
        return (await ScriptedChatModel.saying("one ", "two ").ainvoke("?")).text

    @activity.defn
    async def pause(_: Any) -> int:
        info = activity.info()
        name = f"tti:v1:{{{info.namespace}/{info.workflow_id}/{info.workflow_run_id}}}"
        streams.append(name)

        async def is_gone() -> bool:
            return not await redis.exists(name)

        assert await redis.pexpire(name, 1)
        await until(is_gone)
        return 0

    @activity.defn
    async def last(_: Any) -> str:
        return (await ScriptedChatModel.saying("three").ainvoke("?")).text

    return [first, pause, last]


def gaps(events: list[Event]) -> list[tuple[str, int | None]]:
    """The reason and the number of each `Gap`."""
    return [(event.reason, event.missing) for event in events if isinstance(event, Gap)]


async def test_who_comes_after_the_pause_does_not_take_the_rest_for_the_whole(
    client, redis_url, redis_client
):
    """No result has a `custom_data`: the transport alone remembers that there was more."""
    workflow_id = unique("pause")
    names = ["first", "pause", "last"]
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, activities(redis_client, [])) as queue,
    ):
        await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        live = await read_all(client, backend, workflow_id)
        async with RedisStreamBackend(redis_url) as another:
            subscriber = TokenSubscriber(client, another)
            late = await read_all(client, another, workflow_id)
            resumed = await read_all(client, another, workflow_id, cursor=late[0].cursor)
            snapshot = await subscriber.snapshot(workflow_id)
            with pytest.raises(TokensMissing, match="trimmed"):
                await subscriber.text(workflow_id)

    assert (standing_text(live), gaps(live)) == ("one two three", [])
    assert (standing_text(late), gaps(late)) == ("three", [("trimmed", None)])
    assert isinstance(late[0], Gap)
    assert resumed == late[1:]
    assert (snapshot.text, gaps([*snapshot.gaps])) == ("three", [("trimmed", None)])


async def test_a_stream_that_is_gone_as_a_whole_is_no_workflow_without_models(
    client, redis_url, redis_client, caplog
):
    """`text()` hours later raises, in place of an empty answer; and no hint blames the worker's setup."""
    workflow_id = unique("gone")
    streams: list[str] = []
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, activities(redis_client, streams)) as queue,
    ):
        names = ["first", "pause"]
        handle = await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        await handle.result()
        caplog.clear()
        late = await read_all(client, backend, workflow_id)
        with pytest.raises(TokensMissing, match="trimmed"):
            await TokenSubscriber(client, backend).text(workflow_id)
        await redis_client.delete(f"{streams[0]}:begun")
        forgotten = await read_all(client, backend, workflow_id)

    assert gaps(late) == [("trimmed", None)]
    assert late[-1].status == "completed"
    assert gaps(forgotten) == []
    assert [
        record.message for record in caplog.records if "none of its activities streamed" in record.message
    ]
    assert len(caplog.records) == 1  # for the last reader alone


# ------------------------------------------------------------------ by hand


@pytest.fixture(params=["redis", "memory"])
async def backend(request, redis_url):
    if request.param == "memory":
        yield MemoryStreamBackend(stream_maxlen=2)
    else:
        async with RedisStreamBackend(redis_url) as redis:
            yield redis


async def test_a_stream_trimmed_exactly_between_two_attempts_says_so(backend):
    """The first entry that is left is a beginning; the transport knows that it was not the first."""
    key = StreamKey("default", unique("exact"), "run")
    for number in range(3):
        origin = an_origin(workflow_id=key.workflow_id, attempt_id=f"a{number}", activity_id=str(number))
        said = (CallStarted(call=a_call()), TextRun("text", 0, 0, (f"{number} ",), 1), DONE)
        await backend.write(key, encode(Frame(origin, 0, said, header=True)))
        if number == 1:
            before = await read(backend, key)
    if isinstance(backend, RedisStreamBackend):
        await backend._client.xtrim(f"tti:v1:{{{key.name}}}", maxlen=2, approximate=False)

    events = await read(backend, key)

    assert gaps(before) == []
    assert gaps(events) == [("trimmed", None)]
    assert standing_text(events) == "1 2 "
    assert await read(backend, key, cursor=events[0].cursor) == events[1:]
    assert gaps(await read(backend, key, cursor=before[-2].cursor)) == []
    assert gaps(await read(backend, key, start="now")) == []


async def read(backend: Any, key: StreamKey, **options: Any) -> list[Any]:
    """What is there now, without Temporal."""
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)
    subscriber = TokenSubscriber(None, backend)
    return [event async for event in subscriber.subscribe(key.workflow_id, "run", until=enough, **options)]


async def test_after_a_restart_the_reason_is_the_transport_for_whoever_reads():
    """Redis came back empty in the middle of an answer: the reason leads to Redis, and not to my `maxlen`."""
    key = StreamKey("default", unique("restart"), "run")
    origin = an_origin(workflow_id=key.workflow_id)
    server = RedisServer()
    await server.start()

    def frame(seq: int) -> bytes:
        said = (TextRun("text", 0, seq, (f"{seq} ",), 1),)
        return encode(
            Frame(origin, seq, (*([CallStarted(call=a_call())] * (not seq)), *said), header=seq in (0, 5))
        )

    try:
        async with RedisStreamBackend(server.url) as backend, asyncio.timeout(30):
            done = asyncio.Event()
            live = TokenSubscriber(None, backend).subscribe(key.workflow_id, "run", until=done.wait())
            for seq in range(3):
                await backend.write(key, frame(seq))
            seen = [await anext(live) for _ in range(5)]
            following = asyncio.ensure_future(anext(live))
            await server.kill()
            await server.start()
            await backend.write(key, frame(5))  # two more were taken before, and lost
            done.set()
            seen += [await following, *[event async for event in live]]
            async with RedisStreamBackend(server.url) as another:
                late = await read(another, key)
                resumed = await read(another, key, cursor=seen[4].cursor)
    finally:
        await server.kill()

    assert set(gaps(seen)) == {("transport", None), ("transport", 2), ("unended", None)}
    assert gaps(late) == [("transport", None), ("transport", 5), ("unended", None)]
    assert {reason for reason, _ in gaps(resumed)} == {"transport", "unended"}


async def test_a_stream_that_began_again_under_a_cursor_was_lost_and_not_cut(redis_url, redis_client):
    """FLUSHALL, and a new stream that is ahead of my cursor already: what was between is lost."""
    key = StreamKey("default", unique("again"), "run")

    async def say(backend: RedisStreamBackend, number: int) -> None:
        origin = an_origin(workflow_id=key.workflow_id, attempt_id=f"a{number}", activity_id=str(number))
        said = (CallStarted(call=a_call()), TextRun("text", 0, 0, (f"{number} ",), 1), DONE)
        await backend.write(key, encode(Frame(origin, 0, said, header=True)))

    async with RedisStreamBackend(redis_url) as backend:
        await say(backend, 0)
        first = await read(backend, key)
        await redis_client.delete(backend._keys.stream(key), backend._keys.begun(key))
        async with RedisStreamBackend(redis_url) as another:  # a worker that has not written yet
            await say(another, 1)
        again = await read(backend, key, cursor=first[-2].cursor)
        late = await read(backend, key)

    assert gaps(again) == [("transport", None)]
    assert standing_text(again) == "1 "
    assert gaps(late) == []  # the sign is lost with the stream
