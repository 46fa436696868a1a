"""Warnings about set-ups that stream less than the user expects, each logged once."""

from __future__ import annotations

import logging
from difflib import get_close_matches

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
        self._is_checked = not options.filters()

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

    def unstreamed_operation(self, kind: str) -> None:
        """Warn of a Nexus operation that calls models on a worker without a backend."""
        if kind in self._unreachable:
            return
        self._unreachable.add(kind)
        logger.warning(
            "Nexus operation %r calls models, and nothing of it streams: without a backend tokens travel in "
            "heartbeats and results of activities, which an operation has not; use a backend, or call the "
            "model in an activity (logged once)",
            kind,
        )

    def attempt_completed(self, activity_type: str, observer: Observer, *, has_only_calls: bool) -> None:
        """Warn, once, if models were called and the filters captured none, or name what was not there.

        Args:
            activity_type: That of the attempt.
            observer: That of the attempt.
            has_only_calls: Whether nothing was captured but the starts and ends of model calls.
        """
        if self._is_checked or not observer.called_nodes:
            return
        self._is_checked = True
        if observer.has_captured:
            self._warn_of_names(activity_type, observer)
            if has_only_calls and self._options.kinds is not None:
                self._warn_of_kinds(activity_type)
            return
        logger.warning(
            "no model call was captured: activity %r called models in %s, and the filters are %s; "
            "correct the filter if that is not intended (logged once)",
            activity_type,
            ", ".join(sorted(observer.called_nodes)),
            ", ".join(f"{name}={selected}" for name, selected in self._options.filters().items()),
        )

    def _warn_of_kinds(self, activity_type: str) -> None:
        logger.warning(
            "nothing of kinds=%s was captured in activity %r: readers get the starts and ends of its model "
            "calls alone; add a kind, or ignore this if they are of another activity (logged once)",
            sorted(self._options.kinds or ()),
            activity_type,
        )

    def _warn_of_names(self, activity_type: str, observer: Observer) -> None:
        if not observer.unmatched:
            return
        hints = (get_close_matches(name, observer.called_nodes, 1) for name in sorted(observer.unmatched))
        close = sorted({found for matches in hints for found in matches})
        logger.warning(
            "the filters name %s, which matched nothing in activity %r: its models were called in %s%s; "
            "correct the filter, or ignore this if the name is one of another activity (logged once)",
            ", ".join(sorted(observer.unmatched)),
            activity_type,
            ", ".join(sorted(observer.called_nodes)),
            f" (did you mean {' or '.join(close)}?)" if close else "",
        )
