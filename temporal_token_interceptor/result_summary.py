"""Puts what there is to tell of an attempt into its activity's result; never the reason that one fails."""

from __future__ import annotations

import logging
from typing import Any

from temporalio import activity
from temporalio.worker import ExecuteActivityInput

from temporal_token_interceptor.custom_data import attached
from temporal_token_interceptor.recording import Recording
from temporal_token_interceptor.session import Session
from temporal_token_interceptor.summary import item_of

logger = logging.getLogger(__name__)


class ResultSummaries:
    """Attaches summaries, and says once for each activity type that has no place for what must be told."""

    def __init__(self) -> None:
        self._placeless: set[str] = set()  # activity types; a worker has not many

    def attach(self, result: Any, attempt: Session | Recording, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Return the result with what there is to tell in its `custom_data`, or just the result."""
        if not (attempt.undelivered or attempt.tally.call_count):
            return result
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
