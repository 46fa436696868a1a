"""The Temporal side: binds a session to every activity attempt, and says how the attempt ended."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from typing import Any, Literal

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from temporal_token_interceptor.backends.base import TokenSink
from temporal_token_interceptor.buffer import Budget
from temporal_token_interceptor.capture import Observer, capturing
from temporal_token_interceptor.custom_data import attached
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.heartbeat import Heartbeat, HeartbeatRecorder, Pulse, pulse_interval
from temporal_token_interceptor.recording import Recording
from temporal_token_interceptor.session import Session
from temporal_token_interceptor.summary import item_of

logger = logging.getLogger(__name__)


class TokenStreamingInterceptor(Interceptor):
    """Makes every LangChain model that runs inside an activity of this worker stream its tokens.

    The activity's result, exception and cancellation leave exactly as they came, and nothing is added to
    the workflow's history; but a result that has a field `custom_data` gets a summary there, and an
    activity with a heartbeat timeout beats. An activity that calls no model pays for one idle task; a
    token costs a few microseconds in the model's callback, and is sent from a task of its own. At its end
    an activity waits until its last tokens are stored: a round trip, or `flush_timeout` if the transport is
    away.

    Making `ainvoke` stream has consequences that do not depend on this package: the request to the
    provider becomes a streaming one, your own handlers receive `on_llm_new_token`, and what a provider
    leaves out of its stream (usage, often) is missing from the message. See `force_streaming`.

    Args:
        backend: Where the tokens go. It is used on the worker's event loop and not closed. None: they go
            into the activity's result, whole if 128 KiB are enough, and arrive when it completes.
        nodes: The LangGraph nodes to capture (outside of a graph: activity types); None for all.
        activities: The activity types to capture; None for all.
        force_streaming: `"auto"`: calls of `invoke` and `ainvoke` stream where streaming the model runs
            the same code of its author as not streaming it. True: wherever the model can stream. False:
            never; only calls that stream by themselves arrive in pieces, all others when they end. The
            tag `tti:noforce` leaves a single call alone.
        heartbeat: `"auto"`: an activity with a `heartbeat_timeout` beats by itself, at a third of it, so that
            a slow first token does not trip it; your own latest details are repeated, never replaced. An
            interval: every activity beats, at that interval or the third, whichever is shorter. `"off"`:
            none does. **An activity that beats learns of cancellation**, at the next beat that the SDK sends
            (every 0.8 timeouts), and one that hangs no longer times out: see `stall_timeout`.
        stall_timeout: How long nothing may be captured before the activity stops to beat by itself, so that
            a model call that hangs still times out. It goes on once something is captured. Longer than the
            longest wait for a first token, and than the longest pause between two calls. None: never.
        summary: `"auto"`: a result that has a field `custom_data`, None or a list, gets an item there: counts
            of what was said (at most 4 KiB), or, of what no backend took, the tokens (at most 128 KiB).
            It is left alone where the item would not survive decoding by the activity's return type, or
            Temporal's limit for payloads. `"off"`: every result is left alone.
        flush_timeout: How long an activity that has ended may wait for its last tokens to be stored.
        max_buffered_bytes: Memory for tokens that wait for the transport, all activities of the worker
            together. What does not fit is counted, and readers see a `Gap`.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        backend: TokenSink | None = None,
        *,
        nodes: Collection[str] | None = None,
        activities: Collection[str] | None = None,
        force_streaming: Literal["auto"] | bool = "auto",
        heartbeat: Heartbeat = "auto",
        stall_timeout: timedelta | None = None,
        summary: Literal["auto", "off"] = "auto",
        flush_timeout: timedelta = timedelta(seconds=2),
        max_buffered_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        if backend is not None and not isinstance(backend, TokenSink):
            raise ConfigurationError(
                f"backend must be a TokenSink such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        if force_streaming not in ("auto", True, False):
            raise ConfigurationError(
                f'force_streaming must be "auto", True or False, not {force_streaming!r}'
            )
        if heartbeat not in ("auto", "off") and not _is_positive(heartbeat):
            raise ConfigurationError(
                f'heartbeat must be "auto", "off" or a timedelta that is positive, not {heartbeat!r}'
            )
        if stall_timeout is not None and not _is_positive(stall_timeout):
            raise ConfigurationError(
                f"stall_timeout must be None or a timedelta that is positive, not {stall_timeout!r}"
            )
        if summary not in ("auto", "off"):
            raise ConfigurationError(f'summary must be "auto" or "off", not {summary!r}')
        if backend is None and summary == "off":
            raise ConfigurationError('without a backend, summary="off" leaves nowhere for the tokens to go')
        if not isinstance(flush_timeout, timedelta) or flush_timeout < timedelta(0):
            raise ConfigurationError(
                f"flush_timeout must be a timedelta that is not negative, not {flush_timeout!r}"
            )
        self._backend = backend
        self._nodes = _names("nodes", nodes)
        self._activities = _names("activities", activities)
        self._force_streaming = force_streaming
        self._heartbeat = heartbeat
        self._stall_timeout = None if stall_timeout is None else stall_timeout.total_seconds()
        self._summary = summary
        self._flush_timeout = flush_timeout
        self._budget = Budget(max_buffered_bytes)
        self._placeless: set[str] = set()  # activity types; a worker has not many

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap an activity attempt. Temporal calls this once for each."""
        return _StreamingActivity(next, self)

    def recorder(self, outbound: ActivityOutboundInterceptor) -> HeartbeatRecorder | None:
        """Return what remembers the user's heartbeats; None for an activity that gets no pulse."""
        try:
            info = activity.info()
            if not self._captures(info) or pulse_interval(info, self._heartbeat) is None:
                return None
            return HeartbeatRecorder(outbound)
        except Exception:  # ours: the activity must not suffer
            logger.exception("an activity has no pulse")
            return None

    async def execute(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002
        input: ExecuteActivityInput,  # noqa: A002
        recorder: HeartbeatRecorder | None = None,
    ) -> Any:
        """Run an activity attempt, streaming what its models say."""
        info = activity.info()
        if not self._captures(info):
            return await next.execute_activity(input)
        try:
            attempt = self._attempt(_origin(info))
            observer = Observer(attempt.buffer, default_node=info.activity_type, nodes=self._nodes)
            pulse = self._pulse(info, recorder, attempt)
        except Exception:  # ours: the activity must not suffer
            logger.exception("activity %r runs without streaming", info.activity_type)
            return await next.execute_activity(input)
        async with attempt, pulse:  # the pulse goes on while the attempt waits for its last tokens
            try:
                with capturing(observer, force_streaming=self._force_streaming):
                    result = await next.execute_activity(input)
            except BaseException as error:
                await attempt.finish(_outcome(error), will_retry=_will_retry(info, error))
                raise
            await attempt.finish("completed_provisional")
            return self._with_summary(result, attempt, input)

    def _captures(self, info: activity.Info) -> bool:
        return self._activities is None or info.activity_type in self._activities

    def _attempt(self, origin: Origin) -> Session | Recording:
        if self._backend is None:
            return Recording(origin)
        return Session(origin, self._backend, budget=self._budget, flush_timeout=self._flush_timeout)

    def _pulse(
        self, info: activity.Info, recorder: HeartbeatRecorder | None, attempt: Session | Recording
    ) -> AbstractAsyncContextManager[object]:
        interval = pulse_interval(info, self._heartbeat)
        if recorder is None or interval is None:
            return nullcontext()
        return Pulse(
            recorder,
            interval,
            captured=lambda: attempt.buffer.received,
            stall_timeout=self._stall_timeout,
        )

    def _with_summary(self, result: Any, attempt: Session | Recording, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Return the result with what there is to tell in its `custom_data`, or just the result."""
        if self._summary == "off" or not (attempt.undelivered or attempt.tally.call_count):
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

    def __repr__(self) -> str:
        """Tell the state."""
        where = "custom_data" if self._backend is None else f"{self._backend!r}, {self._budget!r}"
        return f"<TokenStreamingInterceptor to {where}>"


class _StreamingActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, interceptor: TokenStreamingInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self._interceptor = interceptor
        self._recorder: HeartbeatRecorder | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._recorder = self._interceptor.recorder(outbound)
        super().init(self._recorder or outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return await self._interceptor.execute(self.next, input, self._recorder)


def _is_positive(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def _names(argument: str, names: Collection[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    if isinstance(names, str):
        raise ConfigurationError(
            f"{argument} must be a collection of names, such as [{names!r}], not one string"
        )
    return frozenset(names)


def _origin(info: activity.Info) -> Origin:
    return Origin(
        namespace=info.namespace,
        # A standalone activity has no workflow; its stream is filed under its own id.
        workflow_id=info.workflow_id or f"activity:{info.activity_id}",
        workflow_type=info.workflow_type or "",
        run_id=info.workflow_run_id or info.activity_run_id or "",
        activity_id=info.activity_id,
        activity_type=info.activity_type,
        attempt=info.attempt,
        attempt_id=hashlib.sha256(info.task_token).hexdigest()[:16],
        started_time=info.started_time,
    )


def _outcome(error: BaseException) -> Outcome:
    """Name how an attempt ended, from the exception that left it and what Temporal told the activity."""
    if isinstance(error, asyncio.CancelledError | CancelledError):
        details = activity.cancellation_details()
        if details is None:
            return "failed"  # the activity's own: Temporal asked for nothing, and records a failure
        told: tuple[tuple[bool, Outcome], ...] = (
            (details.paused, "paused"),
            (details.reset, "reset"),
            (details.cancel_requested, "cancelled"),
            (details.worker_shutdown, "worker_shutdown"),
            (details.timed_out, "timed_out"),
        )
        return next((outcome for is_so, outcome in told if is_so), "abandoned")
    # The SDK's private way to say "I will complete it later". Matched by name, so that a change there costs
    # us a wrong word in an advisory event and not an import.
    if type(error).__name__ == "_CompleteAsyncError":
        return "async_pending"
    return "failed"


def _will_retry(info: activity.Info, error: BaseException) -> bool | None:
    """Predict whether Temporal starts another attempt; None where only the server can know."""
    if _outcome(error) != "failed":
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
