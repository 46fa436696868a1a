"""A session without a task: its sink fetches each frame at the moment when it can send it.

A task costs two turns of the loop for each frame, and what it hands over waits for the round trip before,
while more of the same text gathers behind it. A frame that is fetched has all that has come by then.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any, Self

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, NoTelemetry
from temporal_token_interceptor.transport.base import FetchingSink, TokenSink, fetching
from temporal_token_interceptor.worker.session import Session


def session_to(origin: Origin, sink: TokenSink, *, codec: FrameCodec | None = None, **more: Any) -> Session:
    """Return the session of an attempt: without a task, where that is possible.

    Args:
        origin: The attempt.
        sink: Where the frames go.
        codec: Seals the frames, which is awaited: only a task can do that.
        more: What each session takes.
    """
    if codec is None and (fetched_by := fetching(sink)) is not None:
        return FetchedSession(origin, fetched_by, **more)
    return Session(origin, sink, codec=codec, **more)


class FetchedSession(Session):
    """Sends the records of one attempt to a sink that fetches them: it is the `EntrySource` of its stream.

    Args:
        origin: The attempt.
        sink: Fetches the frames.
        budget: The memory that all sessions of the worker share.
        flush_timeout: How long `finish` may wait for the sink.
        telemetry: Receives what is sent.
    """

    def __init__(
        self,
        origin: Origin,
        sink: FetchingSink,
        *,
        budget: Budget,
        flush_timeout: timedelta,
        telemetry: NoTelemetry = NO_TELEMETRY,
    ) -> None:
        super().__init__(origin, sink, budget=budget, flush_timeout=flush_timeout, telemetry=telemetry)
        self._fetching_sink = sink
        self._is_asked_for = False  # or was, and failed
        self._context: Context | None = None

    async def __aenter__(self) -> Self:
        """Announce a retry, and send what was put before."""
        self._task = self._loop.create_future()
        self._context = copy_context()
        if self.origin.attempt > 1 or len(self.buffer):
            self._go_on()
        return self

    def _go_on(self) -> None:
        """Have what waits fetched; see the session over that has nothing to say. On the loop's thread."""
        if self._is_asked_for or self.is_over:
            return
        if self._end is not None and not (self._maker.has_something or len(self.buffer)):
            self._end_all()
            return
        if not self._is_running:  # between two of `run_until_complete`
            with suppress(RuntimeError):
                self._loop.call_soon(self._go_on)
            return
        self._is_asked_for = True
        try:
            self._fetching_sink.fetch_from(self._stream, self)
        except Exception as error:  # noqa: BLE001 - a sink of the user's
            self.failed(error)

    async def _stop(self) -> None:
        await super()._stop()
        self._context = None  # a transport that is away may keep us

    @property
    def _is_running(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # ------------------------------------------------------------------ for the sink, in its task

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be taken any more, and what was taken is given up."""
        return self._task is None or self._task.done()

    def take(self) -> bytes | None:
        """Return the next frame, encoded; None where nothing waits: it is asked to be fetched again."""
        if self.is_over:
            return None
        try:
            records = self.next_records()
            if records is not None:
                _, data = self.begin_frame(records)
                return data
        except Exception as error:  # noqa: BLE001 - ours
            self.failed(error)
            return None
        self._is_asked_for = False
        if self._is_all_taken:
            self._end_all()
        return None

    def stored(self) -> None:
        """Note that the frame taken last is stored."""
        frame = self._leftover.unstored
        if frame is None or self.is_over:
            return
        if self.telemetry.is_on and self._context is not None:
            self._context.run(self.end_frame, frame)
        else:
            self.end_frame(frame)
        if self._is_all_taken:
            self._end_all()

    def failed(self, error: Exception) -> None:
        """Give up: the sink refuses the frame that was taken last, or is closed."""
        if self.is_over:
            return
        if self._context is not None:
            self._context.run(self.note_failure, error)
        self._end_all()

    def _end_all(self) -> None:
        self.give_up()
        if self._task is not None:
            self._task.set_result(None)
