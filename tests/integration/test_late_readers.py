"""A reader may come when it wants: from the start, from now on, from a snapshot, or behind the trimming."""

import asyncio
import gc
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity

from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    ConfigurationError,
    Gap,
    InvalidCursor,
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamEnded,
    StreamNotFound,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.events import CallStarted, Frame, Record, TextRun
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.frames import a_call, an_origin, of_stream
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity

WORDS = ["One ", "two ", "three ", "four."]
TEXT = "".join(WORDS)


class Gated(ScriptedChatModel):
    """Waits before the third word until the test opens the gate."""

    gate: asyncio.Event

    async def _astream(self, *args: Any, **kwargs: Any):
        said = 0
        async for chunk in super()._astream(*args, **kwargs):
            if said == 2:
                await self.gate.wait()
            said += 1
            yield chunk


def gated_activity(gate: asyncio.Event):
    """An activity that says two words, and the others once the gate is open."""

    @activity.defn
    async def answer(argument: Any) -> str:
        model = Gated(script=lambda _messages: WORDS, gate=gate)
        return (await model.ainvoke("?")).text

    return answer


@activity.defn
async def answer_at_second_try(argument: Any) -> str:
    pieces = [*WORDS[:2], ValueError("gone")] if activity.info().attempt == 1 else WORDS
    return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text


@pytest.fixture(params=["redis", "memory"])
async def backend(request, redis_url):
    if request.param == "memory":
        yield MemoryStreamBackend()
    else:
        async with RedisStreamBackend(redis_url) as redis:
            yield redis


def tokens(events) -> list[str]:
    return [event.token for event in events if isinstance(event, TokenEvent)]


async def until_said(subscriber: TokenSubscriber, workflow_id: str, words: int) -> None:
    """Wait until so many words were stored."""
    async with aclosing(subscriber.tokens(workflow_id)) as stream:
        async for event in stream:
            if event.index == words - 1:
                return


async def test_a_reader_learns_when_all_that_was_stored_has_been_taken(client, backend):
    """Once, right behind the last of it, also where that is several pages of the stream."""
    gate, workflow_id, subscriber = asyncio.Event(), unique("caught-up"), TokenSubscriber(client, backend)

    @activity.defn
    async def answer(argument: Any) -> str:
        for number in range(30):
            await ScriptedChatModel.saying(f"{number} ").ainvoke("?")
        return (await Gated(script=lambda _messages: WORDS, gate=gate).ainvoke("?")).text

    async with streaming_worker(client, backend, [answer]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        stored: list[str] = []
        async with aclosing(subscriber.tokens(workflow_id)) as stream:
            while stored[-1:] != ["two "]:
                stored.append((await anext(stream)).token)
        taken: list[Any] = []
        had: list[list[str]] = []

        def caught_up() -> None:
            had.append(tokens(taken))
            gate.set()

        async for events in subscriber.subscribe_batches(workflow_id, on_caught_up=caught_up):
            taken += events

    assert had == [[*(f"{number} " for number in range(30)), "One ", "two "]]
    assert tokens(taken)[-2:] == WORDS[2:]


async def test_a_reader_of_nothing_has_caught_up_at_once(client, backend):
    """Of a run that has not said anything, and of one that is read from its history alone."""
    gate, workflow_id = asyncio.Event(), unique("nothing-stored")
    async with streaming_worker(client, backend, [gated_activity(gate)]) as queue:
        waiting = f"{workflow_id}-waits"  # no worker takes it before the test is over
        await client.start_workflow(RunActivity.run, args=["answer"], id=waiting, task_queue=unique("none"))
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        for name, reader in (
            (waiting, TokenSubscriber(client, backend)),
            (workflow_id, TokenSubscriber(client)),
        ):
            caught_up = asyncio.Event()
            events = reader.subscribe_batches(name, on_caught_up=caught_up.set, until=caught_up.wait())
            async with asyncio.timeout(10):
                assert tokens([event async for batch in events for event in batch]) == []
        gate.set()
        await client.get_workflow_handle(workflow_id).result()
        await client.get_workflow_handle(waiting).terminate()


# ---------------------------------------------------------------------- snapshots, and from now on


async def test_a_snapshot_and_its_cursor_are_the_whole_stream(client, backend):
    """I draw what stands at once, and go on from there: nothing twice, nothing missing."""
    gate = asyncio.Event()
    workflow_id = unique("snapshot")
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [gated_activity(gate)]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await until_said(subscriber, workflow_id, 2)

        snapshot = await subscriber.snapshot(workflow_id)
        gate.set()
        rest = [event async for event in subscriber.subscribe(workflow_id, cursor=snapshot.cursor)]

    (call,) = snapshot.calls
    assert (snapshot.text, call.text, call.ended, snapshot.gaps) == ("One two ", "One two ", False, ())
    assert tokens(rest) == WORDS[2:]
    assert rest[-1].status == "completed"
    after = await subscriber.snapshot(workflow_id)
    assert (after.text, after.calls[0].ended) == (TEXT, True)


async def test_a_snapshot_shows_the_newest_attempt_only(client, backend):
    """What a failed attempt said is not in it."""
    workflow_id = unique("snapshot-retry")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_at_second_try", None, False, 2], id=workflow_id, task_queue=queue
        )

    snapshot = await TokenSubscriber(client, backend).snapshot(workflow_id)

    assert snapshot.text == TEXT
    assert [call.origin.attempt for call in snapshot.calls] == [2]


