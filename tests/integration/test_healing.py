"""What an outage held back comes from the durable result, in its place."""

import asyncio
import signal
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from redis.asyncio import Redis
from temporalio import activity
from temporalio.client import Client, Interceptor, OutboundInterceptor, WorkflowHistoryEventFilterType
from temporalio.converter import DefaultPayloadConverter

from devservers import RedisServer
from temporal_token_interceptor import (
    AttemptEnded,
    CallEnded,
    Gap,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import Backend, kinds, read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity, RunInTurn, Waiting

WORDS = [f"word {number}, " for number in range(40)]


@dataclass
class Answer:
    text: str
    custom_data: list[Any] | None = None


async def test_the_last_words_that_redis_did_not_take_come_from_the_result(client: Client):
    """Redis hangs in mid-answer until the activity is over: I read the whole answer all the same, once."""
    server = RedisServer()
    await server.start()
    half_said, go_on = asyncio.Event(), asyncio.Event()

    class Halting(ScriptedChatModel):
        async def _astream(self, *args, **kwargs):
            count = 0
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                count += 1
                if count == len(WORDS) // 2:
                    half_said.set()
                    await go_on.wait()

    @activity.defn
    async def answer(argument: Any) -> Answer:
        return Answer((await Halting.saying(*WORDS).ainvoke("?")).text)

    workflow_id = unique("healing")
    try:
        async with (
            RedisStreamBackend(server.url) as backend,
            streaming_worker(client, backend, [answer], flush_timeout=timedelta(milliseconds=200)) as queue,
        ):
            handle = await client.start_workflow(
                RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
            )
            await half_said.wait()
            await _first_words_are_stored(client, backend, workflow_id)

            server.signal(signal.SIGSTOP)
            go_on.set()
            await handle.result()
            server.signal(signal.SIGCONT)
            async with RedisStreamBackend(server.url) as another:
                events = await read_all(client, another, workflow_id)
    finally:
        await server.kill()

    assert standing_text(events) == "".join(WORDS)
    assert not [event for event in events if isinstance(event, Gap)]
    assert len([event for event in events if isinstance(event, CallEnded)]) == 1
    assert isinstance(events[-1], StreamEnded)
    healed = [event.from_history for event in events if isinstance(event, TokenEvent)]
    assert healed == sorted(healed)  # what was delivered first, then what the result told
    assert any(healed)
    assert not all(healed)


# ---------------------------------------------------------------------- what Redis never heard of


class Outage:
    """Three activities in turn. Redis takes nothing while the middle one speaks; it is well for the last.

    Args:
        server: The Redis.
        way: `full`: it refuses each write. `hangs`: it answers nobody.
    """

    def __init__(self, server: RedisServer, way: str) -> None:
        self._server = server
        self._way = way
        self._away, self._back = asyncio.Event(), asyncio.Event()
        self.middle_began, self.last_began = asyncio.Event(), asyncio.Event()

    def activities(self, middle: Literal["answers", "placeless", "fails"] = "answers") -> list[Any]:
        """The activities; the middle one's result has a `custom_data`, or has none, or there is no result."""

        async def says(name: str) -> str:
            words = [f"{name} {number}, " for number in range(5)]
            return (await ScriptedChatModel.saying(*words).ainvoke("?")).text

        @activity.defn
        async def first(argument: Any) -> Answer:
            return Answer(await says("first"))

        @activity.defn(name="middle")
        async def answers(argument: Any) -> Answer:
            self.middle_began.set()
            await self._away.wait()
            return Answer(await says("middle"))

        @activity.defn(name="middle")
        async def placeless(argument: Any) -> str:
            return (await answers(argument)).text

        @activity.defn(name="middle")
        async def fails(argument: Any) -> None:
            await answers(argument)
            raise LookupError("gone")

        @activity.defn
        async def last(argument: Any) -> Answer:
            self.last_began.set()
            await self._back.wait()
            return Answer(await says("last"))

        return [first, {"answers": answers, "placeless": placeless, "fails": fails}[middle], last]

    async def strike(self) -> None:
        """Let Redis fail for as long as the middle activity runs."""
        redis = Redis.from_url(self._server.url)
        await self.middle_began.wait()
        if self._way == "full":
            await redis.config_set("maxmemory", 1)
        else:
            self._server.signal(signal.SIGSTOP)
        self.begin()
        await self.last_began.wait()
        if self._way == "full":
            await redis.config_set("maxmemory", 0)
        else:
            self._server.signal(signal.SIGCONT)
        self.over()
        await redis.aclose()

    def begin(self) -> None:
        """Let the middle activity speak."""
        self._away.set()

    def over(self) -> None:
        """Let the last activity speak."""
        self._back.set()


THREE = "".join(f"{name} {number}, " for name in ("first", "middle", "last") for number in range(5))


@pytest.fixture
async def server():
    """A Redis that a test may hurt."""
    redis = RedisServer()
    await redis.start()
    yield redis
    await redis.kill()


@pytest.mark.parametrize("on_retry", ["reset", "hold"])
@pytest.mark.parametrize("way", ["full", "hangs"])
async def test_an_activity_that_redis_missed_is_healed_in_a_run_that_it_did_not(
    client, server, way, on_retry
):
    """One step of many fell into an outage, and left no trace in Redis: I read it all the same, once."""
    outage = Outage(server, way)
    workflow_id = unique("middle")
    async with (
        RedisStreamBackend(server.url) as backend,
        streaming_worker(
            client, backend, outage.activities(), flush_timeout=timedelta(milliseconds=200)
        ) as queue,
    ):
        names = ["first", "middle", "last"]
        await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        live, _ = await asyncio.gather(
            read_all(client, backend, workflow_id, on_retry=on_retry), outage.strike()
        )
        async with RedisStreamBackend(server.url) as another:
            late = await read_all(client, another, workflow_id, on_retry=on_retry)
            resumed = [
                await read_all(client, another, workflow_id, on_retry=on_retry, cursor=event.cursor)
                for event in late[:-1]
            ]

    for events in (live, late):
        texts = {
            name: "".join(e.token for e in events if isinstance(e, TokenEvent) and e.node_name == name)
            for name in names
        }
        assert "".join(texts.values()) == THREE
        assert not [event for event in events if isinstance(event, Gap)]
        assert events[-1].status == "completed"
    assert {e.node_name for e in late if isinstance(e, TokenEvent) and e.from_history} == {"middle"}
    for place, rest in enumerate(resumed, 1):
        assert rest == late[place:]


@pytest.mark.parametrize("way_out", ["placeless", "fails"])
async def test_what_no_result_holds_is_told_when_redis_is_back(client, server, way_out):
    """The step has no `custom_data`, or failed for good: its words come late, through Redis."""
    outage = Outage(server, "full")
    workflow_id = unique("late")
    async with (
        RedisStreamBackend(server.url) as backend,
        streaming_worker(
            client, backend, outage.activities(way_out), flush_timeout=timedelta(milliseconds=200)
        ) as queue,
    ):
        names = ["first", "middle", "last"]
        await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        live, _ = await asyncio.gather(read_all(client, backend, workflow_id), outage.strike())
        late = await read_all(client, backend, workflow_id)

    for events in (live, late):
        assert standing_text(events) == THREE
        assert not [event for event in events if isinstance(event, Gap)]
        assert not [event for event in events if isinstance(event, TokenEvent) and event.from_history]
    ends = {e.origin.activity_type: e.outcome for e in late if isinstance(e, AttemptEnded)}
    assert ends["middle"] == ("failed" if way_out == "fails" else "completed_provisional")


async def test_a_cursor_from_history_hides_nothing_that_redis_is_told_later(client, server):
    """I read on from Redis where history had stood in for it: nothing is missing, and nothing comes twice."""
    workflow_id = unique("back-from-history")
    outage = Outage(server, "full")
    await server.kill()
    async with (
        RedisStreamBackend(server.url, patience=timedelta(seconds=0.5)) as backend,
        streaming_worker(client, backend, outage.activities()) as queue,
    ):
        names = ["first", "middle", "last"]
        handle = await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        told = []
        async with aclosing(TokenSubscriber(client, backend).subscribe(workflow_id)) as events:
            async for event in events:
                told.append(event)
                if isinstance(event, AttemptEnded):
                    break
        await server.start()
        outage.begin()
        async with RedisStreamBackend(server.url) as another:
            live = [
                asyncio.ensure_future(read_all(client, another, workflow_id, cursor=event.cursor))
                for event in told
            ]
            await outage.last_began.wait()
            outage.over()
            await handle.result()
            rests = await asyncio.gather(*live)
            second = [
                (place, await read_all(client, another, workflow_id, cursor=event.cursor))
                for place, event in enumerate(rests[5][:-1], 1)
            ]

    assert kinds(told)[:3] == ["Gap", "AttemptStarted", "CallStarted"]
    for place, rest in enumerate(rests, 1):
        texts = Counter(event.token for event in told[:place] + rest if isinstance(event, TokenEvent))
        assert texts == Counter(THREE.replace(", ", ", |").split("|")[:-1])
        assert not [event for event in rest if isinstance(event, Gap)]
        live_words = [event for event in rest if isinstance(event, TokenEvent) and not event.from_history]
        assert standing_text(live_words) == THREE.partition("first 4, ")[2]
    for place, rest in second:
        assert rest == rests[5][place:]


async def test_what_was_out_of_reach_is_read_when_it_is_not(client, server):
    """I could not reach Redis, and was told how much I missed. I come back when I can, and get it."""
    workflow_id = unique("in-reach-again")
    outage = Outage(server, "full")
    async with (
        RedisStreamBackend(server.url) as backend,
        RedisStreamBackend("redis://127.0.0.1:1", patience=timedelta(seconds=0.3)) as unreachable,
        streaming_worker(client, backend, outage.activities()) as queue,
    ):
        names = ["first", "middle", "last"]
        handle = await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        told = []
        async with aclosing(TokenSubscriber(client, unreachable).subscribe(workflow_id)) as events:
            async for event in events:
                told.append(event)
                if isinstance(event, AttemptEnded):
                    break
        live = [
            asyncio.ensure_future(read_all(client, backend, workflow_id, cursor=event.cursor))
            for event in told
        ]
        outage.begin()
        outage.over()
        await handle.result()
        rests = await asyncio.gather(*live)

    missing = [event.missing for event in told if isinstance(event, Gap)]
    assert kinds(told) == ["Gap", "AttemptStarted", "Gap", "AttemptEnded"]
    assert missing == [None, 5]
    for rest in rests:
        assert standing_text(rest) == THREE
        assert not [event for event in rest if isinstance(event, Gap)]


async def test_from_now_on_holds_for_what_history_tells_too(client, server):
    """I want what comes: a step that fell into an outage before I came is left out, a later one is healed."""
    workflow_id = unique("now-healed")
    outage = Outage(server, "full")
    async with (
        RedisStreamBackend(server.url) as backend,
        streaming_worker(
            client, backend, outage.activities(), flush_timeout=timedelta(milliseconds=200)
        ) as queue,
        Redis.from_url(server.url) as redis,
    ):
        names = ["first", "middle", "last"]
        await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        subscriber = TokenSubscriber(client, backend)
        await outage.middle_began.wait()
        before = subscriber.subscribe(workflow_id, start="now")
        began = asyncio.ensure_future(anext(before))
        await _is_reading(backend)
        await redis.config_set("maxmemory", 1)
        outage.begin()
        await outage.last_began.wait()
        await redis.config_set("maxmemory", 0)
        after = subscriber.subscribe(workflow_id, start="now")
        ended = asyncio.ensure_future(anext(after))
        await _is_reading(backend, readers=2)
        outage.over()
        healed = [await began, *[event async for event in before]]
        late = [await ended, *[event async for event in after]]
        again = await read_all(client, backend, workflow_id, cursor=late[0].cursor)

    assert Counter(e.node_name for e in healed if isinstance(e, TokenEvent)) == {"middle": 5, "last": 5}
    assert {e.node_name for e in healed if isinstance(e, TokenEvent) and e.from_history} == {"middle"}
    assert Counter(e.node_name for e in late if isinstance(e, TokenEvent)) == {"last": 5}
    assert again == late[1:]
    assert not [event for event in (*healed, *late) if isinstance(event, Gap)]


async def test_from_now_on_begins_in_history_while_redis_is_away(client, server):
    """Redis is away when I come: I am told so, and get what completes from now on, and nothing older."""
    workflow_id = unique("now-away")
    outage = Outage(server, "full")
    await server.kill()
    async with (
        RedisStreamBackend(server.url, patience=timedelta(seconds=0.5)) as backend,
        streaming_worker(
            client, backend, outage.activities(), flush_timeout=timedelta(milliseconds=100)
        ) as queue,
    ):
        names = ["first", "middle", "last"]
        handle = await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        await outage.middle_began.wait()
        reading = TokenSubscriber(client, backend).subscribe(workflow_id, start="now")
        events = [await anext(reading)]
        outage.begin()
        outage.over()
        events += [event async for event in reading]
        await handle.result()
        rests = await asyncio.gather(
            *(read_all(client, backend, workflow_id, cursor=event.cursor) for event in events[:-1])
        )

    assert [event.reason for event in events if isinstance(event, Gap)] == ["transport"]
    assert isinstance(events[0], Gap)
    assert Counter(e.node_name for e in events if isinstance(e, TokenEvent)) == {"middle": 5, "last": 5}
    for place, rest in enumerate(rests, 1):  # Redis is still away, and each reading says so
        assert isinstance(rest[0], Gap)
        assert rest[1:] == events[place:]


async def _is_reading(backend: RedisStreamBackend, readers: int = 1) -> None:
    """Wait until so many readers follow what is said."""
    async with asyncio.timeout(10):
        while f"{readers} listeners" not in repr(backend):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_redis_took_and_lost_is_counted(client, server):
    """Redis came back empty between two steps, and I came later: I am told what I did not get."""
    workflow_id = unique("forgotten")
    outage = Outage(server, "full")
    async with (
        RedisStreamBackend(server.url) as backend,
        streaming_worker(client, backend, outage.activities()) as queue,
    ):
        names = ["first", "last"]
        handle = await client.start_workflow(RunInTurn.run, names, id=workflow_id, task_queue=queue)
        await outage.last_began.wait()
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
        outage.over()
        await handle.result()

        whole = await read_all(client, backend, workflow_id)
        place = next(event.cursor for event in whole if isinstance(event, CallEnded))
        resumed = await read_all(client, backend, workflow_id, cursor=place)

    gaps = [
        (gap.missing, gap.reason, gap.origin.activity_type, gap.origin.attempt)
        for gap in whole
        if isinstance(gap, Gap)
    ]
    assert gaps == [(5, "transport", "first", 1)]
    assert standing_text(whole) == "".join(f"last {number}, " for number in range(5))
    # Whoever comes with a cursor may have read the first step before it was lost.
    assert not [event for event in resumed if isinstance(event, Gap)]


async def test_the_history_of_a_run_is_looked_at_once_when_it_has_closed(client, redis_url):
    """A hundred viewers cost one request, and none before the end; no result is decoded for them."""
    looks: list[bool] = []
    decoded: list[object] = []

    class Watching(OutboundInterceptor):
        def fetch_workflow_history_events(self, input):  # noqa: A002
            if input.event_filter_type is not WorkflowHistoryEventFilterType.CLOSE_EVENT:
                looks.append(has_closed)
            return super().fetch_workflow_history_events(input)

    class Watch(Interceptor):
        def intercept_client(self, next):  # noqa: A002
            return Watching(next)

    class Converter(DefaultPayloadConverter):
        def from_payloads(self, payloads, type_hints=None):
            decoded.extend(payloads)
            return super().from_payloads(payloads, type_hints)

    @activity.defn
    async def answer(argument: Any) -> Answer:
        return Answer((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)

    has_closed = False
    workflow_id = unique("looks")
    converter = replace(client.data_converter, payload_converter_class=Converter)
    reading = Client(**{**client.config(), "interceptors": [Watch()], "data_converter": converter})
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answer]) as queue,
    ):
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        subscriber = TokenSubscriber(reading, backend)
        texts = [asyncio.ensure_future(subscriber.text(workflow_id)) for _ in range(100)]
        left = subscriber.tokens(workflow_id)
        async for event in left:
            if event.index == len(WORDS) - 1:
                break
        await left.aclose()
        has_closed = True
        await handle.signal(Waiting.end, "well")
        read = await asyncio.gather(*texts)

    assert read == ["".join(WORDS)] * 100
    assert looks == [True]
    assert not decoded


async def _first_words_are_stored(client: Client, backend: Backend, workflow_id: str) -> None:
    async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
        if isinstance(event, TokenEvent):
            return
