"""Tells what there is to tell of an attempt that ended: in its activity's result, or to the transport, later.

Never the reason that an activity fails.
"""

from __future__ import annotations

import logging
from typing import Any

from temporalio import activity
from temporalio.worker import ExecuteActivityInput

from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.custom_data import attached
from temporal_token_interceptor.worker.offline_session import Recording
from temporal_token_interceptor.worker.redelivery import LateFrames
from temporal_token_interceptor.worker.session import Session
from temporal_token_interceptor.worker.summary import item_of

logger = logging.getLogger(__name__)


class ResultSummaries:
    """Attaches summaries, and says once for each activity type that has no place for what must be told.

    Args:
        sink: Takes later what no result holds; None where there is no transport.
        enabled: Whether results may be changed.
    """

    def __init__(self, sink: TokenSink | None, *, enabled: bool) -> None:
        self._enabled = enabled
        self._late = None if sink is None else LateFrames(sink)
        self._placeless: set[str] = set()  # activity types; a worker has not many

    def attach(self, result: Any, attempt: Session | Recording, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Return the result with what there is to tell in its `custom_data`, or just the result."""
        changed = result
        try:
            if not (attempt.undelivered or attempt.tally.call_count):
                return result
            if self._enabled:
                changed = self._changed(result, attempt, input)
        except Exception:  # ours: the activity must not suffer
            logger.exception("the summary of an attempt is left out")
        if changed is result:
            self.leave(attempt)
        return changed

    def leave(self, attempt: Session | Recording) -> None:
        """Let an attempt without a result be told when the transport takes it again."""
        try:
            if self._late is not None and isinstance(attempt, Session):
                self._late.leave(attempt.undelivered, attempt.codec)
        except Exception:  # ours: the activity must not suffer
            logger.exception("what was left of an attempt is not told")

    def _changed(self, result: Any, attempt: Session | Recording, input: ExecuteActivityInput) -> Any:  # noqa: A002
        error: Exception | None = None
        try:
            changed = attached(
                result,
                lambda room: item_of(attempt.undelivered, attempt.origin, attempt.tally, room),
                function=input.fn,
                converter=activity.payload_converter(),
            )
        except Exception as failure:  # noqa: BLE001 - ours, or the user's converter's: the result stands
            changed, error = result, failure
        kind = attempt.origin.activity_type
        if changed is result and attempt.undelivered and kind not in self._placeless:
            self._placeless.add(kind)
            logger.warning(
                "what activity %r says cannot be told by its result: it has no `custom_data` that is None "
                "or a list, or no room there, or its type does not admit a summary%s (said once)",
                kind,
                f" ({type(error).__name__})" if error else "",
            )
        return changed