async def test_a_snapshot_of_nothing_says_so_at_once(client, backend):
    """It waits for nothing, also not for the workflow to be started."""
    async with asyncio.timeout(5):
        with pytest.raises(StreamNotFound):
            await TokenSubscriber(client, backend).snapshot(unique("nobody"))
        with pytest.raises(StreamNotFound):
            await TokenSubscriber(None, backend).snapshot(unique("nobody"))


async def test_a_reader_from_now_on_is_spared_what_was_said(client, backend):
    """I only want what comes, with its call and node known all the same."""
    gate = asyncio.Event()
    workflow_id = unique("now")
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [gated_activity(gate)]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await until_said(subscriber, workflow_id, 2)

        async with aclosing(subscriber.subscribe(workflow_id, start="now")) as stream:
            first = asyncio.ensure_future(anext(stream))
            await asyncio.wait({first}, timeout=0.2)  # it is there, and has nothing to say
            assert not first.done()
            gate.set()
            events = [await first, *[event async for event in stream]]

    assert tokens(events) == WORDS[2:]
    assert events[0].node_name == "answer"
    assert events[0].call.run_id


async def test_words_that_are_not_options_are_refused_at_once(backend, client):
    """A typing error must not look like an empty stream."""
    for wrong in ({"start": "later"}, {"on_retry": "ignore"}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            TokenSubscriber(client, backend).subscribe("w", **wrong)


async def test_a_reader_without_temporal_waits_for_a_run_no_longer_than_it_was_told(backend):
    """Nobody may hang: neither for a workflow that never comes, nor when the caller has had enough."""
    patient = TokenSubscriber(None, backend, start_timeout=timedelta(seconds=0.3))
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    with pytest.raises(StreamNotFound, match=r"within 0\.3 s"):
        await anext(patient.subscribe("never", until=enough))
    enough.set_result(None)
    events = [event async for event in TokenSubscriber(None, backend).subscribe("never", until=enough)]

    assert events == [StreamEnded(status="unknown")]


async def test_a_coroutine_that_ends_a_subscription_ends_with_it(client, backend):
    """I pass a coroutine as `until` and leave before it is done: it is cancelled, and over by then."""
    gate, ended = asyncio.Event(), asyncio.Event()
    workflow_id = unique("until-left")
    subscriber = TokenSubscriber(client, backend)

    async def never() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with streaming_worker(client, backend, [gated_activity(gate)]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        before = asyncio.all_tasks()
        async with aclosing(subscriber.subscribe(workflow_id, until=never())) as stream:
            await anext(stream)
        left_early, running = ended.is_set(), asyncio.all_tasks() - before
        gate.set()
        ended.clear()
        events = [event async for event in subscriber.subscribe(workflow_id, until=never())]

    assert left_early
    assert not [task for task in running if "/completion.py" in repr(task) or "/runs.py" in repr(task)]
    assert ended.is_set()
    assert events[-1].status == "completed"


async def test_a_future_that_ends_a_subscription_stays_mine(client, backend):
    """What I pass is not cancelled when the workflow closes first, nor when I leave."""
    workflow_id = unique("until-mine")
    mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_at_second_try", None, False, 2], id=workflow_id, task_queue=queue
        )
        async with aclosing(subscriber.subscribe(workflow_id, until=mine)) as stream:
            await anext(stream)
        events = [event async for event in subscriber.subscribe(workflow_id, until=mine)]

    assert events[-1].status == "completed"
    assert not mine.done()


async def test_an_end_that_fails_is_not_kept_from_me(backend, caplog):
    """My coroutine fails: I get its exception after what was there, and asyncio does not complain."""
    cut = StreamKey("default", unique("until-fails"), "run")
    await backend.write(
        cut, encode(Frame(of_stream(cut), 0, (CallStarted(call=a_call()), said(0)), header=True))
    )

    async def fails() -> None:
        raise LookupError("mine")

    whole = TokenSubscriber(None, backend).subscribe(cut.workflow_id, "run", until=fails())
    events = [await anext(whole) for _ in range(4)]  # the attempt, its call, its word, and that no end came
    with pytest.raises(LookupError, match="mine"):
        await anext(whole)
    async with aclosing(
        TokenSubscriber(None, backend).subscribe(cut.workflow_id, "run", until=fails())
    ) as left:
        await anext(left)
    gc.collect()

    assert tokens(events) == ["0 "]
    assert "never retrieved" not in caplog.text


async def test_an_end_comes_also_before_the_workflow(client, backend):
    """Nobody starts the workflow, and I have had enough: I do not wait for `start_timeout`."""
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stream = TokenSubscriber(client, backend).subscribe(unique("nobody"), until=enough)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.wait({waiting}, timeout=0.3)

    enough.set_result(None)

    async with asyncio.timeout(5):
        assert await waiting == StreamEnded(status="unknown")


async def test_statistics_tell_what_was_dropped(backend):
    """I count what readers met: an entry that is there twice, and one of an attempt that was replaced."""
    key = StreamKey("default", unique("counts"), "run")
    old, new = of_stream(key, attempt_id="a1"), of_stream(key, attempt_id="a2", attempt=2, started=60)
    for origin, seq in ((old, 0), (old, 0), (new, 0), (old, 1)):
        await backend.write(key, encode(Frame(origin, seq, (), header=seq == 0)))
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)
    subscriber = TokenSubscriber(None, backend)

    async for _ in subscriber.subscribe(key.workflow_id, "run", until=enough):
        pass

    counted = subscriber.statistics
    assert (counted.entries, counted.duplicates, counted.superseded) == (4, 1, 1)


