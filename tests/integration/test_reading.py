"""What a reader is promised: from when, up to where, and how it learns that something is amiss."""

import asyncio
import logging
from collections import defaultdict
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client

from temporal_token_interceptor import (
    AttemptEnded,
    ConfigurationError,
    Gap,
    InvalidCursor,
    MemoryStreamBackend,
    RedisStreamBackend,
    RunContinued,
    StreamEnded,
    StreamKey,
    StreamNotFound,
    TokenEvent,
    TokensMissing,
    TokenStreamError,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from temporal_token_interceptor.reader.temporal.workflow_end import Completion
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import kinds, read_all, standing_text, streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity, RunMany, Waiting

WORDS = ["Each ", "to", "ken ", "once", "."]
TEXT = "".join(WORDS)


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text


@activity.defn
async def answer_at_second_try(argument: Any) -> str:
    pieces = [*WORDS[:2], ValueError("gone")] if activity.info().attempt == 1 else WORDS
    return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


# ---------------------------------------------------------------------- from where


async def test_a_reader_killed_after_any_event_goes_on_right_after_it(client, redis_url, backend):
    """Wherever my connection breaks: what I had and what I get next are, together, the whole stream."""
    workflow_id = unique("resume")
    async with streaming_worker(client, backend, [answer_at_second_try]) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_at_second_try", None, False, 2], id=workflow_id, task_queue=queue
        )
    whole = await read_all(client, backend, workflow_id)
    assert standing_text(whole) == TEXT

    for kept in range(len(whole) - 1):
        async with RedisStreamBackend(
            redis_url
        ) as another:  # a new process would have nothing but the cursor
            rest = await read_all(client, another, workflow_id, cursor=whole[kept].cursor)
        assert whole[: kept + 1] + rest == whole

    again = await read_all(client, backend, workflow_id, cursor=whole[-1].cursor)
    assert again == whole[-1:]


async def test_a_reader_killed_while_the_stream_is_live_misses_nothing(client, backend):
    """The same while the model still speaks: one reader, killed and resumed after each event."""

    @activity.defn
    async def long_answer(argument: Any) -> str:
        words = [f"{number} " for number in range(60)]
        return (await ScriptedChatModel.saying(*words, delay=0.005).ainvoke("?")).text

    workflow_id = unique("resume-live")
    async with streaming_worker(client, backend, [long_answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["long_answer"], id=workflow_id, task_queue=queue
        )
        events = []
        while not events or not isinstance(events[-1], StreamEnded):
            cursor = events[-1].cursor if events else None
            async with aclosing(
                TokenSubscriber(client, backend).subscribe(workflow_id, cursor=cursor)
            ) as stream:
                events.append(await anext(stream))
        text = await handle.result()

    assert "".join(event.token for event in events if isinstance(event, TokenEvent)) == text
    assert events == await read_all(client, backend, workflow_id)


async def test_a_reader_may_come_before_the_workflow(client, backend):
    """I may subscribe first and start the workflow then."""
    workflow_id = unique("early")
    async with streaming_worker(client, backend, [answer]) as queue:
        reading = asyncio.ensure_future(read_all(client, backend, workflow_id))
        await asyncio.sleep(0)
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)

        assert standing_text(await reading) == TEXT


async def test_a_reader_without_temporal_finds_the_run_and_ends_when_told(client, backend):
    """Where only Redis can be reached, the transport names the run and I say when it is enough."""
    workflow_id = unique("no-temporal")
    done = asyncio.Event()
    async with streaming_worker(client, backend, [answer]) as queue:
        subscriber = TokenSubscriber(None, backend, namespace=client.namespace)
        events = []

        async def read() -> None:
            async for event in subscriber.subscribe(workflow_id, until=done.wait()):
                events.append(event)
                if isinstance(event, AttemptEnded):
                    done.set()

        await asyncio.gather(
            read(),
            client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue),
        )

    assert standing_text(events) == TEXT
    assert events[-1].status == "unknown"


# ---------------------------------------------------------------------- up to where


