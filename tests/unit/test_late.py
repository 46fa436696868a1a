"""What an attempt leaves behind is told once the transport takes it, within a bound of memory and of time."""

import asyncio
from datetime import timedelta

import pytest

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import AttemptEnded, Frame, TextRun
from temporal_token_interceptor.protocol.frames import Packet, decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.worker import redelivery as late
from temporal_token_interceptor.worker.redelivery import LateFrames
from tests.support.frames import an_origin

END = AttemptEnded(outcome="failed")


class Sink:
    """A transport that is away until the test opens it, and refuses one stream."""

    def __init__(self) -> None:
        self.keep_interval = timedelta(days=1)
        self.stored: list[Packet] = []
        self.open = asyncio.Event()

    async def write(self, stream: StreamKey, data: bytes) -> None:
        await self.open.wait()
        if stream.workflow_id == "refused":
            raise TokenStreamError("refused")
        self.stored.append(decode(data))

    def keep(self, stream: StreamKey) -> None:
        """Nothing expires."""

    async def close(self) -> None:
        """Nothing to let go of."""


def frame(text: str, number: int = 0, **origin: str) -> Frame:
    run = TextRun("text", 0, 0, [text] * 3, 3)
    return Frame(an_origin(attempt_id=f"{number:016x}", **origin), 5, (run, END), header=True)


async def all_is_told() -> None:
    """Wait until the task that tells has nothing more to do."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "token-stream late frames"]
    await asyncio.wait(tasks, timeout=10)


async def test_it_comes_with_its_own_numbers_once_the_transport_is_back():
    """Frames of several attempts, in order; what one stream refuses holds up no other."""
    sink = Sink()
    left = LateFrames(sink)
    left.leave([frame("a", 1), frame("b", 2)], None)
    left.leave([frame("c", 3, workflow_id="refused"), frame("d", 4)], None)
    await asyncio.sleep(0)
    assert not sink.stored

    sink.open.set()
    await all_is_told()

    assert [(packet.attempt_id[-1], packet.seq) for packet in sink.stored] == [("1", 5), ("2", 5), ("4", 5)]
    assert sink.stored[0].events[0] == ["text", 0, 0, ["a", "a", "a"]]
    assert repr(left) == "<LateFrames 0 waiting, 0 bytes, 1 dropped>"


async def test_what_is_long_is_counted():
    """Of a long frame is kept how much was in it, and how the attempt ended."""
    sink = Sink()
    LateFrames(sink).leave([frame("x" * 70_000)], None)

    sink.open.set()
    await all_is_told()

    assert [packet.events for packet in sink.stored] == [
        [["gap", None, 3, "overflow"], ["attempt_end", "failed", None]]
    ]


async def test_an_outage_costs_bounded_memory():
    """However many attempts end in it."""
    sink = Sink()
    left = LateFrames(sink)
    for number in range(40_000):
        left.leave([frame("x" * 1_000, number)], None)

    assert left._bytes <= 4 * 1024 * 1024
    assert left.dropped > 0
    assert len(left._left) + left.dropped == 40_000

    sink.open.set()
    await all_is_told()
    assert left._bytes == 0


async def test_nobody_waits_for_ever_for_a_transport(monkeypatch):
    """What was kept for too long is given up."""
    monkeypatch.setattr(late, "PATIENCE", timedelta(seconds=0.05))
    left = LateFrames(Sink())
    left.leave([frame("a")], None)

    await all_is_told()

    assert repr(left) == "<LateFrames 0 waiting, 0 bytes, 1 dropped>"


@pytest.mark.parametrize("frames", [[], [frame("a")]])
async def test_it_has_a_task_only_while_there_is_something(frames):
    """An attempt that was delivered costs nothing."""
    sink = Sink()
    sink.open.set()

    LateFrames(sink).leave(frames, None)

    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "token-stream late frames"]
    assert len(tasks) == len(frames)
    if tasks:
        await all_is_told()


async def test_closing_delivers_what_it_can_and_counts_the_rest(caplog):
    """My worker stops: what the transport takes is sent, the rest is one warning, and no task stays."""
    sink = Sink()
    left = LateFrames(sink)
    left.leave([frame("a", 1), frame("b", 2)], None)
    await asyncio.sleep(0)

    await left.close(0.05)

    assert repr(left) == "<LateFrames 0 waiting, 0 bytes, 2 dropped>"
    assert [record.message for record in caplog.records if "2 so far" in record.message]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "token-stream late frames"]

    sink.open.set()
    left.leave([frame("c", 3)], None)
    await left.close(5)

    assert [packet.attempt_id[-1] for packet in sink.stored] == ["3"]
    assert left.dropped == 2
