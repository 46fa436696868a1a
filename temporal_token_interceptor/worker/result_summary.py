"""Attaches the summary of a finished attempt to its result, or schedules redelivery of undelivered frames.

An activity never fails because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from temporalio import activity
from temporalio.worker import ExecuteActivityInput

from temporal_token_interceptor._tasks import cancelled_too_late, in_thread
from temporal_token_interceptor.events import Frame
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.custom_data import attached, has_place
from temporal_token_interceptor.worker.live_session import LiveSession
from temporal_token_interceptor.worker.offline_session import OfflineSession
from temporal_token_interceptor.worker.redelivery import LateFrames
from temporal_token_interceptor.worker.session import Session
from temporal_token_interceptor.worker.summary import item_of

logger = logging.getLogger(__name__)

# How long the user's serializers and validators may keep an activity that has ended.
_ATTACH_SECONDS = 1.0


class ResultSummaries:
    """Attaches summaries; logs once for each activity type whose results cannot hold undelivered tokens.

    Args:
        sink: Receives later what no result holds; None where there is no transport.
        enabled: Whether results may be changed.
    """

    def __init__(self, sink: TokenSink | None, *, enabled: bool) -> None:
        self._enabled = enabled
        self._late = None if sink is None else LateFrames(sink)
        self._placeless: set[str] = set()  # activity types; a worker has not many
        self._slow: set[str] = set()

    async def attach(
        self,
        result: Any,
        attempt: Session | OfflineSession,
        input: ExecuteActivityInput,  # noqa: A002 - Temporal's name
    ) -> Any:
        """Return the result with the summary in its `custom_data`, or just the result."""
        changed = result
        try:
            undelivered = attempt.take_undelivered()
            if not (undelivered or attempt.tally.call_count):
                return result
            if self._enabled:
                changed = await self._changed(result, attempt, undelivered, input)
            if changed is result:
                self._redeliver(attempt, undelivered)
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("could not attach the summary of an attempt to its result")
        return changed

    def leave(self, attempt: Session | OfflineSession) -> None:
        """Schedule redelivery of the undelivered frames of an attempt that has no result."""
        try:
            self._redeliver(attempt, attempt.take_undelivered())
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("could not schedule redelivery of undelivered frames")

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - how long to try
        """Deliver what is left within so many seconds; count and log the rest. Joins the task."""
        if self._late is not None:
            await self._late.close(timeout)

    def _redeliver(self, attempt: Session | OfflineSession, undelivered: Sequence[Frame]) -> None:
        if self._late is not None and isinstance(attempt, Session):
            self._late.leave(undelivered, attempt.codec)

    async def _changed(
        self,
        result: Any,
        attempt: Session | OfflineSession,
        undelivered: Sequence[Frame],
        input: ExecuteActivityInput,  # noqa: A002 - Temporal's name
    ) -> Any:
        kind = attempt.origin.activity_type
        if kind in self._slow:
            return result
        changed = result
        error: Exception | None = None
        try:
            if has_place(result):
                changed = await self._attached(result, attempt, undelivered, input)
        except TimeoutError:
            self._slow.add(kind)
            logger.warning(
                "the result of activity %r takes more than %g s to be encoded and decoded: its results get "
                'no summary and hold no undelivered tokens; set summary="off" if that is intended '
                "(logged once)",
                kind,
                _ATTACH_SECONDS,
            )
            return result
        except Exception as failure:  # noqa: BLE001 - ours, or the user's converter's: the result stands
            error = failure
        if changed is result and undelivered and kind not in self._placeless:
            self._placeless.add(kind)
            # Live readers have them: only those that come after the activity has ended miss them.
            level = logging.INFO if isinstance(attempt, LiveSession) else logging.WARNING
            logger.log(
                level,
                "the result of activity %r cannot hold its undelivered tokens: it has no `custom_data` that "
                "is None or a list, or no room there, or its type does not admit a summary%s; they are sent "
                "once the transport is back, if there is one; see docs/durable.md (logged once)",
                kind,
                f" ({type(error).__name__})" if error else "",
            )
        return changed

    async def _attached(
        self,
        result: Any,
        attempt: Session | OfflineSession,
        undelivered: Sequence[Frame],
        input: ExecuteActivityInput,  # noqa: A002 - Temporal's name
    ) -> Any:
        """Attach the summary in a thread: it runs the user's serializers and validators."""
        converter = activity.payload_converter()

        def attach_summary() -> Any:
            return attached(
                result,
                lambda room: item_of(undelivered, attempt.origin, attempt.tally, room),
                function=input.fn,
                converter=converter,
            )

        with cancelled_too_late():
            return await in_thread(attach_summary, _ATTACH_SECONDS)
        return result  # as it is: a cancellation now ends the wait, and is too late for the activity
