"""The Temporal side: binds a session to every activity attempt, and says how the attempt ended."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Literal

from temporalio import activity
from temporalio.common import MetricMeter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from temporal_token_interceptor.backends.base import TokenSink
from temporal_token_interceptor.buffer import Budget
from temporal_token_interceptor.capture import Observer, capturing
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.session import Session
from temporal_token_interceptor.telemetry_models import GenAISpans, models_reported
from temporal_token_interceptor.telemetry_writer import RuntimeMeter, attempt_telemetry

logger = logging.getLogger(__name__)


class TokenStreamingInterceptor(Interceptor):
    """Makes every LangChain model that runs inside an activity of this worker stream its tokens.

    The activity's result, exception and cancellation leave exactly as they came, and nothing is added to
    the workflow's history. An activity that calls no model pays for one idle task; a token costs a
    few microseconds in the model's callback, and is sent from a task of its own. At its end an activity
    waits until its last tokens are stored: a round trip, or `flush_timeout` if the transport is away.

    Making `ainvoke` stream has consequences that do not depend on this package: the request to the
    provider becomes a streaming one, your own handlers receive `on_llm_new_token`, and what a provider
    leaves out of its stream (usage, often) is missing from the message. See `force_streaming`.

    Args:
        backend: Where the tokens go. It is used on the worker's event loop and not closed.
        nodes: The LangGraph nodes to capture (outside of a graph: activity types); None for all.
        activities: The activity types to capture; None for all.
        force_streaming: `"auto"`: calls of `invoke` and `ainvoke` stream where streaming the model runs
            the same code of its author as not streaming it. True: wherever the model can stream. False:
            never; only calls that stream by themselves arrive in pieces, all others when they end. The
            tag `tti:noforce` leaves a single call alone.
        flush_timeout: How long an activity that has ended may wait for its last tokens to be stored.
        genai_spans: Whether `chat` and `execute_tool` spans and the GenAI metrics are told to OpenTelemetry,
            where an SDK is installed: `"on"`, `"off"`, or `"auto"`: unless another instrumentation of
            LangChain does it.
        max_buffered_bytes: Memory for tokens that wait for the transport, all activities of the worker
            together. What does not fit is counted, and readers see a `Gap`.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        backend: TokenSink,
        *,
        nodes: Collection[str] | None = None,
        activities: Collection[str] | None = None,
        force_streaming: Literal["auto"] | bool = "auto",
        flush_timeout: timedelta = timedelta(seconds=2),
        genai_spans: GenAISpans = "auto",
        max_buffered_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        if not isinstance(backend, TokenSink):
            raise ConfigurationError(
                f"backend must be a TokenSink such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        if force_streaming not in ("auto", True, False):
            raise ConfigurationError(
                f'force_streaming must be "auto", True or False, not {force_streaming!r}'
            )
        if not isinstance(flush_timeout, timedelta) or flush_timeout < timedelta(0):
            raise ConfigurationError(
                f"flush_timeout must be a timedelta that is not negative, not {flush_timeout!r}"
            )
        if genai_spans not in ("auto", "on", "off"):
            raise ConfigurationError(f'genai_spans must be "auto", "on" or "off", not {genai_spans!r}')
        self._backend = backend
        self._genai_spans = genai_spans
        self._nodes = _names("nodes", nodes)
        self._activities = _names("activities", activities)
        self._force_streaming = force_streaming
        self._flush_timeout = flush_timeout
        self._budget = Budget(max_buffered_bytes)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap an activity attempt. Temporal calls this once for each."""
        return _StreamingActivity(next, self)

    async def execute(self, next: ActivityInboundInterceptor, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run an activity attempt, streaming what its models say."""
        info = activity.info()
        if self._activities is not None and info.activity_type not in self._activities:
            return await next.execute_activity(input)
        try:
            origin = _origin(info)
            telemetry = attempt_telemetry(
                origin, self._backend, self._budget, _runtime_meter(), thrown_in=(CancelledError,)
            )
            session = Session(
                origin,
                self._backend,
                budget=self._budget,
                flush_timeout=self._flush_timeout,
                telemetry=telemetry,
            )
            observer = Observer(
                session.buffer,
                default_node=info.activity_type,
                nodes=self._nodes,
                telemetry=telemetry,
                thrown_in=(CancelledError,),
            )
        except Exception:  # ours: the activity must not suffer
            logger.exception("activity %r runs without streaming", info.activity_type)
            return await next.execute_activity(input)
        async with session:
            try:
                with (
                    capturing(observer, force_streaming=self._force_streaming),
                    models_reported(
                        genai_spans=self._genai_spans,
                        default_node=info.activity_type,
                        thrown_in=(CancelledError,),
                    ),
                ):
                    result = await next.execute_activity(input)
            except BaseException as error:
                await session.finish(_outcome(error), will_retry=_will_retry(info, error))
                raise
            await session.finish("completed_provisional")
            return result

    def __repr__(self) -> str:
        """Tell the state."""
        return f"<TokenStreamingInterceptor to {self._backend!r}, {self._budget!r}>"


class _StreamingActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, interceptor: TokenStreamingInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self._interceptor = interceptor

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return await self._interceptor.execute(self.next, input)


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


def _runtime_meter() -> RuntimeMeter | None:
    """Return the meter of Temporal's own metrics; None where they are off."""
    meter = activity.metric_meter()
    return None if meter is MetricMeter.noop else meter


def _outcome(error: BaseException) -> Outcome:
    """Name how an attempt ended, from the exception that left it and what Temporal told the activity."""
    if isinstance(error, asyncio.CancelledError | CancelledError):
        details = activity.cancellation_details()
        if details is not None and details.paused:
            return "paused"
        if details is not None and details.worker_shutdown:
            return "worker_shutdown"
        return "cancelled"
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
