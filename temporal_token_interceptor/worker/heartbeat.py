"""Automatic heartbeats for activities that wait for a model.

Temporal keeps only the last heartbeat's details, and passes them to the retry. So a heartbeat without details
would erase the checkpoint of an activity that saves its progress with `activity.heartbeat(progress)`. Ours
repeats the user's latest details, as they were when the user passed them: an object that was changed since is
not sent early.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

from temporalio import activity
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter
from temporalio.worker import ActivityOutboundInterceptor

from temporal_token_interceptor._tasks import started
from temporal_token_interceptor.events import Frame
from temporal_token_interceptor.transport.heartbeat import Ring, attempts_in, without_ours

logger = logging.getLogger(__name__)

Heartbeat = Literal["auto", "off"] | timedelta
"""Which activities heartbeat automatically; see `TokenStreamingInterceptor`."""


def automatic_interval(info: activity.Info, heartbeat: Heartbeat) -> float | None:
    """Return the seconds between two heartbeats; None for an activity that gets no automatic ones.

    A third of the timeout leaves room for the SDK, which sends a heartbeat at most every 0.8 timeouts.
    """
    if heartbeat == "off" or info.is_local:
        return None
    third = info.heartbeat_timeout / 3 if info.heartbeat_timeout else None
    if heartbeat == "auto":
        return None if third is None else third.total_seconds()
    return (heartbeat if third is None else min(heartbeat, third)).total_seconds()


_MOST_BESIDE = 256 * 1024
"""Bytes of the user's own details, at most, beside which tokens travel: Temporal fails an activity whose
heartbeat has more than 2 MiB, sealed, and the user's details are sent again with each of ours."""


class DetailsHidden(ActivityOutboundInterceptor):
    """Hides from an activity the heartbeat detail that an attempt before it has added for readers."""

    def info(self) -> activity.Info:
        """Return the attempt, with the user's own heartbeat details only."""
        info = self.next.info()
        details = without_ours(info.heartbeat_details)
        if len(details) == len(info.heartbeat_details):
            return info
        return dataclasses.replace(info, heartbeat_details=details)


class HeartbeatRecorder(DetailsHidden):
    """Stands between the activity and the server, and remembers the details of the user's last heartbeat.

    Args:
        next: The next interceptor towards the server.
        is_live: Whether the attempt streams, or may stream, through its heartbeats.

    Attributes:
        is_live: Whether the attempt streams, or may stream, through its heartbeats.
        before: Names the attempts before this one that have streamed so.
    """

    def __init__(self, next: ActivityOutboundInterceptor, *, is_live: bool = False) -> None:  # noqa: A002
        super().__init__(next)
        self.is_live = is_live
        self._wire = next
        self._converter = activity.payload_converter()
        info = activity.info()
        # A retry that dies before its first checkpoint passes on the details that it received.
        self._latest: Sequence[Any] = ()
        self._is_crowded = False
        self._keep(without_ours(info.heartbeat_details))
        self._carried: Sequence[Any] = ()
        self.before: tuple[Frame, ...] = ()
        if is_live and info.workflow_run_id:
            self._name(attempts_in(info.heartbeat_details, info.workflow_run_id, info.activity_id))
        self._last_beat = time.monotonic()

    def heartbeat(self, *details: Any) -> None:
        """Pass the user's heartbeat on; remember its details. Runs on the event loop, for sync ones too."""
        self._last_beat = time.monotonic()
        self._keep(details)
        self._wire.heartbeat(*details, *self._beside)

    def carry(self, detail: Any) -> None:
        """Append this detail to all heartbeats from now on, behind the user's own; None: nothing.

        Raises:
            Exception: the user's payload converter cannot encode it; the heartbeats stay as they were.
        """
        self._carried = () if detail is None else _encoded(self._converter, (detail,))

    def due_in(self, interval: float) -> float:
        """Return the seconds until the last heartbeat is `interval` old; zero or less if it is older."""
        return self._last_beat + interval - time.monotonic()

    def repeat(self) -> None:
        """Send a heartbeat with the user's latest details."""
        self._last_beat = time.monotonic()
        self._wire.heartbeat(*self._latest, *self._beside)

    def skip(self) -> None:
        """Leave one heartbeat out."""
        self._last_beat = time.monotonic()

    @property
    def is_crowded(self) -> bool:
        """Whether the user's own details are so large that nothing can travel beside them."""
        return self._is_crowded

    @property
    def _beside(self) -> Sequence[Any]:
        return () if self._is_crowded else self._carried

    def _keep(self, details: Sequence[Any]) -> None:
        """Keep details as they are now; note, and log, whether they leave room."""
        self._latest = self._frozen(details)
        payloads = [one.payload for one in self._latest if isinstance(one, RawValue)]
        size = sum(len(payload.data) for payload in payloads)
        if self.is_live and size > _MOST_BESIDE and not self._is_crowded:
            logger.warning(
                "the heartbeat details of activity %r have %d KiB: tokens do not travel beside more than %d "
                "KiB, they come with the result; keep large checkpoints elsewhere (logged once an attempt)",
                activity.info().activity_type,
                size // 1024,
                _MOST_BESIDE // 1024,
            )
        self._is_crowded = size > _MOST_BESIDE

    def _name(self, before: tuple[Frame, ...]) -> None:
        if before:
            with suppress(Exception):  # the user's converter: what it cannot encode now, it could not before
                self.carry(Ring(before=before).detail())
                self.before = before

    def _frozen(self, details: Sequence[Any]) -> Sequence[Any]:
        try:
            return _encoded(self._converter, details)
        except Exception:  # noqa: BLE001 - whatever the user's converter raises, the SDK raises it, too
            return tuple(details)


def _encoded(converter: PayloadConverter, details: Sequence[Any]) -> Sequence[Any]:
    """Return the details as they are now, encoded once for all heartbeats."""
    payloads = converter.to_payloads(details)
    raw = tuple(map(RawValue, payloads))
    # One that is not built from Temporal's own may not know RawValue, and then failed the activity.
    return raw if converter.to_payloads(raw) == payloads else tuple(details)


class AutomaticHeartbeats:
    """Sends heartbeats while an activity runs, as `async with`: one task, one timer, no cost per token.

    It sends none before `begin`: an activity that calls no model, and hangs, times out as without us.

    Args:
        recorder: Sends, and knows when the user's code sent its last heartbeat.
        interval: Seconds; a heartbeat is left out if the user's code sent one within.
        captured: Counts what was captured so far.
        stall_timeout: Seconds without a capture after which no more are sent, until there is one.
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
        self._begun = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Send heartbeats from now on. On any thread, within the `async with`."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the activity is over
                self._loop.call_soon_threadsafe(self._begun.set)

    async def __aenter__(self) -> Self:
        """Start the task."""
        self._loop = asyncio.get_running_loop()
        self._task = started(self._run(), "token-stream heartbeats")
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
        except asyncio.CancelledError:  # too late: the activity has ended
            if (current := asyncio.current_task()) is not None:
                current.uncancel()

    async def _run(self) -> None:
        await self._begun.wait()
        seen, since = self._captured(), time.monotonic()
        try:
            while True:
                await asyncio.sleep(max(0.0, self._recorder.due_in(self._interval)))
                if self._recorder.due_in(self._interval) > 0:
                    continue  # the user's code sent one meanwhile
                if (captured := self._captured()) != seen:
                    seen, since = captured, time.monotonic()
                if self._stall_timeout is None or time.monotonic() - since < self._stall_timeout:
                    self._recorder.repeat()
                else:
                    self._recorder.skip()
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("automatic heartbeats of an activity stopped; it may time out")