async def test_the_stream_follows_continue_as_new(client, backend):
    """A workflow that continues as new is one stream to me; I am told where a run begins."""
    workflow_id = unique("continuing")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Continuing.run, args=["answer", 3], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id, run_id=handle.first_execution_run_id)

    runs = [event for event in events if isinstance(event, RunContinued)]
    assert len(runs) == 3
    assert standing_text(events) == TEXT * 4
    assert len({event.origin.run_id for event in events if event.origin}) == 4
    assert events[-1].status == "completed"

    from_third_run = await read_all(client, backend, workflow_id, cursor=runs[1].cursor)
    assert events[-len(from_third_run) :] == from_third_run
    assert standing_text(from_third_run) == TEXT * 2


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("well", "completed"),
        ("fail", "failed"),
        ("cancel", "canceled"),
        ("terminate", "terminated"),
        ("timeout", "timed_out"),
    ],
)
async def test_the_stream_ends_as_temporal_says(client, backend, end, status):
    """However the workflow closes, my `async for` ends, and its last event tells how."""
    workflow_id = unique("end")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Waiting.run,
            "answer",
            id=workflow_id,
            task_queue=queue,
            execution_timeout=timedelta(seconds=2) if end == "timeout" else None,
        )
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, AttemptEnded):
                if end == "cancel":
                    await handle.cancel()
                elif end == "terminate":
                    await handle.terminate()
                elif end != "timeout":
                    await handle.signal(Waiting.end, end)

    assert standing_text(events) == TEXT
    assert isinstance(events[-1], StreamEnded)
    assert events[-1].status == status


async def test_a_late_reader_can_have_all_runs_of_a_chain(client, backend):
    """My workflow continued as new twice, and I come when all is over: the whole story, or its last part."""
    workflow_id = unique("chain")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.execute_workflow(Continuing.run, args=["answer", 2], id=workflow_id, task_queue=queue)
    subscriber = TokenSubscriber(client, backend)

    assert await subscriber.text(workflow_id) == TEXT
    assert await subscriber.text(workflow_id, runs="all") == TEXT * 3
    events = await read_all(client, backend, workflow_id, runs="all")
    assert kinds(events).count("RunContinued") == 2
    parts = [chunk.text async for chunk, _ in subscriber.messages(workflow_id, runs="all")]
    assert "".join(parts) == TEXT * 3
    with pytest.raises(ConfigurationError, match='runs must be one of "newest", "all"'):
        subscriber.subscribe(workflow_id, runs="some")
    async with subscriber.run(workflow_id, runs="all") as run:
        assert [await call.text async for call in run.messages] == [TEXT] * 3
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(ConfigurationError, match="needs a Temporal client"):
        TokenSubscriber(None, backend).subscribe(workflow_id, runs="all", until=never)


async def test_the_oldest_run_that_temporal_knows_is_the_first(client, backend, monkeypatch):
    """Retention took the first run of the chain: `all` begins with the second."""
    workflow_id = unique("retention")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            Continuing.run, args=["answer", 2], id=workflow_id, task_queue=queue
        )
        await handle.result()
    subscriber = TokenSubscriber(client, backend)
    described = Completion._described

    async def forgetting(self, workflow_id, run_id):
        if run_id == handle.first_execution_run_id:
            raise StreamNotFound("forgotten")
        return await described(self, workflow_id, run_id)

    monkeypatch.setattr(Completion, "_described", forgetting)

    assert await subscriber.text(workflow_id, runs="all") == TEXT * 2


async def test_waiting_with_a_timeout_ends_no_subscription(client, backend):
    """I send a comment while nothing comes, as the docstring of `subscribe` says, and miss nothing."""
    workflow_id, pings, texts = unique("pings"), 0, list[str]()
    async with streaming_worker(client, backend, [answer]) as queue, asyncio.timeout(30):
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        async with aclosing(TokenSubscriber(client, backend).subscribe(workflow_id)) as events:
            task = asyncio.ensure_future(anext(events))
            while True:
                await asyncio.wait({task}, timeout=0.05)
                if not task.done():
                    pings += 1
                    if pings == 3:
                        await handle.signal(Waiting.end, "well")
                    continue
                event = task.result()
                if isinstance(event, TokenEvent):
                    texts.append(event.token)
                if isinstance(event, StreamEnded):
                    break
                task = asyncio.ensure_future(anext(events))

    assert pings >= 3
    assert "".join(texts) == TEXT
    assert event.status == "completed"


