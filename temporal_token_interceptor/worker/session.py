"""Sends the records of one attempt: from its buffer, by one task, to the sink.

The task takes what is there, makes one frame of it, hands it to the sink and, once that is stored, takes what
has gathered meanwhile. No timer: the first token leaves at once, and load makes the batches. A sink that
fetches needs no task: see `fetched_session`.

Whatever goes wrong here is logged and counted. The activity is neither failed nor held up, except for at most
`flush_timeout` at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from types import TracebackType
from typing import Self

from temporal_token_interceptor._tasks import cancelled_too_late, joined, started
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import AttemptEnded, Frame, Origin, Outcome, Record
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, NoTelemetry
from temporal_token_interceptor.transport.base import TokenSink, hurry
from temporal_token_interceptor.worker.frame_maker import FrameMaker, Leftover, Tally

logger = logging.getLogger(__name__)

_FRAME_BYTES = 256 * 1024

# How long an activity that ended waits for a sink that does not obey its cancellation.
_STOP_SECONDS = 1.0


class _State(Enum):
    WAITING = auto()
    """It waits, or is about to: new records have to wake it."""
    SENDING = auto()
    """It looks into the buffer again before it waits: no need to wake it."""
    STOPPED = auto()
    """The attempt is over: nothing more may be sent, even if something swallowed a cancellation."""


@dataclass(slots=True)
class SessionStatistics:
    """What a session sent, and what was left at its end."""

    frames: int = 0
    undelivered: int = 0


class Session:
    """Sends the records of one attempt, as `async with`; put records into `buffer`, and call `finish` once.

    Nothing is sent before the first record, so an activity that calls no model writes nothing. Only a retry
    announces itself at once: readers take back the text of the attempt before it.

    Args:
        origin: The attempt.
        sink: Where the frames go.
        budget: The memory that all sessions of the worker share.
        flush_timeout: How long `finish` may wait for the sink.
        codec: Seals the frames; None for plain ones.
        telemetry: Receives what is sent.

    Attributes:
        frame_bytes: Of text in one frame, about, at most.
        has_all_headers: Whether every frame has a header.
    """

    frame_bytes = _FRAME_BYTES
    has_all_headers = False

    def __init__(
        self,
        origin: Origin,
        sink: TokenSink,
        *,
        budget: Budget,
        flush_timeout: timedelta,
        codec: FrameCodec | None = None,
        telemetry: NoTelemetry = NO_TELEMETRY,
    ) -> None:
        self.origin = origin
        self.statistics = SessionStatistics()
        self.telemetry = telemetry
        self.buffer = Buffer(budget, self._wake)
        self.codec = codec
        self._sink = sink
        self._stream = StreamKey.of(origin)
        self._maker = FrameMaker(origin, telemetry)
        self._leftover = Leftover()
        self._is_sealable = True  # the last frame was
        self._is_failure_logged = False
        self._flush_timeout = flush_timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._ready = asyncio.Event()
        self._state = _State.WAITING
        self._end: AttemptEnded | None = None
        self._is_all_taken = False  # also the end
        self._keeper: asyncio.TimerHandle | None = None
        self._task: asyncio.Future[None] | None = None  # done once nothing more is sent

    @property
    def tally(self) -> Tally:
        """Counts of what was sent."""
        return self._maker.tally

    async def __aenter__(self) -> Self:
        """Start the task."""
        if self.origin.attempt > 1:
            self._ready.set()
        self._task = started(self._run(), f"token-stream {self.origin.activity_id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the task and free the memory, also when `finish` was never reached."""
        await self._stop()

    async def finish(self, outcome: Outcome, *, will_retry: bool | None = None) -> None:
        """Send what is left and how the attempt ended; wait at most `flush_timeout`.

        Cancelling the activity now is too late: its result stands, so a cancellation only ends the wait.
        """
        self._end = AttemptEnded(outcome=outcome, will_retry=will_retry)
        self._go_on()
        hurry(self._sink, self._stream)
        if self._task is not None:
            with cancelled_too_late():
                await asyncio.wait({self._task}, timeout=self._flush_timeout)
        await self._stop()

    def take_undelivered(self) -> tuple[Frame, ...]:
        """Return, once the attempt has ended, the frames that the sink did not confirm, each with a header.

        The first may have been stored all the same: a reader that gets it twice knows by its number. A second
        call returns none.
        """
        return self._leftover.take(self._maker, self.buffer, self._end)

    # ------------------------------------------------------------------ waking, from any thread

    def _wake(self) -> None:
        if self.telemetry.is_on:
            self.telemetry.waiting()
        # The sending task checks the buffer again before it sleeps; waking a loop from a thread costs the
        # thread of the model 10 us.
        if self._state is _State.SENDING:
            return
        if threading.get_ident() == self._thread:
            self._go_on()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing will be sent any more
            self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        """Have what waits sent. On the loop."""
        self._ready.set()

    # ------------------------------------------------------------------ what is sent

    def next_records(self) -> tuple[Record, ...] | None:
        """Return the records of the next frame; None where nothing waits, or all was returned.

        Raises:
            CancelledError: the attempt is over.
        """
        self._raise_if_stopped()
        if self._is_all_taken:
            return None
        if self._maker.seq == 0 and self.origin.attempt > 1:
            return ()
        self._state = _State.WAITING  # before it looks: what comes from now on has to wake it
        if records := self.buffer.take(self.frame_bytes):
            self._state = _State.SENDING
            return records
        if self._end is None:
            return None
        self._is_all_taken = True
        return self._maker.last_records(self._end) if self._maker.seq else None

    def begin_frame(self, records: tuple[Record, ...]) -> tuple[Frame, bytes]:
        """Return the next frame, also encoded; it counts as undelivered until `end_frame`."""
        header = self.has_all_headers or self._end is not None or not self._is_sealable
        frame = self._maker.make(records, header=header)
        self._leftover.unstored = frame
        if self._keeper is None:
            self._keep()
        self.statistics.undelivered += 1
        return frame, encode(frame)

    def end_frame(self, frame: Frame) -> None:
        """Note that the frame that was begun last is stored."""
        self._leftover.unstored = None
        self._leftover.end_is_stored = self._is_all_taken
        self.statistics.undelivered -= 1
        self.statistics.frames += 1
        self.note_sent(frame)
        if self.telemetry.is_on:
            self.telemetry.stored(frame.records)

    def note_failure(self, error: Exception) -> None:
        """Log why nothing more is sent: the activity must not fail because of it."""
        self._is_failure_logged = True
        if isinstance(error, TokenStreamError):
            logger.warning("tokens of %s are not delivered: %s", self._named(), error)
        else:  # ours, or the sink's
            logger.error("tokens of %s are no longer delivered", self._named(), exc_info=error)

    # ------------------------------------------------------------------ the task

    async def _run(self) -> None:
        try:
            # An activity that never gives way to the loop has ended before this line is reached.
            while not self._is_all_taken:
                await self._ready.wait()
                self._ready.clear()
                while (records := self.next_records()) is not None:
                    await self.send(records)
        except Exception as error:  # noqa: BLE001 - ours, or the sink's
            self.note_failure(error)
        finally:
            self.give_up()

    def _raise_if_stopped(self) -> None:
        """End the task where a sink, or a codec, swallowed its cancellation: the attempt is over."""
        if self._state is _State.STOPPED:
            raise asyncio.CancelledError

    async def send(self, records: tuple[Record, ...]) -> None:
        """Send one frame: the next, of these records. Only for the sending task."""
        self._raise_if_stopped()
        frame, data = self.begin_frame(records)
        if self.codec is not None:
            sealed = await self._sealed(self.codec, data)
            if sealed is None:
                return
            data = sealed
        await self._store(frame, data)
        self.end_frame(frame)

    async def _store(self, frame: Frame, data: bytes) -> None:  # noqa: ARG002 - for other ways out
        """Hand a frame, encoded and sealed, to the sink; return once that has it."""
        await self._sink.write(self._stream, data)

    def note_sent(self, frame: Frame) -> None:
        """Note a frame that the sink has taken."""

    async def _sealed(self, codec: FrameCodec, data: bytes) -> bytes | None:
        """Return a frame sealed; None where the codec fails: it is not stored, and a reader sees a gap."""
        try:
            sealed = await codec.seal(data)
        except Exception as error:  # noqa: BLE001 - the user's codec, or its key service: the next may work
            if self._is_sealable:
                # Not the error's text: it may hold content.
                logger.warning(
                    "the payload codec cannot encode tokens of %s (%s): they are dropped, readers see a gap",
                    self._named(),
                    type(error).__name__,
                )
            self._is_sealable = False
            return None
        self._is_sealable = True
        return sealed

    def _keep(self) -> None:
        """Keep the stream from expiring, by time: a model may be silent for ten minutes."""
        self._sink.keep(self._stream)
        self._keeper = self._loop.call_later(self._sink.keep_interval.total_seconds(), self._keep)

    async def _stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        if self._task is None:
            return
        task, self._task = self._task, None
        self._state = _State.STOPPED
        with cancelled_too_late():
            await joined(task, _STOP_SECONDS)
        self.give_up()  # again, for a task that was cancelled before it began
        is_end_left = self._end is not None and not self._leftover.end_is_stored and self._maker.has_something
        if is_end_left and not self.statistics.undelivered:
            self.statistics.undelivered = 1
        if self.statistics.undelivered and not self._is_failure_logged:
            logger.warning(
                "%d frames of %s were not delivered within flush_timeout (%g s); they are sent later, or "
                "with its result, where that is possible",
                self.statistics.undelivered,
                self._named(),
                self._flush_timeout,
            )
        self.telemetry.ended(self._end, self.statistics.undelivered)

    def give_up(self) -> None:
        """Free the buffer; keep what is in it for `take_undelivered`."""
        self.statistics.undelivered += self._leftover.keep(self.buffer)

    def _named(self) -> str:
        origin = self.origin
        return f"activity {origin.activity_type!r} ({origin.activity_id}) of {origin.workflow_id!r}"

    def __repr__(self) -> str:
        """Describe the state."""
        state = "running" if self._task is not None else "ended"
        waiting = len(self.buffer)
        return (
            f"<Session {self.origin.attempt_id} {state}, {self._maker.seq} frames, {waiting} records waiting>"
        )
