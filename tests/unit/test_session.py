"""One attempt's pipeline, with a sink that the test holds in its hand: no server, and no waiting for time."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import ProtocolError, TokenStreamError
from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    Frame,
    Gap,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import Packet, decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.protocol.text_check import TextDigest
from temporal_token_interceptor.telemetry.attempt import NoTelemetry
from temporal_token_interceptor.transport.base import (
    EntrySource,
    FetchingSink,
    TokenSink,
    fetching,
    hurry,
    opened,
)
from temporal_token_interceptor.transport.redis.pending import Written
from temporal_token_interceptor.worker.fetched_session import FetchedSession, session_to
from temporal_token_interceptor.worker.plugin import _SharedSink
from temporal_token_interceptor.worker.session import Session
from tests.support.eager import eager_tasks
from tests.support.frames import a_call, an_origin

FOREVER = timedelta(days=1)  # longer than any test may take: what is waited for comes by itself
AT_ONCE = timedelta(0)


class Sink:
    """A transport whose writes succeed, wait or fail as the test says."""

    def __init__(self) -> None:
        self.keep_interval = FOREVER
        self.begun: list[Packet] = []
        self.stored: list[Packet] = []
        self.kept: list[StreamKey] = []
        self.failure: BaseException | None = None
        self.closed = False
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()

    async def write(self, stream: StreamKey, data: bytes) -> None:
        packet = decode(data)
        self.begun.append(packet)
        self._tell()
        if self.failure is not None:
            raise self.failure
        await self._open.wait()
        self.stored.append(packet)
        self._tell()

    def keep(self, stream: StreamKey) -> None:
        self.kept.append(stream)
        self._tell()

    async def close(self) -> None:
        self.closed = True

    def block(self) -> None:
        """From now on writes wait: the transport is away."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait for something that only a write or a `keep` can make true."""
        while not fact():
            self._changed.clear()
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()


class Fetching(Sink):
    """The same, by a transport that fetches what it can send."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: set[asyncio.Task[None]] = set()

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(self._fetch(stream, source)))

    async def _fetch(self, stream: StreamKey, source: EntrySource) -> None:
        while (data := source.take()) is not None:
            try:
                await self.write(stream, data)
            except Exception as error:  # noqa: BLE001 - what the test says
                source.failed(error)
                return
            source.stored()


class Stage:
    """A session to be, its sink and its budget."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.budget = Budget(2**20)

    def session(self, *, attempt: int = 1, flush_timeout: timedelta = FOREVER) -> Session:
        origin = an_origin(attempt=attempt)
        return session_to(origin, self.sink, budget=self.budget, flush_timeout=flush_timeout)


@pytest.fixture(params=[Sink, Fetching])
async def stage(request):
    """After a session, however it ended: no task of it runs, and no memory is leased."""
    stage = Stage(request.param())
    yield stage
    for task in getattr(stage.sink, "tasks", ()):
        task.cancel()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("token-stream")] == []
    assert stage.budget.leased == 0


@pytest.fixture
def sink(stage):
    return stage.sink


CALL = a_call()


def say(session: Session, text: str, index: int = 0, call: Call = CALL) -> None:
    session.buffer.put_text(call, "text", index, text)


def said(packets: list[Packet]) -> list[list[str]]:
    """The texts of each frame."""
    return [
        [text for event in packet.events if event[0] == "text" for text in event[3]] for packet in packets
    ]