@pytest.mark.parametrize("view", ["subscribe", "tokens", "messages"])
async def test_a_wait_that_is_cancelled_ends_no_loop_in_silence(client, backend, view):
    """I wait by `wait_for(anext(...))`: the subscription ends there, and the next step says so, each time."""
    workflow_id = unique("cancelled")
    async with streaming_worker(client, backend, [answer]) as queue, asyncio.timeout(30):
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        events = getattr(TokenSubscriber(client, backend), view)(workflow_id)
        text: str = ""
        seen: Any = None
        while text != TEXT:
            seen = await anext(events)
            text += seen[0].text if view == "messages" else getattr(seen, "token", "")
        with suppress(TimeoutError):
            while True:  # the end of the call, and then nothing
                seen = await asyncio.wait_for(anext(events), 0.3)
        for _ in range(2):
            with pytest.raises(TokenStreamError, match="a wait for its next event was cancelled"):
                await anext(events)
        await events.aclose()
        await handle.signal(Waiting.end, "well")
        cursor = seen[1]["cursor"] if view == "messages" else seen.cursor
        rest = [
            event async for event in TokenSubscriber(client, backend).subscribe(workflow_id, cursor=cursor)
        ]
        whole = await read_all(client, backend, workflow_id)

    assert rest == whole[-len(rest) :]
    assert isinstance(rest[-1], StreamEnded)


async def test_a_subscription_that_was_left_or_read_to_its_end_has_just_ended(client, backend):
    """No error: there is nothing more, as of any iterator."""
    workflow_id = unique("left")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        read = TokenSubscriber(client, backend).subscribe(workflow_id)
        assert [type(event) async for event in read][-1] is StreamEnded
        left = TokenSubscriber(client, backend).subscribe(workflow_id)
        await anext(left)
        await left.aclose()

        assert [await anext(events, None) for events in (read, left)] == [None, None]


async def test_a_reset_workflow_is_followed_into_its_new_run(client, backend):
    """An operator resets the workflow: my stream goes on with the new run, which says it all again, once."""
    workflow_id = unique("reset")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, AttemptEnded):
                if not any(isinstance(e, RunContinued) for e in events):
                    await client.workflow_service.reset_workflow_execution(
                        ResetWorkflowExecutionRequest(
                            namespace=client.namespace,
                            workflow_execution=WorkflowExecution(
                                workflow_id=workflow_id, run_id=handle.first_execution_run_id
                            ),
                            reason="test",
                            workflow_task_finish_event_id=3,
                            request_id=workflow_id,
                        )
                    )
                else:
                    await client.get_workflow_handle(workflow_id).signal(Waiting.end, "well")

    assert [type(event) for event in events if isinstance(event, RunContinued)] == [RunContinued]
    assert standing_text(events) == TEXT
    assert events[-1].status == "completed"


async def test_a_reset_of_a_closed_workflow_is_followed(client, backend):
    """An operator resets a workflow that has failed: my cursor of its old run leads on into the new one."""
    workflow_id = unique("reset-closed")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        await handle.signal(Waiting.end, "well")
        await handle.result()
        before = await read_all(client, backend, workflow_id)
        await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(
                    workflow_id=workflow_id, run_id=handle.first_execution_run_id
                ),
                reason="test",
                workflow_task_finish_event_id=3,
                request_id=workflow_id,
            )
        )
        await client.get_workflow_handle(workflow_id).signal(Waiting.end, "well")
        rest = await read_all(client, backend, workflow_id, cursor=before[-1].cursor)

    assert kinds(rest)[0] == "RunContinued"
    assert standing_text(before) == standing_text(before + rest) == TEXT
    assert rest[-1].status == "completed"


# ---------------------------------------------------------------------- what is amiss


async def test_a_workflow_that_never_starts_is_not_found_after_the_deadline(client, backend):
    """Nobody starts it: after the deadline I get an error that names workflow and namespace."""
    subscriber = TokenSubscriber(client, backend, start_timeout=timedelta(milliseconds=200))

    with pytest.raises(StreamNotFound, match="'no-such-workflow' in namespace 'default'"):
        await anext(subscriber.subscribe("no-such-workflow"))


async def test_a_namespace_that_does_not_exist_fails_at_once(client, backend):
    """A wrong namespace will not appear by waiting: the error comes at once."""
    config = client.config() | {"namespace": "no-such-namespace"}
    subscriber = TokenSubscriber(Client(**config), backend, start_timeout=timedelta(hours=1))

    async with asyncio.timeout(5):
        with pytest.raises(StreamNotFound, match="no-such-namespace"):
            await anext(subscriber.subscribe("any"))


@pytest.mark.parametrize("cursor", ["0-0", "2~run~1-1~3", "1~run~entry", "1~~~-1", 7])
async def test_a_foreign_cursor_is_refused_before_anything_is_read(client, cursor):
    """A cursor that is not ours: an error at the call itself, naming it."""
    with pytest.raises(InvalidCursor, match="is not one of ours"):
        TokenSubscriber(client, MemoryStreamBackend()).subscribe("any", cursor=cursor)


