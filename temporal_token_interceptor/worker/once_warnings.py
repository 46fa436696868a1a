"""Warnings about set-ups that stream less than the user expects, each logged once."""

from __future__ import annotations

import logging

from temporalio import activity

from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.worker.options import StreamingOptions

logger = logging.getLogger(__name__)


class OnceWarnings:
    """Remembers what was logged. One for each worker.

    Args:
        options: Those of the worker.
    """

    def __init__(self, options: StreamingOptions) -> None:
        self._options = options
        self._unreachable: set[str] = set()  # activity types; a worker has not many
        self._is_captured = not options.filters()

    def model_called(self, info: activity.Info) -> None:
        """Warn of an activity type that calls models, and that a cancellation of its workflow does not reach.

        A local activity needs no heartbeat for that: the worker that runs it also knows of the cancellation.
        """
        if info.is_local or info.heartbeat_timeout or info.activity_type in self._unreachable:
            return
        self._unreachable.add(info.activity_type)
        logger.warning(
            "activity %r calls models and has no heartbeat_timeout: cancelling its workflow does not stop "
            "it, the model call runs on and is paid for; set heartbeat_timeout where the workflow schedules "
            "it, once every worker has the interceptor (docs/operations.md, Rollout; logged once)",
            info.activity_type,
        )

    def attempt_completed(self, activity_type: str, observer: Observer) -> None:
        """Warn, once, if models were called and the filters have captured none so far."""
        if self._is_captured or not observer.called_nodes:
            return
        self._is_captured = True  # or the warning is logged: either way once
        if observer.has_captured:
            return
        logger.warning(
            "no model call was captured: activity %r called models in %s, and the filters are %s; "
            "correct the filter if that is not intended (logged once)",
            activity_type,
            ", ".join(sorted(observer.called_nodes)),
            ", ".join(f"{name}={selected}" for name, selected in self._options.filters().items()),
        )