def warnings_in(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ------------------------------------------------------------------ batches


async def test_the_sink_of_these_tests_is_a_sink(sink):
    assert isinstance(sink, TokenSink)
    assert isinstance(sink, FetchingSink) is isinstance(sink, Fetching)


async def test_the_first_record_leaves_at_once(stage, sink):
    """A single token is written without waiting for a second one, or for a timer."""
    async with stage.session() as session:
        say(session, "a")
        await sink.until(lambda: said(sink.stored) == [["a"]])
        await session.finish("completed_provisional")


async def test_what_was_put_before_it_began_leaves_at_once(stage, sink):
    """A record that comes before its session does not wait for the next one."""
    session = stage.session()
    say(session, "a")
    async with session:
        await sink.until(lambda: said(sink.stored) == [["a"]])
        await session.finish("completed_provisional")


async def test_what_gathers_during_a_write_leaves_in_the_next_frame(stage, sink):
    """Load makes the batches: a slow transport gets fewer, larger frames."""
    async with stage.session() as session:
        sink.block()
        say(session, "a")
        await sink.until(lambda: len(sink.begun) == 1)
        for index, text in enumerate("bcd", start=1):
            say(session, text, index)
        sink.unblock()
        await sink.until(lambda: len(sink.stored) == 2)
        await session.finish("completed_provisional")

    assert said(sink.stored) == [["a"], ["b", "c", "d"], []]


async def test_an_activity_that_never_gives_way_is_sent_all_the_same(stage, sink):
    """A sync model in an async activity may end before the session's task had a chance to begin."""
    async with stage.session() as session:
        say(session, "a")
        await session.finish("completed_provisional")

    assert said(sink.stored) == [["a"], []]
    assert session.statistics.undelivered == 0


async def test_what_is_put_from_a_thread_is_sent(stage, sink):
    """Sync nodes speak on worker threads; the loop is woken."""
    async with stage.session() as session:
        await asyncio.to_thread(say, session, "a")
        await sink.until(lambda: said(sink.stored) == [["a"]])
        await asyncio.to_thread(say, session, "b", 1)
        await sink.until(lambda: said(sink.stored) == [["a"], ["b"]])
        await session.finish("completed_provisional")


@pytest.mark.parametrize("make", [Sink, Fetching])
def test_a_thread_that_outlives_the_loop_may_still_put(make):
    """A sync activity's thread that goes on after the worker has gone does not crash by us."""

    async def begin() -> Session:
        return Stage(make()).session()

    session = asyncio.run(begin())
    failures: list[BaseException] = []

    def put() -> None:
        try:
            say(session, "a")
        except BaseException as failure:  # noqa: BLE001 - whatever it is, it must not be
            failures.append(failure)

    thread = threading.Thread(target=put)
    thread.start()
    thread.join()

    assert failures == []
    assert len(session.buffer) == 1


# ------------------------------------------------------------------ numbers and headers


async def test_frames_are_numbered_without_holes_and_headers_recur(stage, sink):
    """A reader may begin at any header: the first frame, every 64th and the last."""
    async with stage.session() as session:
        for index in range(130):
            say(session, str(index), index)
            await sink.until(lambda expected=index + 1: len(sink.stored) == expected)
        await session.finish("completed_provisional")

    assert [packet.seq for packet in sink.stored] == list(range(131))
    assert [packet.seq for packet in sink.stored if packet.origin] == [0, 64, 128, 130]
    assert all(packet.origin == session.origin for packet in sink.stored if packet.origin)
    assert session.statistics.frames == 131


async def test_a_header_names_the_calls_that_started_in_earlier_frames(stage, sink):
    """Who begins to read at a header knows whose text follows; ended calls are not named."""
    first, second = a_call(ordinal=0), a_call(ordinal=1, node_name="other")

    async with stage.session() as session:
        session.buffer.put(CallStarted(call=first), first)
        session.buffer.put(CallStarted(call=second), second)
        await sink.until(lambda: len(sink.stored) == 1)
        session.buffer.put(CallEnded(call=first), first)
        await sink.until(lambda: len(sink.stored) == 2)
        for index in range(62):
            say(session, str(index), index, second)
            await sink.until(lambda expected=index + 3: len(sink.stored) == expected)
        say(session, "62", 62, second)
        await sink.until(lambda: len(sink.stored) == 65)
        session.buffer.put(CallEnded(call=second), second)
        await session.finish("completed_provisional")

    headers = {
        packet.seq: [call.node_name for call in packet.open_calls] for packet in sink.stored if packet.origin
    }
    assert headers == {0: [], 64: ["other"], 65: ["other"], 66: []}


async def test_the_end_says_how_the_attempt_ended(stage, sink):
    """The last event is the worker's word on the outcome."""
    async with stage.session() as session:
        say(session, "a")
        await session.finish("failed", will_retry=True)

    assert sink.stored[-1].events == [["attempt_end", "failed", True]]


async def test_a_first_attempt_that_says_nothing_leaves_no_trace(stage, sink):
    """An activity that calls no model writes nothing, and keeps nothing alive."""
    async with stage.session() as session:
        await session.finish("completed_provisional")

    assert sink.begun == []
    assert sink.kept == []


async def test_a_retry_announces_itself_at_once(stage, sink):
    """Readers take back what the attempt before had said, long before the new one speaks."""
    async with stage.session(attempt=2) as session:
        await sink.until(lambda: len(sink.stored) == 1)
        await session.finish("completed_provisional")

    announced, ended = sink.stored
    assert announced.origin == session.origin
    assert announced.events == []
    assert ended.events == [["attempt_end", "completed_provisional", None]]


async def test_a_retry_that_ends_at_once_has_announced_itself(stage, sink):
    """Even an attempt that fails before anything else runs takes its predecessor's text back."""
    async with stage.session(attempt=2) as session:
        await session.finish("failed")

    assert [packet.events for packet in sink.stored] == [[], [["attempt_end", "failed", None]]]


# ------------------------------------------------------------------ keeping the stream


async def test_a_silent_stream_is_kept_by_time(stage, sink):
    """A model that thinks for ten minutes does not lose its stream; it is kept from its first frame on."""
    sink.keep_interval = timedelta(milliseconds=1)

    async with stage.session() as session:
        assert sink.kept == []
        say(session, "a")
        await sink.until(lambda: len(sink.stored) == 1)
        assert sink.kept
        await sink.until(lambda: len(sink.kept) >= 4)
        await session.finish("completed_provisional")

    assert set(sink.kept) == {StreamKey.of(session.origin)}
    assert len(sink.stored) == 2


async def test_nothing_is_kept_after_the_end(stage, sink):
    """The stream's own lifetime takes over: no timer of ours goes on."""
    sink.keep_interval = timedelta(milliseconds=1)
    async with stage.session() as session:
        say(session, "a")
        await session.finish("completed_provisional")

    kept = len(sink.kept)
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, rung.set)  # later than the next `keep` would have been
    await rung.wait()

    assert len(sink.kept) == kept