async def test_foreign_and_broken_entries_are_skipped_and_logged_once(client, backend, redis_client, caplog):
    """Somebody else's entries in my stream cost me nothing but a log line."""
    workflow_id = unique("foreign")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
        )
        key = f"tti:v1:{{{client.namespace}/{workflow_id}/{handle.first_execution_run_id}}}"
        await redis_client.xadd(key, {"hello": "world"})
        await redis_client.xadd(key, {"f": b"\xff\x00 no json"})
        await redis_client.xadd(key, {"f": '{"v": 99, "a": "x", "n": 0, "e": []}'})
        await redis_client.xadd(key, {"f": '{"v": 1, "a": 7, "n": "zero"}'})
        await handle.result()
        await redis_client.xadd(key, {"f": "[]"})

    subscriber = TokenSubscriber(client, backend)
    with caplog.at_level(logging.WARNING):
        events = [event async for event in subscriber.subscribe(workflow_id)]

    assert standing_text(events) == TEXT
    assert kinds(events)[-1] == "StreamEnded"
    assert subscriber.statistics.unreadable == 5
    assert len([record for record in caplog.records if "skipping entry" in record.message]) == 1


async def test_without_redis_activities_run_as_if_we_were_not_there(client, caplog):
    """Redis is unreachable: my activities do what they always did, and the log says so once."""
    workflow_id = unique("no-redis")
    with caplog.at_level(logging.WARNING, logger="temporal_token_interceptor"):
        async with (
            RedisStreamBackend("redis://127.0.0.1:1") as nowhere,
            streaming_worker(client, nowhere, [answer], flush_timeout=timedelta(milliseconds=100)) as queue,
        ):
            result = await client.execute_workflow(
                RunMany.run, args=["answer", 20], id=workflow_id, task_queue=queue
            )

    assert result == 20
    assert len([r for r in caplog.records if "does not serve token streams" in r.message]) == 1


async def test_an_attempt_that_never_said_how_it_ended_shows_as_a_gap(client, backend):
    """A worker that died owes its last words: nobody knows them, and I am told so."""
    from temporal_token_interceptor.events import CallStarted, Frame, TextRun
    from temporal_token_interceptor.protocol.frames import encode
    from tests.support.frames import a_call, an_origin

    workflow_id = unique("died")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
        )
        origin = an_origin(workflow_id=workflow_id, run_id=handle.first_execution_run_id, activity_id="dead")
        said = (CallStarted(call=a_call()), TextRun("text", 0, 0, ["half a sen"], 1))
        await backend.write(StreamKey.of(origin), encode(Frame(origin, 0, said, header=True)))
        await handle.result()
        events = await read_all(client, backend, workflow_id)

    (gap,) = (event for event in events if isinstance(event, Gap))
    assert (gap.reason, gap.missing, gap.origin) == ("unended", None, origin)
    with pytest.raises(TokensMissing, match="unended"):  # a text with a hole is no text
        await TokenSubscriber(client, backend).text(workflow_id)


# ---------------------------------------------------------------------- at scale


async def test_200_streaming_activities_reach_20_subscribers_whole(client, backend):
    """200 activities at once, 100 tokens each, 20 readers: each has every token once, in order per call."""
    activities, tokens, readers = 200, 100, 20

    @activity.defn
    async def counting(number: int) -> None:
        await ScriptedChatModel.saying(*(f"{number}.{i} " for i in range(tokens)), delay=0.002).ainvoke("?")

    async def read() -> dict[str, list[str]]:
        calls: dict[str, list[str]] = defaultdict(list)
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            assert not isinstance(event, Gap)
            if isinstance(event, TokenEvent):
                assert event.index == len(calls[event.call.id])
                calls[event.call.id].append(event.token)
        return calls

    workflow_id = unique("many")
    # Workers and readers share a process: a busy one must not look like a transport that is away.
    async with streaming_worker(client, backend, [counting], flush_timeout=timedelta(seconds=20)) as queue:
        reading = [asyncio.ensure_future(read()) for _ in range(readers)]
        await client.execute_workflow(
            RunMany.run, args=["counting", activities], id=workflow_id, task_queue=queue
        )
        everything = await asyncio.gather(*reading)

    expected = {"".join(f"{number}.{i} " for i in range(tokens)) for number in range(activities)}
    for calls in everything:
        assert {"".join(call) for call in calls.values()} == expected
        assert len(calls) == activities


# ---------------------------------------------------------------------- nothing to read