# ---------------------------------------------------------------------- policies


async def test_each_policy_shows_a_retry_in_its_way(client, backend):
    """The same stream, for a screen that can take text back, for one that cannot, and for a debugger."""
    workflow_id = unique("policies")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_at_second_try", None, False, 2], id=workflow_id, task_queue=queue
        )

    reset = await read_all(client, backend, workflow_id)
    held = await read_all(client, backend, workflow_id, on_retry="hold")
    annotated = await read_all(client, backend, workflow_id, on_retry="annotate")

    assert tokens(reset) == [*WORDS[:2], *WORDS]
    assert standing_text(reset) == TEXT
    assert tokens(held) == WORDS
    assert not any(event.supersedes for event in held if isinstance(event, AttemptStarted))
    assert tokens(annotated) == [*WORDS[:2], *WORDS]
    assert isinstance(held[-1], StreamEnded)


async def test_a_held_stream_is_resumed_exactly_after_any_event(client, backend):
    """A reader that holds keeps its place like any other."""
    workflow_id = unique("hold-resume")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_at_second_try", None, False, 2], id=workflow_id, task_queue=queue
        )
    whole = await read_all(client, backend, workflow_id, on_retry="hold")

    for kept, event in enumerate(whole[:-1], 1):
        rest = await read_all(client, backend, workflow_id, on_retry="hold", cursor=event.cursor)
        assert whole[:kept] + rest == whole