# ------------------------------------------------------------------ a transport that is away


async def test_the_end_waits_for_the_last_tokens(stage, sink):
    """While the transport is slow, `finish` waits: nothing is lost that could have been stored."""
    async with stage.session() as session:
        sink.block()
        say(session, "a")
        finishing = asyncio.create_task(session.finish("completed_provisional"))
        await sink.until(lambda: len(sink.begun) == 1)
        say(session, "b", 1)
        assert not finishing.done()
        sink.unblock()
        await finishing

    assert said(sink.stored) == [["a"], ["b"], []]
    assert session.statistics.undelivered == 0


@pytest.mark.parametrize("flush_timeout", [AT_ONCE, timedelta(milliseconds=20)])
async def test_the_end_waits_no_longer_than_it_may(stage, sink, flush_timeout):
    """The transport stays away: the activity ends after `flush_timeout`, and what was lost is counted."""
    async with stage.session(flush_timeout=flush_timeout) as session:
        sink.block()
        say(session, "a")
        await sink.until(lambda: len(sink.begun) == 1)
        say(session, "b", 1)
        await session.finish("completed_provisional")

    assert sink.stored == []
    assert session.statistics.frames == 0
    assert session.statistics.undelivered == 2


@pytest.mark.parametrize(
    "failure", [ProtocolError("refused"), ValueError("a bug"), ConnectionError("away")], ids=repr
)
async def test_a_sink_that_fails_is_logged_once_and_harms_nobody(stage, sink, caplog, failure):
    """The activity runs on and ends at once; nothing more is stored in memory for it."""
    async with stage.session() as session:
        sink.failure = failure
        say(session, "a")
        await sink.until(lambda: len(sink.begun) == 1)
        await asyncio.sleep(0)
        for index in range(1, 1000):
            say(session, "b", index)
        await session.finish("completed_provisional")

    assert len(sink.begun) == 1
    assert len(session.buffer) == 0
    assert session.statistics.undelivered == 1
    (warning,) = warnings_in(caplog)
    assert "'answer' (1) of 'wf'" in warning
    assert isinstance(failure, TokenStreamError) is ("refused" in warning)