async def test_a_workflow_that_says_nothing_is_wondered_at_once(client, backend, caplog):
    """A worker without the interceptor looks like a workflow without models; the log says where to look."""
    subscriber = TokenSubscriber(client, backend)
    async with streaming_worker(client, None, [answer]) as queue:
        for _ in range(2):
            workflow_id = unique("silent")
            await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
            (end,) = [event async for event in subscriber.subscribe(workflow_id)]
            assert end.status == "completed"

    assert caplog.text.count("has its worker a TokenStreamingInterceptor") == 1


async def test_whoever_cannot_wait_is_told_at_once(client, backend):
    """A web server answers 404 without asking Temporal by itself."""
    subscriber = TokenSubscriber(client, backend)

    async with asyncio.timeout(5):
        with pytest.raises(StreamNotFound, match=r"no workflow 'nobody' .* was started: check the id$"):
            await anext(subscriber.subscribe("nobody", start_timeout=timedelta(0)))


async def test_an_empty_cursor_is_the_start(client, backend):
    """What a browser sends on its first visit need not be told from None."""
    workflow_id = unique("empty")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)

        assert await read_all(client, backend, workflow_id, cursor="") == await read_all(
            client, backend, workflow_id
        )


async def test_a_cursor_of_another_workflow_is_named(client, backend):
    """Whoever mixes up two chats reads which of the two arguments is wrong."""
    workflow_ids = [unique("mixed"), unique("up")]
    async with streaming_worker(client, backend, [answer]) as queue:
        for workflow_id in workflow_ids:
            await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
    first, *_ = await read_all(client, backend, workflow_ids[0])

    with pytest.raises(StreamNotFound, match=f"the cursor is of run .*{workflow_ids[1]}"):
        await read_all(client, backend, workflow_ids[1], cursor=first.cursor)
    with pytest.raises(ConfigurationError, match="workflow_id must be a string"):
        await read_all(client, backend, client.get_workflow_handle(workflow_ids[0]))


async def test_an_event_is_printed_in_a_line(client, backend):
    """What I print first fits on my screen, and says who spoke."""
    workflow_id = unique("print")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        tokens = [e for e in await read_all(client, backend, workflow_id) if isinstance(e, TokenEvent)]

    assert f"origin=<answer 1, attempt 1, of {workflow_id}>" in repr(tokens[0])
    assert "call=<call 1:0 in answer>" in repr(tokens[0])


# ---------------------------------------------------------------------- bad input


def test_a_backend_that_is_none_is_refused():
    """Passing something that is no transport names the argument and what is expected."""
    with pytest.raises(ConfigurationError, match="backend must be a TokenSink such as"):
        TokenStreamingInterceptor("redis://localhost")
    with pytest.raises(ConfigurationError, match="backend must be a TokenSource such as"):
        TokenSubscriber(None, object())
    with pytest.raises(ConfigurationError, match=r"client must be a connected Temporal client, .* not str"):
        TokenSubscriber("localhost:7233")


async def test_without_a_client_nothing_says_when_a_text_is_whole():
    """I ask for the text of a workflow that nobody can say has ended: I am told, and get no half of it."""
    backend = MemoryStreamBackend()
    backend.keep(StreamKey("default", "workflow", "run"))
    subscriber = TokenSubscriber(None, backend)

    with pytest.raises(ConfigurationError, match="without a Temporal client"):
        await subscriber.text("workflow")
    with pytest.raises(ConfigurationError, match="without a Temporal client"):
        await anext(subscriber.tokens("workflow"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_buffered_bytes", 0),
        ("max_buffered_bytes", -1),
        ("flush_timeout", timedelta(seconds=-1)),
        ("flush_timeout", 2),
        ("force_streaming", "yes"),
        ("nodes", "model"),
        ("activities", "answer"),
    ],
)
def test_an_unusable_option_of_the_interceptor_is_named(option, value):
    """A bad value fails where it is given, and the message names the argument."""
    with pytest.raises(ConfigurationError, match=option):
        TokenStreamingInterceptor(MemoryStreamBackend(), **{option: value})


def test_an_unusable_option_of_the_subscriber_is_named(client):
    """Likewise on the reading side."""
    with pytest.raises(ConfigurationError, match="start_timeout"):
        TokenSubscriber(client, MemoryStreamBackend(), start_timeout=timedelta(seconds=-1))
    with pytest.raises(ConfigurationError, match="patience"):
        TokenSubscriber(client, MemoryStreamBackend(), patience=5)
    with pytest.raises(ConfigurationError, match="until"):
        TokenSubscriber(None, MemoryStreamBackend()).subscribe("any")
