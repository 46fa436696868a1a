"""A transport that is away, and heartbeats that stand in for it: nothing is lost, doubled or out of order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import CallEnded, CallStarted, Frame, TokenEvent
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.reader.live_mark import LiveMark, live_id
from temporal_token_interceptor.transport.heartbeat import frames_in
from temporal_token_interceptor.worker import fallback_session
from temporal_token_interceptor.worker.fallback_session import FallbackSession
from temporal_token_interceptor.worker.live_session import HeartbeatSink
from tests.support.frames import a_call, an_origin
from tests.unit.test_session import FOREVER, Sink


class Beats:
    """What an attempt's heartbeats would have carried: the newest detail of each."""

    before: tuple[Frame, ...] = ()
    is_crowded = False

    def __init__(self) -> None:
        self.detail: Any = None
        self.sent: list[Any] = []
        self.changed = asyncio.Event()

    def carry(self, detail: Any) -> None:
        self.detail = detail

    def repeat(self) -> None:
        self.sent.append(self.detail)
        self.changed.set()


@pytest.fixture
def sink(monkeypatch):
    monkeypatch.setattr(fallback_session, "AWAY_SECONDS", 0.01)
    return Sink()


@asynccontextmanager
async def a_session(sink: Sink) -> AsyncIterator[tuple[FallbackSession, Beats]]:
    """A session within its block, and what its heartbeats carry; no task is left of it."""
    beats: Any = Beats()
    session = FallbackSession(
        an_origin(),
        sink,
        heartbeats=HeartbeatSink(beats),
        interval=timedelta(milliseconds=1),
        budget=Budget(2**20),
        flush_timeout=FOREVER,
    )
    session.begin()
    async with session:
        yield session, beats
    assert len(asyncio.all_tasks()) == 1


def say(session: FallbackSession, *texts: str, first: int = 0) -> None:
    for index, text in enumerate(texts, first):
        session.buffer.put_text(a_call(), "text", index, text)


def text_of(packets: Any) -> str:
    """What a reader makes of packets, each once."""
    attempts = Attempts("run")
    events = [event for place, packet in enumerate(packets) for event in attempts.read(str(place), packet)]
    assert [event.call.node_name for event in events if isinstance(event, TokenEvent)].count("") == 0
    return "".join(event.token for event in events if isinstance(event, TokenEvent))


async def test_what_waits_is_in_heartbeats_and_then_in_the_transport(sink):
    """While it is away I see the words in heartbeats; once it is back it has all of them, in their order."""
    sink.block()
    async with a_session(sink) as (session, beats):
        session.buffer.put(CallStarted(call=a_call()), a_call())
        say(session, "one ", "two ")
        await beats.changed.wait()
        assert text_of(decode(frame) for frame in frames_in(beats.sent[-1])) == "one two "

        sink.unblock()
        await sink.until(lambda: not session.is_away)
        count = len(beats.sent)
        say(session, "three", first=2)
        await session.finish("completed_provisional")

        assert len(beats.sent) == count  # the transport alone carries what came after
    assert text_of(sink.stored) == "one two three"
    assert [packet.seq for packet in sink.stored] == sorted(packet.seq for packet in sink.stored)
    assert session.take_undelivered() == ()


async def test_what_the_transport_never_took_is_left_for_the_result(sink):
    """It stays away: every frame is left, in order, and each can be read by itself."""
    sink.block()
    async with a_session(sink) as (session, _):
        session.buffer.put(CallStarted(call=a_call()), a_call())
        say(session, "one ")
        await sink.until(lambda: len(sink.begun) == 1)
        say(session, "two", first=1)
        session.buffer.put(CallEnded(call=a_call()), a_call())
        await session.finish("completed_provisional")

        left = session.take_undelivered()

    assert all(frame.header for frame in left)
    assert text_of(decode(encode(frame)) for frame in left) == "one two"
    assert [frame.seq for frame in left] == list(range(len(left)))
    assert session.take_undelivered() == ()


async def test_an_outage_in_the_midst_of_a_call_keeps_its_facts(sink):
    """The first frame that only heartbeats have names the call that began before it."""
    async with a_session(sink) as (session, beats):
        session.buffer.put(CallStarted(call=a_call()), a_call())
        say(session, "one ")
        await sink.until(lambda: bool(sink.stored))
        sink.failure = TokenStreamError("refused")
        say(session, "two", first=1)
        await beats.changed.wait()
        found = [decode(frame) for frame in frames_in(beats.sent[-1])]
        await session.finish("completed_provisional")

    assert text_of(found) == "two"
    assert [call.node_name for call in found[0].open_calls] == ["answer"]


async def test_a_session_that_is_left_leaves_no_task(sink):
    """The activity dies in the outage: what offered the frames to the transport ends with it."""
    sink.block()
    async with a_session(sink) as (session, beats):
        session.buffer.put(CallStarted(call=a_call()), a_call())
        await beats.changed.wait()
        assert session.is_away


@pytest.mark.parametrize(
    ("seq", "position", "known"), [(0, 5, 999_999_999), (1, 5, 5), (2, 5, -1), (1, 999_999_999, 999_999_999)]
)
def test_a_frame_of_a_heartbeat_marks_what_was_shown_of_its_attempt(seq, position, known):
    """Frames before it are known, of itself what came up to the event, and nothing of those after it."""
    origin = an_origin()
    mark = LiveMark(live_id(origin.started_time, 1), position)

    def packet(number: int, **changes: Any) -> Any:
        return decode(encode(Frame(an_origin(**changes), number, (), header=True)))

    assert mark.known(packet(seq)) == known
    assert mark.known(packet(seq, attempt_id="other", started=1)) == -1
    assert mark.started_time == origin.started_time
    assert mark.whole == live_id(origin.started_time, 1 if position > 5 else 0)