async def test_a_sink_that_cannot_keep_harms_nobody(stage, sink, caplog, monkeypatch):
    """Also `keep` is somebody else's code."""

    def broken(stream: StreamKey) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sink, "keep", broken)
    async with stage.session() as session:
        say(session, "a")
        await session.finish("completed_provisional")

    assert len(warnings_in(caplog)) == 1


async def test_a_frame_that_cannot_be_encoded_harms_nobody(stage, sink, caplog, monkeypatch):
    """A bug of ours costs tokens and a line in the log, never an activity."""

    def broken(frame: Frame) -> bytes:
        raise TypeError("a bug")

    monkeypatch.setattr("temporal_token_interceptor.worker.session.encode", broken)
    async with stage.session() as session:
        say(session, "a")
        await session.finish("completed_provisional")

    assert len(warnings_in(caplog)) == 1
    assert session.statistics.undelivered == 1


# ------------------------------------------------------------------ cancellation


class Activity:
    """An activity as the interceptor runs it: says something, works until `done`, returns 7."""

    def __init__(self, session: Session, *, saying: str = "") -> None:
        self.done = asyncio.Event()
        self.finishing = asyncio.Event()
        self._session = session
        self._saying = saying
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> int:
        async with self._session as session:
            if self._saying:
                say(session, self._saying)
            try:
                await self.done.wait()
            except asyncio.CancelledError:
                self.finishing.set()
                await session.finish("cancelled")
                raise
            self.finishing.set()
            await session.finish("completed_provisional")
            return 7


async def test_cancelled_while_silent(stage, sink):
    """The session's task waits for a first token that never comes."""
    activity = Activity(stage.session())
    await asyncio.sleep(0)

    activity.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await activity.task

    assert sink.begun == []


async def test_cancelled_after_a_token(stage, sink):
    """What was said is stored, and so is the end."""
    activity = Activity(stage.session(), saying="a")
    await sink.until(lambda: len(sink.stored) == 1)

    activity.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await activity.task

    assert sink.stored[-1].events == [["attempt_end", "cancelled", None]]


async def test_cancelled_while_the_transport_is_away(stage, sink):
    """The cancellation waits for the flush within its bound, then leaves as it came."""
    sink.block()
    activity = Activity(stage.session(flush_timeout=timedelta(milliseconds=20)), saying="a")
    await sink.until(lambda: len(sink.begun) == 1)

    activity.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await activity.task

    assert sink.stored == []


async def test_a_cancellation_that_comes_too_late_changes_no_result(stage, sink):
    """The activity has its result and waits for its last tokens: the wait ends, the result stands."""
    sink.block()
    activity = Activity(stage.session(), saying="a")
    await sink.until(lambda: len(sink.begun) == 1)
    activity.done.set()
    await activity.finishing.wait()

    activity.task.cancel()

    assert await activity.task == 7
    assert activity.task.cancelling() == 0


async def test_a_second_cancellation_ends_the_wait_of_the_first(stage, sink):
    """Cancelled, and cancelled again while the last tokens are flushed: it is cancelled, at once."""
    sink.block()
    activity = Activity(stage.session(), saying="a")
    await sink.until(lambda: len(sink.begun) == 1)
    activity.task.cancel()
    await activity.finishing.wait()

    activity.task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await activity.task


