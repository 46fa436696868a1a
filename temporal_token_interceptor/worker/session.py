"""One attempt's pipeline: from its buffer, by one task, to the sink.

The task takes what is there, numbers it, hands one frame to the sink and, once that is stored, takes what
has gathered meanwhile. No timer: the first token leaves at once, and load makes the batches.

Whatever goes wrong here is logged and counted, and the activity never knows: it is neither failed nor
held up, but for at most `flush_timeout` at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Self

from temporal_token_interceptor._tasks import joined
from temporal_token_interceptor.capture.buffer import Budget, Buffer
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import (
    AttemptEnded,
    Frame,
    Gap,
    Origin,
    Outcome,
    Record,
)
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, NoTelemetry
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.summary import Tally

logger = logging.getLogger(__name__)

_FRAME_BYTES = 256 * 1024

# How long an activity that ended waits for a sink that does not heed its cancellation.
_STOP_SECONDS = 1.0

# A reader that comes after the start of a long stream was trimmed can begin at any header.
_HEADER_EVERY = 64


@dataclass(slots=True)
class SessionStatistics:
    """What a session sent, and what it had to leave behind at its end."""

    frames: int = 0
    undelivered: int = 0


class Session:
    """The pipeline of one attempt, as `async with`; put records into `buffer`, and call `finish` once.

    Nothing is sent before the first record, so an activity that calls no model costs one idle task. Only
    a retry announces itself at once: readers take back what the attempt before it had said.

    Args:
        origin: The attempt.
        sink: Where the frames go.
        budget: The memory that all sessions of the worker share.
        flush_timeout: How long `finish` may wait for the sink.
        codec: Seals the frames; None for plain ones.
        telemetry: Is told what is sent.
    """

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
        self.tally = Tally()
        self.telemetry = telemetry
        self.buffer = Buffer(budget, self._wake)
        self._sink = sink
        self._stream = StreamKey.of(origin)
        self.codec = codec
        self._sealing_failed = False
        self._flush_timeout = flush_timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._ready = asyncio.Event()
        self._sending = False
        self._end: AttemptEnded | None = None
        self._seq = 0
        self._calls = CallChecks()
        self._is_told = False
        self._unstored: Frame | None = None
        self._left: tuple[Record, ...] = ()
        self._rest: Frame | None = None
        self._heard: int | None = None
        self._keeper: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the task."""
        if self.origin.attempt > 1:
            self._ready.set()
        self._task = self._loop.create_task(self._run(), name=f"token-stream {self.origin.activity_id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of everything, also when `finish` was never reached."""
        await self._stop()

    async def finish(self, outcome: Outcome, *, will_retry: bool | None = None) -> None:
        """Send what is left and how the attempt ended; wait at most `flush_timeout`.

        Cancelling the activity now is too late: its result stands, so a cancellation only ends the wait.
        """
        self._end = AttemptEnded(outcome=outcome, will_retry=will_retry)
        self._ready.set()
        if self._task is not None:
            with _cancelled_too_late():
                await asyncio.wait({self._task}, timeout=self._flush_timeout)
        await self._stop()

    @property
    def undelivered(self) -> tuple[Frame, ...]:
        """Return, once the attempt has ended, the frames that the sink did not confirm, each with a header.

        The first may have been stored all the same: whoever reads it twice knows by its number.
        """
        # With a header; and how long it waited is no news of the way to a transport.
        unstored = (
            () if self._unstored is None else (replace(self._unstored, header=True, waiting_since=None),)
        )
        if self._end is None or not (self._left or (self._seq and not self._is_told)):
            return ()
        if self._rest is None and not (unstored and self._end in unstored[0].records):
            # After a failure of the sink nothing more is kept, and what was said since is not even counted.
            unheard = (Gap(missing=None, reason="overflow"),) if self.buffer.received != self._heard else ()
            open_calls = self._calls.open
            left = (*self._calls.add(self._left), *unheard)
            records = (*left, *self._calls.add(self._calls.unfinished()), self._end)
            self._rest = Frame(self.origin, self._seq, records, header=True, open_calls=open_calls)
        return unstored if self._rest is None else (*unstored, self._rest)

    # ------------------------------------------------------------------ waking, from any thread

    def _wake(self) -> None:
        self.telemetry.waiting()
        # Whoever sends looks again before it rests, and waking a loop from a thread is 10 us of the model's.
        if self._sending:
            return
        if threading.get_ident() == self._thread:
            self._ready.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._ready.set)

    # ------------------------------------------------------------------ the task

    async def _run(self) -> None:
        try:
            # An activity that never gives way to the loop has ended before this line is reached.
            while True:
                await self._ready.wait()
                self._ready.clear()
                if self._seq == 0 and self.origin.attempt > 1:
                    await self._send(())
                while records := self._taken():
                    await self._send(records)
                if self._end is not None:
                    break
            if self._seq:
                # A cancellation thrown into the thread of a sync activity may have hit the very callback that
                # was to end a call.
                await self._send((*self._calls.unfinished(), self._end))
                self._is_told = self._unstored is None
        except TokenStreamError as error:
            logger.warning("tokens of %s are not delivered: %s", self._named(), error)
        except Exception:  # ours, or the sink's: either way the activity must not suffer
            logger.exception("tokens of %s are no longer delivered", self._named())
        finally:
            self._give_up()

    def _taken(self) -> tuple[Record, ...]:
        self._sending = False  # before it looks: what comes from now on has to wake it
        self._check_that_it_may_go_on()
        records = self.buffer.take(_FRAME_BYTES)
        self._sending = bool(records)
        return records

    def _check_that_it_may_go_on(self) -> None:
        """Stop where a sink, or a codec, swallowed the cancellation: somebody else tells what is left."""
        if self._task is None:
            raise asyncio.CancelledError

    async def _send(self, records: tuple[Record, ...]) -> None:
        self._check_that_it_may_go_on()
        header = self._seq % _HEADER_EVERY == 0 or self._end is not None or self._sealing_failed
        open_calls = self._calls.open
        records = self._calls.add(records)
        frame = self._unstored = Frame(
            self.origin,
            self._seq,
            records,
            header=header,
            open_calls=open_calls,
            traceparent=self.telemetry.traceparent,
            waiting_since=self.telemetry.taken(),
        )
        if self._keeper is None:
            self._keep()
        self.tally.add(records)
        self._seq += 1  # also if it is never stored: then a reader sees the jump
        self.statistics.undelivered += 1
        data = encode(frame)
        if self.codec is not None:
            sealed = await self._sealed(self.codec, data)
            if sealed is None:
                return
            data = sealed
        await self._sink.write(self._stream, data)
        self._unstored = None
        self.statistics.undelivered -= 1
        self.statistics.frames += 1
        self.telemetry.stored(records)

    async def _sealed(self, codec: FrameCodec, data: bytes) -> bytes | None:
        """Seal a frame; or give it up, and never store it plain. A reader sees the jump."""
        try:
            sealed = await codec.seal(data)
        except Exception as error:  # noqa: BLE001 - the user's codec, or its key service: the next may work
            if not self._sealing_failed:
                # Not the error's text: what a codec says, it may say of the content.
                logger.warning(
                    "the payload codec cannot encode tokens of %s (%s): they are dropped, readers see a gap",
                    self._named(),
                    type(error).__name__,
                )
            self._sealing_failed = True
            return None
        self._sealing_failed = False
        return sealed

    def _keep(self) -> None:
        """Keep the stream from expiring, by time: a model may say nothing for ten minutes."""
        self._sink.keep(self._stream)
        self._keeper = self._loop.call_later(self._sink.keep_interval.total_seconds(), self._keep)

    async def _stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        if self._task is None:
            return
        task, self._task = self._task, None
        with _cancelled_too_late():
            await joined(task, _STOP_SECONDS)
        self._give_up()  # again, for a task that was cancelled before it began
        if self.statistics.undelivered:
            logger.info(
                "%d frames of %s were not delivered in time", self.statistics.undelivered, self._named()
            )
        self.telemetry.ended(self._end, self.statistics.undelivered)

    def _give_up(self) -> None:
        """Count what is left in the buffer, free its memory, and keep it for whoever asks at once."""
        self.statistics.undelivered += len(self.buffer)
        self._left += self.buffer.take(sys.maxsize)
        if self._heard is None:
            self._heard = self.buffer.received
        self.buffer.close()

    def _named(self) -> str:
        origin = self.origin
        return f"activity {origin.activity_type!r} ({origin.activity_id}) of {origin.workflow_id!r}"

    def __repr__(self) -> str:
        """Tell the state."""
        state = "running" if self._task is not None else "ended"
        waiting = len(self.buffer)
        return f"<Session {self.origin.attempt_id} {state}, {self._seq} frames, {waiting} records waiting>"


@contextlib.contextmanager
def _cancelled_too_late() -> Iterator[None]:
    """Let a cancellation end the wait within, and nothing else."""
    current = asyncio.current_task()
    before = current.cancelling() if current else 0
    try:
        yield
    except asyncio.CancelledError:
        while current and current.cancelling() > before:
            current.uncancel()
