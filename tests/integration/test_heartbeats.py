"""Heartbeats: a slow model trips no timeout, a checkpoint survives, a hung call still times out."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity

from temporal_token_interceptor import MemoryStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunBeating

TIMEOUT = 1.2  # seconds between two heartbeats
NEXT_BEATS = 1.2  # seconds: long enough for two beats of ours
# For what a beat keeps, not for when it is missed: fifty activities on a full machine may miss one of 1.2 s.
LONG_TIMEOUT = 10.0
OFTEN = timedelta(seconds=0.4)


@pytest.fixture
def backend():
    return MemoryStreamBackend()


# ---------------------------------------------------------------------- waiting for a model


@activity.defn
async def thinks_long(number: int) -> int:
    await ScriptedChatModel.saying("at last", delay=5 * TIMEOUT).ainvoke("?")
    return activity.info().attempt


@activity.defn
def thinks_long_in_thread(number: int) -> int:
    ScriptedChatModel.saying("at last", delay=5 * TIMEOUT).invoke("?")
    return activity.info().attempt


async def test_a_first_token_may_take_five_times_the_heartbeat_timeout(client, backend):
    """My model thinks for long. With the interceptor it takes one attempt; without, it times out."""
    names = ["thinks_long", "thinks_long_in_thread"]
    activities = [thinks_long, thinks_long_in_thread]

    async def run(**worker: Any) -> list[Any]:
        async with streaming_worker(client, worker.pop("backend"), activities, **worker) as queue:
            results: list[Any] = await client.execute_workflow(
                RunBeating.run, args=[names, TIMEOUT, 1], id=unique("thinks"), task_queue=queue
            )
            return results

    with_us, beatless, without = await asyncio.gather(
        run(backend=backend), run(backend=backend, heartbeat="off"), run(backend=None)
    )

    assert with_us == [1, 1]
    assert beatless == without == ["HEARTBEAT", "HEARTBEAT"]


@activity.defn
async def hangs_without_a_model(number: int) -> None:
    await asyncio.Event().wait()


@activity.defn
async def beats_once_and_hangs(number: int) -> None:
    activity.heartbeat("mine")
    await asyncio.Event().wait()


@pytest.mark.parametrize("options", [{}, {"heartbeat": timedelta(seconds=0.2)}], ids=["auto", "interval"])
async def test_a_hung_activity_that_calls_no_model_times_out_as_without_us(client, backend, options):
    """The SDK's own test of a heartbeat timeout holds with the interceptor: only calls of models beat."""
    activities = [hangs_without_a_model, beats_once_and_hangs]
    names = ["hangs_without_a_model", "beats_once_and_hangs"]

    async with streaming_worker(client, backend, activities, **options) as queue:
        results = await client.execute_workflow(
            RunBeating.run, args=[names, TIMEOUT, 1], id=unique("hung"), task_queue=queue
        )

    assert results == ["HEARTBEAT", "HEARTBEAT"]


@activity.defn
async def prepares_and_thinks(number: int) -> int:
    await asyncio.sleep(0.8 * TIMEOUT)
    await ScriptedChatModel.saying("at last", delay=2 * TIMEOUT).ainvoke("?")
    return activity.info().attempt


@pytest.mark.parametrize("options", [{}, {"nodes": ["another"]}], ids=["captured", "filtered"])
async def test_the_first_call_beats_at_once_also_where_it_is_not_captured(client, backend, options):
    """Late in the timeout my model is called; what I filter is not streamed, and beats all the same."""
    async with streaming_worker(client, backend, [prepares_and_thinks], **options) as queue:
        results = await client.execute_workflow(
            RunBeating.run, args=[["prepares_and_thinks"], TIMEOUT, 1], id=unique("late"), task_queue=queue
        )

    assert results == [1]


# ---------------------------------------------------------------------- checkpoints


@activity.defn
async def saves_progress(number: int) -> Any:
    if activity.info().attempt == 1:
        activity.heartbeat({"done": number}, "draft")
        await ScriptedChatModel.saying("a", "b", "c", delay=NEXT_BEATS / 3).ainvoke("?")
        raise RuntimeError("crash")
    return list(activity.info().heartbeat_details)


