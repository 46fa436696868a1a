"""What our heartbeat repeats, and when it is silent."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.common import RawValue
from temporalio.converter import DataConverter, PayloadConverter
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityOutboundInterceptor

from temporal_token_interceptor import ConfigurationError, TokenStreamingInterceptor
from temporal_token_interceptor.worker.heartbeat import (
    AutomaticHeartbeats,
    HeartbeatRecorder,
    automatic_interval,
)


class Wire(ActivityOutboundInterceptor):
    """Keeps what was sent, decoded; tells when something is."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []
        self.beaten = asyncio.Event()

    def heartbeat(self, *details: Any) -> None:
        converter = DataConverter.default.payload_converter
        self.sent.append(converter.from_payloads(converter.to_payloads(details)))
        self.beaten.set()


def environment(**info: Any) -> ActivityEnvironment:
    """An activity to be in."""
    inside = ActivityEnvironment()
    for name, value in info.items():
        object.__setattr__(inside.info, name, value)
    return inside


async def test_an_object_that_changes_after_the_heartbeat_is_repeated_as_it_was():
    """I go on changing my progress object; what I have not said yet must not be taken for done."""

    async def work() -> list[list[Any]]:
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        progress = {"done": [1]}
        recorder.heartbeat(progress)
        progress["done"].append(2)
        recorder.repeat()
        return wire.sent

    assert await environment().run(work) == [[{"done": [1]}], [{"done": [1]}]]


async def test_what_the_attempt_before_left_is_repeated_until_there_is_news():
    """A retry that has not come to its first checkpoint keeps the old one, whatever I do to the object."""

    async def work() -> list[list[Any]]:
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        activity.info().heartbeat_details[0]["done"] = "changed"
        recorder.repeat()
        recorder.heartbeat()
        recorder.repeat()
        return wire.sent

    found = await environment(heartbeat_details=[{"done": 7}]).run(work)

    assert found == [[{"done": 7}], [], []]


class Stubborn(PayloadConverter):
    """A converter of the user's own, which knows nothing of raw values."""

    def to_payloads(self, values):
        if any(isinstance(value, RawValue) for value in values):
            raise TypeError("what is that?")
        return DataConverter.default.payload_converter.to_payloads(values)

    def from_payloads(self, payloads, type_hints=None):
        return DataConverter.default.payload_converter.from_payloads(payloads, type_hints)


async def test_a_converter_that_knows_no_raw_values_gets_the_details_themselves():
    """Our way to freeze details must not be what fails an activity with a converter of its own."""
    inside = environment()
    inside.payload_converter = Stubborn()

    async def work() -> list[list[Any]]:
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        recorder.heartbeat("half")
        recorder.repeat()
        return wire.sent

    assert await inside.run(work) == [["half"], ["half"]]


async def test_automatic_heartbeats_come_only_where_the_user_does_not():
    """An activity that beats often enough by itself gets no beat of ours."""

    async def work() -> list[list[Any]]:
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        async with AutomaticHeartbeats(recorder, 0.2, captured=lambda: 0) as heartbeats:
            heartbeats.begin()
            for number in range(8):
                recorder.heartbeat(number)
                await asyncio.sleep(0.04)
            wire.beaten.clear()
            async with asyncio.timeout(5):
                await wire.beaten.wait()
        return wire.sent

    assert await environment().run(work) == [[number] for number in range(8)] + [[7]]


async def test_a_stalled_activity_is_silent_until_something_is_captured():
    """Nothing captured for `stall_timeout`: silence. A token, and it goes on."""
    captured = 0

    async def work() -> tuple[int, int]:
        nonlocal captured
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        silent = asyncio.Event()
        skip = recorder.skip

        def tell_of_skip() -> None:
            skip()
            silent.set()

        recorder.skip = tell_of_skip  # type: ignore[method-assign]
        async with AutomaticHeartbeats(
            recorder, 0.02, captured=lambda: captured, stall_timeout=0.5
        ) as heartbeats:
            heartbeats.begin()
            async with asyncio.timeout(5):
                await silent.wait()
                before = len(wire.sent)
                captured = 1
                wire.beaten.clear()
                await wire.beaten.wait()
        return before, len(wire.sent)

    before, after = await environment().run(work)

    assert 0 < before < after


async def test_no_heartbeat_is_sent_before_a_model_is_called():
    """While my activity calls no model, its heartbeats are my own; the first call starts ours at once."""

    async def work() -> tuple[list[list[Any]], list[list[Any]]]:
        wire = Wire()
        recorder = HeartbeatRecorder(wire)
        async with AutomaticHeartbeats(recorder, 0.01, captured=lambda: 0) as heartbeats:
            await asyncio.sleep(recorder.due_in(0.1))  # ten intervals
            before = list(wire.sent)
            await asyncio.to_thread(heartbeats.begin)
            async with asyncio.timeout(5):
                await wire.beaten.wait()
        return before, wire.sent

    before, after = await environment().run(work)

    assert before == []
    assert after


async def test_an_activity_that_ends_before_any_call_leaves_no_task():
    """An activity without models costs one idle task, which is gone with it."""

    async def work() -> set[asyncio.Task[Any]]:
        before = asyncio.all_tasks()
        async with AutomaticHeartbeats(HeartbeatRecorder(Wire()), 0.01, captured=lambda: 0):
            await asyncio.sleep(0)
        return asyncio.all_tasks() - before

    assert await environment().run(work) == set()


@pytest.mark.parametrize(
    ("heartbeat", "timeout", "is_local", "interval"),
    [
        ("auto", 3, False, 1),
        ("auto", None, False, None),
        ("auto", 3, True, None),
        ("off", 3, False, None),
        (timedelta(seconds=2), None, False, 2),
        (timedelta(seconds=2), 3, False, 1),
        (timedelta(seconds=0.5), 3, False, 0.5),
    ],
)
def test_how_often_it_beats(heartbeat, timeout, is_local, interval):
    """A third of the timeout, or my own interval if that is shorter; never for a local activity."""
    inside = environment(heartbeat_timeout=timeout and timedelta(seconds=timeout), is_local=is_local)

    assert automatic_interval(inside.info, heartbeat) == interval


@pytest.mark.parametrize("options", [{"heartbeat": "on"}, {"heartbeat": timedelta(0)}, {"stall_timeout": 5}])
def test_an_interval_that_is_none_is_refused(options):
    """Seconds as a number, or a word that does not exist: an error where I write it."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        TokenStreamingInterceptor(**options)