@pytest.mark.parametrize("stage", [Sink], indirect=True)  # who fetches is not cancelled
async def test_a_cancellation_while_the_sink_lets_go_changes_no_result(stage, sink, monkeypatch):
    """The flush was given up, the sink takes its time to stop, and only now the activity is cancelled."""
    letting_go = asyncio.Event()

    async def slow_to_stop(stream: StreamKey, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            letting_go.set()
            for _ in range(5):
                await asyncio.sleep(0)

    monkeypatch.setattr(sink, "write", slow_to_stop)
    activity = Activity(stage.session(flush_timeout=timedelta(milliseconds=1)), saying="a")
    activity.done.set()
    await letting_go.wait()

    activity.task.cancel()

    assert await activity.task == 7
    assert activity.task.cancelling() == 0


async def test_a_session_that_is_left_without_its_end_frees_everything(stage, sink):
    """`finish` was never reached, the task never began: what was put is counted, and its memory free."""
    async with stage.session() as session:
        say(session, "a")
        assert stage.budget.leased > 0

    assert sink.begun == []
    assert session.statistics.undelivered == 1


async def test_it_tells_its_state(stage):
    """`repr` is what a debugger, and a log line, shows."""
    async with stage.session() as session:
        running = repr(session)
        await session.finish("completed_provisional")

    assert running == "<Session 00000000000000aa running, 0 frames, 0 records waiting>"
    assert repr(session) == "<Session 00000000000000aa ended, 0 frames, 0 records waiting>"


# ------------------------------------------------------------------ what was not delivered


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("confirms", [True, False], ids=["confirmed", "stored-without-a-word"])
async def test_what_was_stored_and_what_was_left_are_the_whole_attempt(stage, sink, taken, confirms):
    """Wherever the transport goes away: its frames and the undelivered ones, read together, miss nothing."""
    async with stage.session(flush_timeout=AT_ONCE) as session:
        session.buffer.put(CallStarted(call=CALL), CALL)
        for index in range(4):
            if index == taken:
                sink.block()
            begun = len(sink.begun)
            say(session, f"{index} ", index)
            if index <= taken:
                await sink.until(lambda begun=begun: len(sink.begun) > begun)
        session.buffer.put(CallEnded(call=CALL), CALL)
        await session.finish("completed_provisional")

    stored = sink.stored if confirms else sink.begun
    left = [decode(encode(frame)) for frame in session.take_undelivered()]
    attempts = Attempts("run")
    events = [
        event
        for entry, packet in enumerate([*stored, *left])
        for event in attempts.read(f"{entry:03}", packet)
    ]
    checks = {tuple(form) for packet in (*stored, *left) for form in packet.events if form[0] == "check"}
    assert "".join(event.token for event in events if isinstance(event, TokenEvent)) == "0 1 2 3 "
    assert [check[:3] for check in checks] == [("check", 0, 4)]  # and it agrees: there is no gap
    assert not [event for event in events if isinstance(event, Gap)]
    assert isinstance(events[-1], AttemptEnded)
    assert not attempts.unended()


async def test_all_was_delivered_and_nothing_is_left(stage, sink):
    """A healthy transport leaves nothing to tell in another way."""
    async with stage.session() as session:
        say(session, "a")
        await session.finish("completed_provisional")

    assert session.take_undelivered() == ()
    assert session.tally.token_count == 1


async def test_what_was_said_after_a_sink_failed_is_a_gap(stage, sink):
    """The transport refused us: nothing more is kept, and nobody may think that what is left is all."""
    async with stage.session() as session:
        sink.failure = ProtocolError("refused")
        say(session, "a")
        await sink.until(lambda: len(sink.begun) == 1)
        await asyncio.sleep(0)
        say(session, "b", 1)
        await session.finish("completed_provisional")

    first, rest = session.take_undelivered()
    assert [type(record).__name__ for record in first.records] == ["TextRun"]
    assert [type(record).__name__ for record in rest.records] == ["Gap", "AttemptEnded"]


async def test_a_call_is_checked_before_its_end(stage, sink):
    """Readers learn what the text of each call adds up to, also over several frames."""
    async with stage.session() as session:
        say(session, "to")
        await sink.until(lambda: len(sink.stored) == 1)
        say(session, "ken", 1)
        session.buffer.put(CallEnded(call=a_call()), a_call())
        await session.finish("completed_provisional")

    forms = [form for packet in sink.stored for form in packet.events]
    digest = TextDigest()
    digest.add("token", 2)
    kinds = [form[0] for form in forms]
    assert kinds[kinds.index("call_end") - 1] == "check"
    assert ["check", 0, 2, digest.hexdigest()] in forms


async def test_a_sink_that_does_not_heed_its_cancellation_holds_no_activity_up(sink, caplog):
    """Somebody's transport swallows cancellations: my activity ends, and what was left is told elsewhere."""
    swallowed = asyncio.Event()

    async def stubborn(stream: StreamKey, data: bytes) -> None:
        sink.begun.append(decode(data))
        while not swallowed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await swallowed.wait()

    sink.write = stubborn
    session = Session(an_origin(), sink, budget=Budget(2**20), flush_timeout=AT_ONCE)
    async with asyncio.timeout(5), session:
        say(session, "a")
        await asyncio.sleep(0)
        await session.finish("completed_provisional")

    assert "although it was cancelled" in caplog.text
    left = [frame.seq for frame in session.take_undelivered()]
    task = next(task for task in asyncio.all_tasks() if task.get_name().startswith("token-stream"))
    swallowed.set()
    await asyncio.wait({task}, timeout=5)
    assert [packet.seq for packet in sink.begun] == [0]  # nothing that was told elsewhere is sent again
    assert left == [0, 1]


@pytest.mark.parametrize("waiting", [["b", "c"], []])
async def test_a_sink_that_stores_although_it_was_cancelled_loses_nothing(sink, waiting):
    """A cancellation got lost on its way: what waited meanwhile, and the end, are told elsewhere."""
    begun = asyncio.Event()

    async def deaf(stream: StreamKey, data: bytes) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        sink.stored.append(decode(data))

    sink.write = deaf
    async with Session(an_origin(), sink, budget=Budget(2**20), flush_timeout=AT_ONCE) as session:
        say(session, "a")
        await begun.wait()
        for index, text in enumerate(waiting, 1):
            say(session, text, index)
        await session.finish("completed_provisional")

    left = [decode(encode(frame)) for frame in session.take_undelivered()]
    assert said([*sink.stored, *left]) == [["a"], waiting]
    assert [packet.seq for packet in left] == [1]
    assert left[0].events[-1][0] == "attempt_end"


@pytest.mark.parametrize("first", ["sent", "nothing"])
async def test_a_retry_announces_itself_also_under_an_eager_task_factory(stage, sink, first):
    """Python 3.12's eager tasks run within `create_task`: the failed text must be taken back all the same."""
    with eager_tasks():
        async with stage.session(attempt=2) as session:
            await sink.until(lambda: bool(sink.stored))
            if first == "sent":
                session.buffer.put_text(CALL, "text", 0, "again")
            await session.finish("completed_provisional")

    assert [packet.seq for packet in sink.stored] == list(range(len(sink.stored)))
    assert sink.stored[0].events == []
    assert sink.stored[-1].events[-1] == ["attempt_end", "completed_provisional", None]
    assert session.statistics.undelivered == 0


async def test_undelivered_frames_are_handed_out_once(stage, sink):
    """A result holds them, or redelivery does: never both."""
    sink.block()
    async with stage.session(flush_timeout=AT_ONCE) as session:
        session.buffer.put_text(CALL, "text", 0, "late")
        await session.finish("completed_provisional")

    assert session.take_undelivered()
    assert session.take_undelivered() == ()


async def test_a_sink_that_cannot_hurry_harms_no_activity(stage, sink, caplog):
    """A transport of mine answers late while it is full, and has a fault."""

    def hurry(stream: StreamKey) -> None:
        raise RuntimeError(f"not {stream.run_id}")

    sink.hurry = hurry
    async with stage.session() as session:
        say(session, "token")
        await session.finish("completed_provisional")

    assert [text for frame in said(sink.stored) for text in frame] == ["token"]
    assert "`hurry`" in caplog.text


# ------------------------------------------------------------------ a sink that fetches


async def test_a_session_whose_frames_are_fetched_has_no_task():
    """A worker has hundreds of attempts at once: each costs what it says, and no task."""
    sink = Fetching()
    tasks = asyncio.all_tasks()
    async with session_to(an_origin(), sink, budget=Budget(2**20), flush_timeout=FOREVER) as session:
        assert isinstance(session, FetchedSession)
        assert asyncio.all_tasks() == tasks
        say(session, "a")
        await session.finish("completed_provisional")

    assert said(sink.stored) == [["a"], []]


async def test_what_is_awaited_to_be_sealed_needs_a_task():
    """A payload codec may ask a key service for each frame."""
    more = {"budget": Budget(2**20), "flush_timeout": FOREVER}
    codec = FrameCodec(None, StreamKey.of(an_origin()))
    assert not isinstance(session_to(an_origin(), Fetching(), codec=codec, **more), FetchedSession)
    assert not isinstance(session_to(an_origin(), Sink(), **more), FetchedSession)


async def test_a_writer_that_gave_up_is_left_alone():
    """It was cancelled while its entry was on the way: the reply comes all the same."""
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pending = Written(StreamKey.of(an_origin()), b"entry", waiting)
    assert not pending.is_given_up
    waiting.cancel()
    pending.stored()
    pending.go_on()

    assert pending.is_given_up
    assert waiting.cancelled()


async def test_nothing_is_taken_of_a_session_that_has_ended():
    """The transport replies late, for a frame that goes into the result: nothing changes."""
    sink = Fetching()
    sink.block()
    async with FetchedSession(an_origin(), sink, budget=Budget(2**20), flush_timeout=AT_ONCE) as session:
        say(session, "a")
        await sink.until(lambda: len(sink.begun) == 1)
        say(session, "b", 1)
        await session.finish("completed_provisional")
    left = session.take_undelivered()
    session.stored()
    session.failed(ProtocolError("refused"))

    assert session.is_over
    assert session.take() is None
    assert [frame.seq for frame in left] == [0, 1]
    assert session.statistics.undelivered == 2
    assert session.take_undelivered() == ()
    for task in sink.tasks:
        task.cancel()


async def test_records_of_a_thread_that_come_as_the_last_are_taken_are_fetched(stage, sink):
    """Ten threads speak while frames come and go: no record is left behind, and none comes twice."""
    async with stage.session() as session:

        def speak(ordinal: int) -> None:
            for index in range(200):
                say(session, f"{ordinal}.{index}", index, a_call(ordinal=ordinal))

        await asyncio.gather(*(asyncio.to_thread(speak, ordinal) for ordinal in range(10)))
        await sink.until(lambda: sum(map(len, said(sink.stored))) == 2_000)
        await session.finish("completed_provisional")

    texts = [text for frame in said(sink.stored) for text in frame]
    assert sorted(texts) == sorted(f"{ordinal}.{index}" for ordinal in range(10) for index in range(200))


class NeverFetching(Fetching):
    """One that is busy elsewhere, for as long as the test takes."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.sources: list[EntrySource] = []
        self._failure = failure

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        if self._failure is not None:
            raise self._failure
        self.sources.append(source)


async def test_an_activity_that_says_nothing_does_not_wait_for_the_transport():
    """Redis is away, and my activity calls no model: it ends as it did before."""
    sink = NeverFetching()
    async with asyncio.timeout(5):
        async with Stage(sink).session() as session:
            await session.finish("completed_provisional")

    assert sink.sources == []
    assert session.take_undelivered() == ()


@pytest.mark.parametrize("make", [Sink, NeverFetching])
async def test_a_retry_that_could_not_announce_itself_is_told_elsewhere(make, caplog):
    """The text of the attempt before is taken back, also if all of the retry fell into an outage."""
    sink = make()
    sink.block()
    async with Stage(sink).session(attempt=2, flush_timeout=timedelta(milliseconds=1)) as session:
        await session.finish("failed", will_retry=False)

    left = [decode(encode(frame)) for frame in session.take_undelivered()]
    assert left[0].origin == session.origin
    assert left[-1].events == [["attempt_end", "failed", False]]
    assert session.statistics.undelivered == 1
    assert len(warnings_in(caplog)) == 1


async def test_an_end_that_was_not_taken_is_counted(caplog):
    """The transport has stored all but the end: the log says so, and the end goes into the result."""
    sink = Fetching()
    async with Stage(sink).session(flush_timeout=AT_ONCE) as session:
        say(session, "a")
        await sink.until(lambda: len(sink.stored) == 1)
        sink.block()
        await session.finish("completed_provisional")
        for task in sink.tasks:
            task.cancel()

    assert session.statistics.undelivered == 1
    assert len(session.take_undelivered()) == 1
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_sink_that_cannot_fetch_harms_no_activity(caplog, attempt):
    """A transport of mine has a fault: the tokens are lost, and a line in the log says so."""
    async with Stage(NeverFetching(RuntimeError("a bug"))).session(attempt=attempt) as session:
        say(session, "a")
        await session.finish("completed_provisional")

    assert len(warnings_in(caplog)) == 1
    assert session.take_undelivered()


async def test_a_session_is_over_when_its_end_is_stored():
    """A backend that closes just then has nothing to complain of."""
    sink = NeverFetching()
    async with Stage(sink).session() as session:
        say(session, "a")
        finishing = asyncio.create_task(session.finish("completed_provisional"))
        await asyncio.sleep(0)
        (source,) = sink.sources
        for _ in range(2):
            assert source.take() is not None
            assert not source.is_over
            source.stored()
        assert source.is_over
        await finishing

    assert session.statistics.undelivered == 0


def test_what_is_put_between_two_turns_of_the_loop_is_sent():
    """A program runs its loop now and then, and speaks in between: `run_until_complete`, twice."""
    sink = Fetching()

    async def begin() -> Session:
        return await Stage(sink).session().__aenter__()

    async def end() -> None:
        await sink.until(lambda: said(sink.stored) == [["a"]])
        await session.finish("completed_provisional")
        await session.__aexit__(None, None, None)

    with asyncio.Runner() as runner:
        session = runner.run(begin())
        say(session, "a")
        runner.run(end())

    assert said(sink.stored) == [["a"], []]


async def test_what_a_session_reports_is_of_its_own_context():
    """A log line, or an exemplar, names the activity that it is about, not the one that woke the writer."""
    of: ContextVar[str] = ContextVar("of", default="none")
    seen = []

    class Telemetry(NoTelemetry):
        is_on = True

        def stored(self, records: Any) -> None:
            seen.append(of.get())

    sink = NeverFetching()
    of.set("mine")
    more = {"budget": Budget(2**20), "flush_timeout": AT_ONCE}
    async with FetchedSession(an_origin(), sink, telemetry=Telemetry(), **more) as session:
        say(session, "a")
        of.set("another")
        (source,) = sink.sources
        source.take()
        source.stored()
        await session.finish("completed_provisional")

    assert seen == ["mine"]


async def test_who_overrides_write_is_not_passed_by():
    """A transport that redacts what it writes gets all of it."""

    class Redacting(Fetching):
        async def write(self, stream: StreamKey, data: bytes) -> None:
            await super().write(stream, data)

    class Both(Redacting):
        def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
            super().fetch_from(stream, source)

    patched, wrapper = Fetching(), Wrapper(Fetching())
    patched.write = patched.write  # type: ignore[method-assign]
    assert fetching(Redacting()) is None
    assert fetching(patched) is None
    assert fetching(wrapper) is None
    assert fetching(Both()) is not None
    assert fetching(Fetching()) is not None


class Wrapper:
    """What some programs put around a transport."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def write(self, stream: StreamKey, data: bytes) -> None:
        await self._sink.write(stream, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


async def test_the_sink_of_a_plugin_is_the_one_that_it_was_given():
    """By the plugin frames are fetched as they are without it, and ends are hurried."""
    sink, hurried = NeverFetching(), []
    sink.opened = False  # type: ignore[attr-defined] # a flag of its own
    sink.hurry = hurried.append  # type: ignore[attr-defined]
    shared = _SharedSink(sink)
    stream = StreamKey.of(an_origin())
    hurry(shared, stream)
    assert hurried == []
    async with shared.lent():
        assert opened(shared) is sink
        hurry(shared, stream)
    assert hurried == [stream]
    assert opened(shared) is shared
