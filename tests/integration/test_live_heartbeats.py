"""Tokens live through Temporal alone: in the details of heartbeats, while the activity runs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    AttemptStarted,
    CallEnded,
    Event,
    Gap,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.encryption import AesCodec
from tests.support.streams import kinds, read_all, standing_text, unique
from tests.support.workflows import RunActivity

WORDS = [f"live{number} " for number in range(12)]
TEXT = "".join(WORDS)
DEADLINE = 20


@dataclass
class Answer:
    text: str
    custom_data: list[Any] | None = None


@asynccontextmanager
async def plugin_worker(client: Client, *activities: Any, **options: Any) -> AsyncIterator[str]:
    """A worker as users without Redis have it: the plugin, and nothing else."""
    queue = unique("live")
    with ThreadPoolExecutor(max_workers=8) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[RunActivity],
            activities=activities,
            activity_executor=threads,
            workflow_runner=UnsandboxedWorkflowRunner(),
            plugins=[TokenStreamingPlugin(**options)],
        ):
            yield queue


async def start(client: Client, queue: str, name: str, *arguments: Any) -> str:
    workflow_id = unique("live")
    await client.start_workflow(RunActivity.run, args=[name, *arguments], id=workflow_id, task_queue=queue)
    return workflow_id


async def until_token(client: Client, workflow_id: str, opened: Any) -> list[Event]:
    """Read to the end; open the gate of the activity once a token has come: only then can it end."""
    events = []
    async with asyncio.timeout(DEADLINE):
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, TokenEvent):
                opened()
    return events


async def event_types(client: Client, workflow_id: str) -> list[int]:
    return [e.event_type async for e in client.get_workflow_handle(workflow_id).fetch_history_events()]


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "thread"])
async def test_tokens_come_before_the_activity_ends(client, is_sync):
    """The activity waits for me to see its first words. I do, and then get the rest, each token once."""
    gate, thread_gate = asyncio.Event(), threading.Event()

    @activity.defn(name="talks")
    async def talks(argument: Any) -> str:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await gate.wait()
        return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text

    @activity.defn(name="talks")
    def talks_in_thread(argument: Any) -> str:
        ScriptedChatModel.saying(*WORDS).invoke("?")
        assert thread_gate.wait(DEADLINE)
        return str(ScriptedChatModel.saying(*WORDS).invoke("?").text)

    def opened() -> None:
        gate.set()
        thread_gate.set()

    async with plugin_worker(client, talks_in_thread if is_sync else talks) as queue:
        workflow_id = await start(client, queue, "talks")
        events = await until_token(client, workflow_id, opened)
        types = await event_types(client, workflow_id)

    async with plugin_worker(client, talks_in_thread if is_sync else talks, live="off") as queue:
        silent = await start(client, queue, "talks")
        await client.get_workflow_handle(silent).result()
        assert await event_types(client, silent) == types  # not one event more than without live streaming

    tokens = [event.token for event in events if isinstance(event, TokenEvent)]
    seen = "".join(tokens)
    # The result has no custom_data: what the last heartbeat could not show is a gap, and never silent.
    assert seen.startswith(TEXT)
    assert seen == TEXT * 2 or any(isinstance(event, Gap) for event in events)


async def test_what_heartbeats_did_not_show_comes_with_the_result(client):
    """With a custom_data I have everything, once, also where the activity ends in the same moment."""
    gate = asyncio.Event()

    @activity.defn
    async def talks(argument: Any) -> Answer:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await gate.wait()
        return Answer((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)

    async with plugin_worker(client, talks) as queue:
        workflow_id = await start(client, queue, "talks")
        events = await until_token(client, workflow_id, gate.set)
        late = await read_all(client, None, workflow_id)

    for got in (events, late):
        assert standing_text(got) == TEXT * 2
        assert not [event for event in got if isinstance(event, Gap)]
        assert kinds(got)[-2:] == ["AttemptEnded", "StreamEnded"]


async def test_a_retry_takes_back_what_the_first_attempt_showed(client):
    """The first attempt fails after its words were on my screen: they go, and those of the second stay."""
    gate = asyncio.Event()

    @activity.defn
    async def stumbles(argument: Any) -> Answer:
        answer = await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        if activity.info().attempt == 1:
            await gate.wait()
            raise RuntimeError("once")
        return Answer(answer.text)

    async with plugin_worker(client, stumbles) as queue:
        workflow_id = await start(client, queue, "stumbles", None, False, 2)
        events = await until_token(client, workflow_id, gate.set)

    attempts = [event for event in events if isinstance(event, AttemptStarted)]
    assert [event.origin.attempt for event in attempts] == [1, 2]
    assert attempts[1].supersedes == attempts[0].origin
    assert standing_text(events) == TEXT


@pytest.mark.parametrize("live", ["auto", "off"])
async def test_my_own_heartbeats_are_what_a_retry_sees(client, live):
    """I beat fifty times; the retry gets the fiftieth, and nothing else, whichever worker runs it."""
    seen: list[list[Any]] = []

    @activity.defn
    async def beats(argument: Any) -> Answer:
        seen.append(list(activity.info().heartbeat_details))
        model = ScriptedChatModel.saying(*WORDS)
        if activity.info().attempt == 1:
            for number in range(1, 51):
                activity.heartbeat("mine", {"number": number})
                if number % 10 == 0:
                    await model.ainvoke("?")
            raise RuntimeError("once")
        return Answer("done")

    async with plugin_worker(client, beats, live=live) as queue:
        workflow_id = await start(client, queue, "beats", None, False, 2)
        await client.get_workflow_handle(workflow_id).result()

    assert seen == [[], ["mine", {"number": 50}]]


async def test_a_reader_that_goes_on_in_mid_answer_replaces_it(client):
    """My page reloads while the model speaks: what I had of this attempt is taken back, and comes whole."""
    gate = asyncio.Event()

    @activity.defn
    async def talks(argument: Any) -> Answer:
        answer = await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await gate.wait()
        return Answer(answer.text)

    async with plugin_worker(client, talks) as queue, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, queue, "talks")
        seen: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            seen.append(event)
            if isinstance(event, TokenEvent):
                break
        shown = await TokenSubscriber(client).snapshot(workflow_id)
        rest = []
        async for event in TokenSubscriber(client).subscribe(workflow_id, cursor=seen[-1].cursor):
            rest.append(event)
            if isinstance(event, TokenEvent):
                gate.set()
        end = await read_all(client, None, workflow_id, cursor=rest[-1].cursor)

    assert shown.text
    assert TEXT.startswith(shown.text)
    assert isinstance(rest[0], AttemptStarted)
    assert rest[0].supersedes == rest[0].origin == seen[0].origin
    assert standing_text([*seen, *rest]) == TEXT
    assert standing_text(end) in ("", TEXT)


async def test_who_begins_now_gets_only_what_comes_from_now_on(client):
    """`start="now"` leaves out what the heartbeats already hold."""
    gate = asyncio.Event()

    @activity.defn
    async def talks(argument: Any) -> Answer:
        await ScriptedChatModel.saying("before").ainvoke("?")
        await gate.wait()
        return Answer((await ScriptedChatModel.saying("after").ainvoke("?")).text)

    async with plugin_worker(client, talks) as queue, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, queue, "talks")
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            if isinstance(event, CallEnded):
                break
        events: list[Event] = []
        reading = TokenSubscriber(client).subscribe(workflow_id, start="now")
        first = asyncio.ensure_future(anext(reading))
        subscribed = await TokenSubscriber(client).snapshot(
            workflow_id
        )  # as long as a look of `reading` takes
        gate.set()
        events = [await first, *[event async for event in reading]]

    assert subscribed.text == "before"
    assert [event.token for event in events if isinstance(event, TokenEvent)] == ["after"]


async def test_heartbeats_are_sealed_with_my_codec(client):
    """With a payload codec on my client Temporal stores no word of mine; my reader, who has it, sees them."""
    gate = asyncio.Event()

    @activity.defn
    async def talks(argument: Any) -> str:
        answer = await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await gate.wait()
        return str(answer.text)

    config = client.config()
    config["data_converter"] = DataConverter(payload_codec=AesCodec("live"))
    sealed = Client(**config)
    stored: list[bytes] = []

    async with plugin_worker(sealed, talks) as queue, asyncio.timeout(DEADLINE):
        workflow_id = await start(sealed, queue, "talks")
        tokens = ""
        async for event in TokenSubscriber(sealed).subscribe(workflow_id):
            if isinstance(event, TokenEvent):
                tokens += event.token
                if not gate.is_set():
                    described = await sealed.get_workflow_handle(workflow_id).describe()
                    stored = [
                        payload.SerializeToString()
                        for pending in described.raw_description.pending_activities
                        for payload in pending.heartbeat_details.payloads
                    ]
                    gate.set()

    assert tokens == TEXT
    assert len(stored) == 1
    assert b"live0" not in stored[0]


async def test_an_activity_without_a_model_does_not_beat(client):
    """Live streaming adds nothing to an activity that calls no model."""
    beaten: list[bool] = []

    @activity.defn
    async def quiet(argument: Any) -> int:
        info = activity.info()
        if info.attempt == 1:
            raise RuntimeError("once")
        described = await client.get_workflow_handle(info.workflow_id).describe()
        (pending,) = described.raw_description.pending_activities
        beaten.append(bool(pending.heartbeat_details.payloads))
        return info.attempt

    async with plugin_worker(client, quiet) as queue:
        workflow_id = await start(client, queue, "quiet", None, False, 2)
        await client.get_workflow_handle(workflow_id).result()

    assert beaten == [False]


async def test_my_own_heartbeat_of_two_megabytes_does_not_fail_my_activity(client, caplog):
    """Temporal takes mine, and would refuse ours beside it: tokens come with the result; the log says so."""
    large = "x" * 2_097_000

    @activity.defn
    async def talks(argument: Any) -> Answer:
        activity.heartbeat(large)
        text = (await ScriptedChatModel.saying(*WORDS, delay=0.05).ainvoke("?")).text
        assert activity.info().attempt == 1
        return Answer(text)

    async with plugin_worker(client, talks) as queue, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, queue, "talks")
        events = await read_all(client, None, workflow_id)

    assert standing_text(events) == TEXT
    assert events[-1].status == "completed"
    assert "tokens do not travel beside" in caplog.text
