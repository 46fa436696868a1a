"""What the SDK knows of an activity attempt: where it comes from, how it ended, whether another follows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from temporalio import activity
from temporalio.common import MetricMeter
from temporalio.exceptions import ApplicationError, CancelledError

from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.telemetry.attempt import RuntimeMeter


def origin_of_activity(info: activity.Info) -> Origin:
    """Return the origin of an attempt."""
    return Origin(
        namespace=info.namespace,
        # A standalone activity has no workflow; its stream has the activity's id.
        workflow_id=info.workflow_id or f"activity:{info.activity_id}",
        workflow_type=info.workflow_type or "",
        run_id=info.workflow_run_id or info.activity_run_id or "",
        activity_id=info.activity_id,
        activity_type=info.activity_type,
        attempt=info.attempt,
        attempt_id=hashlib.sha256(info.task_token).hexdigest()[:16],
        started_time=info.started_time,
        scheduled_time=info.scheduled_time,
    )


def outcome_of(error: BaseException) -> Outcome:
    """Return how an attempt ended, from its exception and, if it was cancelled, Temporal's reason."""
    if isinstance(error, asyncio.CancelledError | CancelledError):
        details = activity.cancellation_details()
        if details is None:
            return "failed"  # the activity's own: Temporal asked for nothing, and records a failure
        reasons: tuple[tuple[bool, Outcome], ...] = (
            (details.paused, "paused"),
            (details.reset, "reset"),
            (details.cancel_requested, "cancelled"),
            (details.worker_shutdown, "worker_shutdown"),
            (details.timed_out, "timed_out"),
        )
        for is_so, outcome in reasons:
            if is_so:
                return outcome
        return "abandoned"
    # The SDK's private exception of "I will complete it later". Matched by name, so that a change there costs
    # a wrong outcome in an advisory event and not an import.
    if type(error).__name__ == "_CompleteAsyncError":
        return "async_pending"
    return "failed"


def will_retry(info: activity.Info, error: BaseException) -> bool | None:
    """Predict whether Temporal starts another attempt; None where only the server can know."""
    if outcome_of(error) != "failed":
        return None
    if isinstance(error, ApplicationError) and error.non_retryable:
        return False
    policy = info.retry_policy
    if policy is None:
        return None
    kind = error.type if isinstance(error, ApplicationError) and error.type else type(error).__name__
    if kind in (policy.non_retryable_error_types or ()):
        return False
    return policy.maximum_attempts == 0 or info.attempt < policy.maximum_attempts


def runtime_meter(current: Callable[[], MetricMeter]) -> RuntimeMeter | None:
    """Return the meter of Temporal's own metrics; None where they are off."""
    try:
        meter = current()
    except RuntimeError:  # the SDK has none for an activity that runs in a process pool
        return None
    return None if meter is MetricMeter.noop else meter