async def test_who_holds_and_leaves_early_is_not_shown_what_may_still_fail(client, backend):
    """Half a sentence is no news; whoever resumes there gets all of it, once."""
    gate, done = asyncio.Event(), asyncio.get_running_loop().create_future()
    workflow_id = unique("hold-until")
    async with streaming_worker(client, backend, [gated_activity(gate)]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await until_said(TokenSubscriber(client, backend), workflow_id, 2)
        done.set_result(None)

        early = await read_all(client, backend, workflow_id, on_retry="hold", until=done)
        gate.set()
        rest = await read_all(client, backend, workflow_id, on_retry="hold", cursor=early[-1].cursor)

    assert tokens(early) == []
    assert isinstance(early[-1], StreamEnded)
    assert tokens(rest) == WORDS
    assert rest[-1].status == "completed"


# ---------------------------------------------------------------------- a stream that was cut


@pytest.fixture
async def cut(redis_url):
    """A run's stream in a Redis whose entries the test writes and trims by hand."""
    async with RedisStreamBackend(redis_url) as backend:
        yield HandWritten(backend)


class HandWritten:
    """One run without Temporal."""

    def __init__(self, backend: RedisStreamBackend) -> None:
        self.backend = backend
        self.key = StreamKey("default", unique("cut"), "run")
        self.redis = backend._client
        self.name = f"tti:v1:{{{self.key.name}}}"

    async def write(self, attempt_id: str, seq: int, *records: Record, activity: str = "1") -> None:
        origin = an_origin(workflow_id=self.key.workflow_id, attempt_id=attempt_id, activity_id=activity)
        await self.backend.write(self.key, encode(Frame(origin, seq, records, header=seq == 0)))

    async def trim(self, left: int) -> None:
        await self.redis.xtrim(self.name, maxlen=left, approximate=False)

    def reading(self, cursor: str | None = None):
        """A subscription that ends with what is there now."""
        enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        enough.set_result(None)
        subscriber = TokenSubscriber(None, self.backend)
        return subscriber.subscribe(self.key.workflow_id, self.key.run_id, cursor, until=enough)

    async def read(self, cursor: str | None = None) -> list[Any]:
        return [event async for event in self.reading(cursor)]


def said(index: int) -> TextRun:
    return TextRun("text", 0, index, (f"{index} ",), 1)


def gaps(events) -> list[tuple[str, int | None]]:
    return [(event.reason, event.missing) for event in events if isinstance(event, Gap)]


DONE = AttemptEnded(outcome="completed_provisional")


async def test_a_stream_whose_start_was_trimmed_says_so(cut):
    """Whole activities may have been in it, of which nobody knows now."""
    await cut.write("a1", 0, CallStarted(call=a_call()), said(0))
    await cut.write("a1", 1, said(1), DONE)
    await cut.write("a2", 0, CallStarted(call=a_call()), said(0), DONE, activity="2")
    await cut.trim(2)

    events = await cut.read()

    assert gaps(events) == [("trimmed", None)]
    assert tokens(events) == ["0 "]
    assert await cut.read(events[0].cursor) == events[1:]  # told once


async def test_a_cursor_behind_the_trimming_says_so(cut):
    """I was away for too long: an activity came and went, and left no trace."""
    await cut.write("a1", 0, CallStarted(call=a_call()), said(0), DONE)
    place = (await cut.read())[-2].cursor
    await cut.write("a2", 0, CallStarted(call=a_call()), said(0), DONE, activity="2")
    await cut.write("a3", 0, CallStarted(call=a_call()), said(0), DONE, activity="3")
    await cut.trim(1)

    events = await cut.read(place)

    assert gaps(events) == [("trimmed", None)]
    assert [event.origin.activity_id for event in events if isinstance(event, TokenEvent)] == ["3"]
    assert await cut.read(events[0].cursor) == events[1:]


async def test_a_cursor_from_before_redis_lost_everything_says_so(cut):
    """Redis came back empty: I am told, and get what is there."""
    await cut.write("a1", 0, CallStarted(call=a_call()), said(0))
    place = (await cut.read())[-2].cursor
    await cut.redis.delete(cut.name)

    nothing = await cut.read(place)
    await cut.write("a2", 0, CallStarted(call=a_call()), said(0), DONE, activity="2")
    something = await cut.read(place)

    assert gaps(nothing) == [("transport", None)]
    assert gaps(something) == [("trimmed", None)]
    assert tokens(something) == ["0 "]


async def test_a_reader_that_is_overtaken_by_the_trimming_says_so(cut):
    """I stopped to think; meanwhile a whole activity came and was trimmed away."""
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await cut.write("a1", 0, CallStarted(call=a_call()), said(0), DONE)
    subscriber = TokenSubscriber(None, cut.backend)
    events = []
    stream = subscriber.subscribe(cut.key.workflow_id, cut.key.run_id, until=enough)
    async for event in stream:
        events.append(event)
        if isinstance(event, AttemptEnded) and not enough.done():
            for number in range(2, 2_005):
                await cut.write(f"a{number}", 0, CallStarted(call=a_call()), DONE, activity=str(number))
            await cut.trim(3)
            await asyncio.sleep(1.1)  # a second is what tells a slow reader from a quick one
            enough.set_result(None)

    assert ("trimmed", None) in gaps(events)
    cursors = [Cursor.parse(event.cursor) for event in events]
    assert cursors == sorted(set(cursors))


# ---------------------------------------------------------------------- streams that expire, or come back


def a_part(key: StreamKey, text: str, seq: int = 0, **changes: Any) -> bytes:
    """A frame of an attempt of activity 1; the first opens its call."""
    origin = of_stream(key, **changes)
    records: tuple[Record, ...] = (TextRun("text", 0, seq, (text,), 1),)
    if seq == 0:
        records = (CallStarted(call=a_call()), *records)
    return encode(Frame(origin, seq, records, header=seq == 0))


async def test_a_stream_that_is_deleted_between_two_tokens_is_whole_for_a_live_reader(
    redis_url, redis_client
):
    """Redis is flushed, or the stream expires in a pause, while I wait for the next token: I have all."""
    key = StreamKey("default", unique("flushed"), "run")
    until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with RedisStreamBackend(redis_url) as backend, asyncio.timeout(20):
        subscriber = TokenSubscriber(None, backend)
        events: list[Any] = []
        has_one = asyncio.Event()

        async def read() -> None:
            async for event in subscriber.subscribe(key.workflow_id, "run", until=until):
                events.append(event)
                if isinstance(event, TokenEvent) and event.index == 0:
                    has_one.set()
                elif isinstance(event, TokenEvent):
                    until.set_result(None)

        reading = asyncio.create_task(read())
        await backend.write(key, a_part(key, "one "))
        await has_one.wait()
        await asyncio.sleep(1.1)  # longer than a reader may have been busy elsewhere
        await redis_client.delete(f"tti:v1:{{{key.name}}}")
        await backend.write(key, a_part(key, "two ", 1))
        await reading

    assert tokens(events) == ["one ", "two "]
    assert [event.reason for event in events if isinstance(event, Gap)] == ["unended"]


async def test_what_is_shown_again_after_a_restore_was_taken_back_first(redis_url, redis_client):
    """An old dump is restored: my cursor is ahead of the stream, and my screen shows no text twice."""
    key = StreamKey("default", unique("restored"), "run")
    name = f"tti:v1:{{{key.name}}}"
    async with RedisStreamBackend(redis_url) as backend:
        for seq, text in enumerate(("one ", "two ", "three ")):
            await backend.write(key, a_part(key, text, seq))
            if seq == 1:
                dump = await redis_client.dump(name)
        subscriber = TokenSubscriber(None, backend)
        before = await read_now(subscriber, key)
        cursor = next(event.cursor for event in before if isinstance(event, TokenEvent) and event.index == 2)
        await redis_client.restore(name, 60_000, dump, replace=True)
        seen = before[: [event.cursor for event in before].index(cursor) + 1]
        again = await read_now(subscriber, key, cursor=cursor)

    (started,) = [event for event in again if isinstance(event, AttemptStarted)]
    assert started.supersedes == started.origin
    assert standing_text(seen) == "one two three "
    assert standing_text([*seen, *again]) == "one two "
    assert [event.reason for event in again if isinstance(event, Gap)] == ["transport", "unended"]


async def test_a_retry_that_is_shown_again_takes_back_both(redis_url, redis_client):
    """The screen may have had either attempt."""
    key = StreamKey("default", unique("restored"), "run")
    name = f"tti:v1:{{{key.name}}}"
    async with RedisStreamBackend(redis_url) as backend:
        await backend.write(key, a_part(key, "old "))
        await backend.write(key, a_part(key, "new ", attempt=2, attempt_id="a2", started=60))
        dump = await redis_client.dump(name)
        await backend.write(key, a_part(key, "more ", 1, attempt=2, attempt_id="a2", started=60))
        subscriber = TokenSubscriber(None, backend)
        seen = await read_now(subscriber, key)
        await redis_client.restore(name, 60_000, dump, replace=True)
        again = await read_now(subscriber, key, cursor=tokens_of(seen)[-1].cursor)

    assert standing_text(seen) == "new more "
    assert standing_text([*seen, *again]) == "new "


def tokens_of(events) -> list[TokenEvent]:
    return [event for event in events if isinstance(event, TokenEvent)]


async def read_now(subscriber: TokenSubscriber, key: StreamKey, **options: Any) -> list[Any]:
    """What is there now."""
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)
    return [event async for event in subscriber.subscribe(key.workflow_id, "run", until=enough, **options)]


@pytest.mark.parametrize("cursor", ["1~run~abc~3", "1~run~17-x~3", f"1~run~{'7' * 200}~3", "1~run~1+2~3"])
async def test_a_cursor_of_another_transport_is_refused_at_the_call(client, redis_url, cursor):
    """Also by `tokens` and `messages`, before anything is awaited."""
    until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with RedisStreamBackend(redis_url) as backend:
        subscriber = TokenSubscriber(client, backend)
        with pytest.raises(InvalidCursor):
            subscriber.subscribe("any", cursor=cursor, until=until)
        with pytest.raises(InvalidCursor):
            subscriber.messages("any", cursor=cursor, until=until)
        with pytest.raises(InvalidCursor):
            subscriber.tokens("any", cursor=cursor)
