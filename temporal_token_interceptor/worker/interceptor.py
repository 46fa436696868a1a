"""The Temporal side: binds a session to every activity attempt, and says how the attempt ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

from nexusrpc.handler import StartOperationResultAsync, StartOperationResultSync
from temporalio import activity, nexus
from temporalio.converter import DataConverter
from temporalio.exceptions import CancelledError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    ExecuteNexusOperationStartInput,
    Interceptor,
    NexusOperationInboundInterceptor,
)

from temporal_token_interceptor.capture.buffer import Budget
from temporal_token_interceptor.capture.filters import Content, Kind, Selection, names
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.attempt import RuntimeMeter, attempt_telemetry
from temporal_token_interceptor.telemetry.model_calls import GenAISpans, models_reported
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.attempt_info import (
    origin_of_activity,
    outcome_of,
    runtime_meter,
    will_retry,
)
from temporal_token_interceptor.worker.data_converter import ClientConverter
from temporal_token_interceptor.worker.heartbeat import Heartbeat, HeartbeatRecorder, pulse_interval, pulse_of
from temporal_token_interceptor.worker.nexus import operation_type, origin_of
from temporal_token_interceptor.worker.offline_session import Recording
from temporal_token_interceptor.worker.pool_activities import ProcessPools, leaves_the_process
from temporal_token_interceptor.worker.result_summary import ResultSummaries
from temporal_token_interceptor.worker.session import Session

logger = logging.getLogger(__name__)

# What Temporal raises in the thread of a sync activity.
_THROWN_IN = (CancelledError,)


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
        tags: LangChain's tags: only calls, tools and nodes with one of these; None for all.
        kinds: Some of `text`, `reasoning`, `tool_call`, `block`, `tool`, `node`, `custom`; None for all.
            That a model call began and ended is always told.
        capture: What is left out unless asked for, because it is large or was never meant for a viewer:
            `tool_input`, `tool_output`, `node_output`, `media` (the bytes of images, audio and files).
        metadata_keys: Of your own metadata, what to send with each model call.
        force_streaming: `"auto"`: calls of `invoke` and `ainvoke` stream where streaming the model runs
            the same code of its author as not streaming it. True: wherever the model can stream. False:
            never; only calls that stream by themselves arrive in pieces, all others when they end. The
            tag `tti:noforce` leaves a single call alone.
        data_converter: If it has a payload codec, frames are sealed with it, and readers need it to open
            them. None: that of the worker's client. `DataConverter.default` leaves frames plain.
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
        backend: TokenSink | None = None,
        *,
        nodes: Collection[str] | None = None,
        activities: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        kinds: Collection[Kind] | None = None,
        capture: Collection[Content] = (),
        metadata_keys: Collection[str] = (),
        force_streaming: Literal["auto"] | bool = "auto",
        data_converter: DataConverter | None = None,
        heartbeat: Heartbeat = "auto",
        stall_timeout: timedelta | None = None,
        summary: Literal["auto", "off"] = "auto",
        flush_timeout: timedelta = timedelta(seconds=2),
        genai_spans: GenAISpans = "auto",
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
        if data_converter is not None and not isinstance(data_converter, DataConverter):
            raise ConfigurationError(
                f"data_converter must be that of the client, not {type(data_converter).__name__}"
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
        if genai_spans not in ("auto", "on", "off"):
            raise ConfigurationError(f'genai_spans must be "auto", "on" or "off", not {genai_spans!r}')
        self._backend = backend
        self._genai_spans = genai_spans
        self._activities = names("activities", activities)
        self._selection = Selection.of(
            nodes=nodes, tags=tags, kinds=kinds, capture=capture, metadata_keys=metadata_keys
        )
        self._force_streaming = force_streaming
        self._converter = ClientConverter(data_converter)
        self._heartbeat = heartbeat
        self._stall_timeout = None if stall_timeout is None else stall_timeout.total_seconds()
        self._summaries = ResultSummaries(backend, enabled=summary != "off")
        self._flush_timeout = flush_timeout
        self._budget = Budget(max_buffered_bytes)
        self._pools = ProcessPools(
            selection=self._selection,
            force_streaming=force_streaming,
            max_buffered_bytes=max_buffered_bytes,
            flush_timeout=flush_timeout,
        )

    @property
    def backend(self) -> TokenSink | None:
        """Where the tokens go; None for `custom_data`."""
        return self._backend

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap an activity attempt. Temporal calls this once for each."""
        return _StreamingActivity(next, self)

    def _recorder(self, outbound: ActivityOutboundInterceptor) -> HeartbeatRecorder | None:
        """Return what remembers the user's heartbeats; None for an activity that gets no pulse."""
        try:
            info = activity.info()
            if not self._captures(info.activity_type) or pulse_interval(info, self._heartbeat) is None:
                return None
            return HeartbeatRecorder(outbound)
        except Exception:  # ours: the activity must not suffer
            logger.exception("an activity has no pulse")
            return None

    async def _execute(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002
        input: ExecuteActivityInput,  # noqa: A002
        outbound: ActivityOutboundInterceptor | None = None,
    ) -> Any:
        """Run an activity attempt, streaming what its models say."""
        info = activity.info()
        if not self._captures(info.activity_type):
            return await next.execute_activity(input)
        try:
            converter = self._converter.of_activity(outbound)
            attempt = self._attempt(origin_of_activity(info), runtime_meter(activity.metric_meter), converter)
            observer = Observer(
                attempt.buffer,
                default_node=info.activity_type,
                selection=self._selection,
                on_call=attempt.telemetry.call_started,
                thrown_in=_THROWN_IN,
            )
            pulse = pulse_of(
                info,
                self._heartbeat,
                outbound,
                captured=lambda: attempt.buffer.received,
                stall_timeout=self._stall_timeout,
            )
        except Exception:  # ours: the activity must not suffer
            logger.exception("activity %r runs without streaming", info.activity_type)
            return await next.execute_activity(input)
        async with attempt, pulse:  # the pulse goes on while the attempt waits for its last tokens
            try:
                if leaves_the_process(input):
                    result = await self._pools.execute(next, input, attempt.buffer, attempt.telemetry)
                else:
                    with self._observing(observer, info.activity_type):
                        result = await next.execute_activity(input)
            except BaseException as error:
                await attempt.finish(outcome_of(error), will_retry=will_retry(info, error))
                self._summaries.leave(attempt)
                raise
            await attempt.finish("completed_provisional")
            return self._summaries.attach(result, attempt, input)

    def _captures(self, activity_type: str) -> bool:
        return self._activities is None or activity_type in self._activities

    def _attempt(
        self, origin: Origin, meter: RuntimeMeter | None, converter: DataConverter | None
    ) -> Session | Recording:
        if self._backend is None:
            return Recording(origin)
        return Session(
            origin,
            self._backend,
            budget=self._budget,
            flush_timeout=self._flush_timeout,
            codec=FrameCodec.of(converter, StreamKey.of(origin)),
            telemetry=attempt_telemetry(origin, self._backend, self._budget, meter, thrown_in=_THROWN_IN),
        )

    def intercept_nexus_operation(
        self,
        next: NexusOperationInboundInterceptor,  # noqa: A002
    ) -> NexusOperationInboundInterceptor:
        """Wrap a Nexus operation. Temporal calls this once for each."""
        return _StreamingOperation(next, self)

    async def _start_operation(
        self,
        next: NexusOperationInboundInterceptor,  # noqa: A002
        input: ExecuteNexusOperationStartInput,  # noqa: A002
    ) -> StartOperationResultSync[Any] | StartOperationResultAsync:
        """Run the handler of an operation, streaming what its models say to the workflow that called it."""
        kind, origin = operation_type(input.ctx), origin_of(input.ctx)
        # Without a backend there is nowhere to go: the result of an operation has no `custom_data`.
        if origin is None or self._backend is None or not self._captures(kind):
            return await next.execute_nexus_operation_start(input)
        try:
            converter = self._converter.of_operation()
            attempt = self._attempt(origin, runtime_meter(nexus.metric_meter), converter)
            observer = Observer(
                attempt.buffer,
                default_node=kind,
                selection=self._selection,
                on_call=attempt.telemetry.call_started,
            )
        except Exception:  # ours: the operation must not suffer
            logger.exception("operation %r runs without streaming", kind)
            return await next.execute_nexus_operation_start(input)
        async with attempt:
            try:
                with self._observing(observer, kind):
                    result = await next.execute_nexus_operation_start(input)
            except BaseException as error:
                await attempt.finish("cancelled" if isinstance(error, asyncio.CancelledError) else "failed")
                self._summaries.leave(attempt)
                raise
            await attempt.finish("completed_provisional")
            self._summaries.leave(attempt)
            return result

    @contextmanager
    def _observing(self, observer: Observer, node: str) -> Iterator[None]:
        """Capture, and report to OpenTelemetry, every model call made within the context."""
        with (
            capturing(observer, force_streaming=self._force_streaming),
            models_reported(genai_spans=self._genai_spans, default_node=node, thrown_in=_THROWN_IN),
        ):
            yield

    def __repr__(self) -> str:
        """Tell the state."""
        where = "custom_data" if self._backend is None else f"{self._backend!r}, {self._budget!r}"
        return f"<TokenStreamingInterceptor to {where}>"


class _StreamingActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, interceptor: TokenStreamingInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self._interceptor = interceptor
        self._outbound: ActivityOutboundInterceptor | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = self._interceptor._recorder(outbound) or outbound
        super().init(self._outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return await self._interceptor._execute(self.next, input, self._outbound)


class _StreamingOperation(NexusOperationInboundInterceptor):
    def __init__(
        self,
        next: NexusOperationInboundInterceptor,  # noqa: A002
        interceptor: TokenStreamingInterceptor,
    ) -> None:
        super().__init__(next)
        self._interceptor = interceptor

    async def execute_nexus_operation_start(
        self,
        input: ExecuteNexusOperationStartInput,  # noqa: A002
    ) -> StartOperationResultSync[Any] | StartOperationResultAsync:
        return await self._interceptor._start_operation(self.next, input)


def _is_positive(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)