@activity.defn
def saves_progress_in_thread(number: int) -> Any:
    if activity.info().attempt == 1:
        activity.heartbeat({"done": number}, "draft")
        ScriptedChatModel.saying("a", "b", "c", delay=NEXT_BEATS / 3).invoke("?")
        raise RuntimeError("crash")
    return list(activity.info().heartbeat_details)


@pytest.mark.parametrize("name", ["saves_progress", "saves_progress_in_thread"], ids=["async", "thread"])
async def test_a_retry_finds_its_own_progress_fifty_times_out_of_fifty(client, backend, name):
    """I checkpoint with activity.heartbeat(progress) while a model streams; no beat of ours erases it."""
    activities = [saves_progress, saves_progress_in_thread]
    async with streaming_worker(client, backend, activities, heartbeat=OFTEN) as queue:
        found = await client.execute_workflow(
            RunBeating.run, args=[[name] * 50, LONG_TIMEOUT, 2], id=unique("progress"), task_queue=queue
        )

    assert found == [[{"done": number}, "draft"] for number in range(50)]


async def test_progress_outlives_attempts_that_save_none(client, backend):
    """An attempt that dies before its first checkpoint hands on the one it was given."""

    @activity.defn
    async def saves_once(number: int) -> Any:
        attempt = activity.info().attempt
        if attempt == 1:
            activity.heartbeat("half")
        if attempt < 4:
            await ScriptedChatModel.saying("a", delay=NEXT_BEATS / 2).ainvoke("?")
            raise RuntimeError("crash")
        return list(activity.info().heartbeat_details)

    async with streaming_worker(client, backend, [saves_once], heartbeat=OFTEN) as queue:
        found = await client.execute_workflow(
            RunBeating.run, args=[["saves_once"], LONG_TIMEOUT, 4], id=unique("once"), task_queue=queue
        )

    assert found == [["half"]]


# ---------------------------------------------------------------------- what is hung, still times out


async def test_a_call_that_hangs_times_out_where_stall_timeout_is_set(client, backend):
    """A model that says nothing any more is given up; one that speaks now and then is not."""
    ends: dict[str, float] = {}

    @activity.defn
    async def hangs(number: int) -> str:
        await ScriptedChatModel.saying("a", "b", delay=0.1).ainvoke("?")
        try:
            await asyncio.Event().wait()
        finally:
            ends["hangs"] = time.monotonic()
        return ""

    @activity.defn
    async def speaks_now_and_then(number: int) -> str:
        return (await ScriptedChatModel.saying(*"abcdefgh", delay=TIMEOUT / 2).ainvoke("?")).text

    begun = time.monotonic()
    names = ["hangs", "speaks_now_and_then"]
    options: dict[str, Any] = {"stall_timeout": timedelta(seconds=TIMEOUT)}
    async with streaming_worker(client, backend, [hangs, speaks_now_and_then], **options) as queue:
        results = await client.execute_workflow(
            RunBeating.run, args=[names, TIMEOUT, 1], id=unique("hangs"), task_queue=queue
        )

    assert results == ["HEARTBEAT", "abcdefgh"]
    assert ends["hangs"] - begun < 10 * TIMEOUT


async def test_activities_without_a_heartbeat_timeout_beat_only_where_asked(client, backend):
    """Nothing changes for an activity that has no heartbeat timeout, unless I give an interval."""

    @activity.defn
    async def waits(number: int) -> list[Any]:
        await ScriptedChatModel.saying("a", delay=0.5).ainvoke("?")
        return [task.get_name() for task in asyncio.all_tasks() if "heartbeats" in task.get_name()]

    found = []
    settings: tuple[dict[str, Any], ...] = ({}, {"heartbeat": timedelta(seconds=0.1)})
    for options in settings:
        async with streaming_worker(client, backend, [waits], **options) as queue:
            found += await client.execute_workflow(
                RunBeating.run, args=[["waits"], 0, 1], id=unique("asked"), task_queue=queue
            )

    assert list(map(len, found)) == [0, 1]
