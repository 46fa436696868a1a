"""Heartbeats for activities that wait for a model, without a word of their own.

Temporal keeps only the last heartbeat's details, and hands them to the retry. So a bare heartbeat would erase
the checkpoint of an activity that saves its progress with `activity.heartbeat(progress)`. Ours repeats the
user's latest details, as they were when the user gave them: an object that was changed since is not sent
early.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

from temporalio import activity
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter
from temporalio.worker import ActivityOutboundInterceptor

logger = logging.getLogger(__name__)

Heartbeat = Literal["auto", "off"] | timedelta
"""Who beats by itself; see `TokenStreamingInterceptor`."""


def pulse_interval(info: activity.Info, heartbeat: Heartbeat) -> float | None:
    """Return the seconds between two beats; None for an activity that gets no pulse.

    A third of the timeout leaves room for the SDK, which passes on a beat at most every 0.8 timeouts.
    """
    if heartbeat == "off" or info.is_local:
        return None
    third = info.heartbeat_timeout / 3 if info.heartbeat_timeout else None
    if heartbeat == "auto":
        return None if third is None else third.total_seconds()
    return (heartbeat if third is None else min(heartbeat, third)).total_seconds()


class HeartbeatRecorder(ActivityOutboundInterceptor):
    """Stands between the activity and the wire, and remembers what the user last said there.

    Args:
        next: What is nearer to the wire.
    """

    def __init__(self, next: ActivityOutboundInterceptor) -> None:  # noqa: A002 - Temporal's name
        super().__init__(next)
        self._wire = next
        self._converter = activity.payload_converter()
        # A retry that dies before its first checkpoint hands on what it was given.
        self._latest = self._frozen(activity.info().heartbeat_details)
        self._last_beat = time.monotonic()

    def heartbeat(self, *details: Any) -> None:
        """Pass on what the user says, and remember it. Runs on the event loop, for sync activities too."""
        self._last_beat = time.monotonic()
        self._latest = self._frozen(details)
        self._wire.heartbeat(*details)

    def due_in(self, interval: float) -> float:
        """Return the seconds until nobody has beaten for so long; zero or less if that is so."""
        return self._last_beat + interval - time.monotonic()

    def repeat(self) -> None:
        """Beat with the user's latest details."""
        self._last_beat = time.monotonic()
        self._wire.heartbeat(*self._latest)

    def skip(self) -> None:
        """Let one beat pass in silence."""
        self._last_beat = time.monotonic()

    def _frozen(self, details: Sequence[Any]) -> Sequence[Any]:
        try:
            return _encoded(self._converter, details)
        except Exception:  # noqa: BLE001 - whatever the user's converter raises, the SDK will say it, too
            return tuple(details)


def _encoded(converter: PayloadConverter, details: Sequence[Any]) -> Sequence[Any]:
    """Return the details as they are now, encoded once and for all beats."""
    payloads = converter.to_payloads(details)
    raw = tuple(map(RawValue, payloads))
    # One that is not built from Temporal's own may not know RawValue, and then failed the activity.
    return raw if converter.to_payloads(raw) == payloads else tuple(details)


class Pulse:
    """Beats while an activity runs, as `async with`: one task, one timer, nothing a token.

    Args:
        recorder: Knows the wire, and when the user has beaten last.
        interval: Seconds; a beat is left out if the user has beaten within.
        captured: Counts what was captured so far.
        stall_timeout: Seconds without a capture after which the pulse stops, until there is one.
    """

    def __init__(
        self,
        recorder: HeartbeatRecorder,
        interval: float,
        *,
        captured: Callable[[], int],
        stall_timeout: float | None = None,
    ) -> None:
        self._recorder = recorder
        self._interval = interval
        self._captured = captured
        self._stall_timeout = stall_timeout
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name="token-stream pulse")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and join the task."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # too late: how the activity ended stands
            if (current := asyncio.current_task()) is not None:
                current.uncancel()

    async def _run(self) -> None:
        seen, since = self._captured(), time.monotonic()
        try:
            while True:
                await asyncio.sleep(max(0.0, self._recorder.due_in(self._interval)))
                if self._recorder.due_in(self._interval) > 0:
                    continue  # the user has beaten meanwhile
                if (captured := self._captured()) != seen:
                    seen, since = captured, time.monotonic()
                if self._stall_timeout is None or time.monotonic() - since < self._stall_timeout:
                    self._recorder.repeat()
                else:
                    self._recorder.skip()
        except Exception:  # ours: the activity must not suffer
            logger.exception("an activity has no pulse any more")


def pulse_of(
    info: activity.Info,
    heartbeat: Heartbeat,
    outbound: ActivityOutboundInterceptor | None,
    *,
    captured: Callable[[], int],
    stall_timeout: float | None,
) -> AbstractAsyncContextManager[object]:
    """Return the pulse of an activity, to be run around it; one that never beats where there is to be none.

    Args:
        info: The activity.
        heartbeat: The user's choice.
        outbound: A `HeartbeatRecorder` where there is to be a pulse.
        captured: How much was captured so far: a sign of life.
        stall_timeout: Seconds without one after which the pulse stops.
    """
    interval = pulse_interval(info, heartbeat)
    if not isinstance(outbound, HeartbeatRecorder) or interval is None:
        return nullcontext()
    return Pulse(outbound, interval, captured=captured, stall_timeout=stall_timeout)
