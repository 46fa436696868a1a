"""Activity attempts: what the interceptor wraps around each, and how one runs."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput

from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.worker.attempt_info import origin_of_activity, outcome_of, will_retry
from temporal_token_interceptor.worker.attempt_run import AttemptRun, StreamingSetup
from temporal_token_interceptor.worker.fallback_session import FallbackSession
from temporal_token_interceptor.worker.heartbeat import (
    AutomaticHeartbeats,
    DetailsHidden,
    HeartbeatRecorder,
    automatic_interval,
)
from temporal_token_interceptor.worker.live_session import (
    HeartbeatSink,
    LiveSession,
    live_interval,
    streams_live,
)
from temporal_token_interceptor.worker.offline_session import OfflineSession
from temporal_token_interceptor.worker.pool_activities import leaves_the_process
from temporal_token_interceptor.worker.session import Session

logger = logging.getLogger(__name__)


class StreamingActivity(ActivityInboundInterceptor):
    """Runs one activity attempt with streaming, or as it is where its type is not captured.

    Args:
        next: The rest of the chain.
        setup: What the attempts of the worker share.
    """

    def __init__(self, next: ActivityInboundInterceptor, setup: StreamingSetup) -> None:  # noqa: A002
        super().__init__(next)
        self._setup = setup
        self._outbound: ActivityOutboundInterceptor | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Record the heartbeats of an activity for which we may have to repeat them."""
        self._outbound = self._recorder(outbound) or DetailsHidden(outbound)
        super().init(self._outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        """Return or raise what the activity does."""
        info = activity.info()
        if not self._setup.options.captures(info.activity_type):
            return await self.next.execute_activity(input)
        try:
            run = ActivityRun(self._setup, info, self.next, input, self._outbound)
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("activity %r runs without streaming: could not prepare it", info.activity_type)
            return await self.next.execute_activity(input)
        return await run.run()

    def _recorder(self, outbound: ActivityOutboundInterceptor) -> HeartbeatRecorder | None:
        """Return what remembers the user's heartbeats; None for an activity that gets no automatic ones."""
        try:
            info, options = activity.info(), self._setup.options
            if not options.captures(info.activity_type):
                return None
            may_be_live = self._setup.backend is None or options.fallback == "heartbeats"
            is_live = may_be_live and streams_live(info, options.live, options.heartbeat)
            beats = is_live or automatic_interval(info, options.heartbeat) is not None
            return HeartbeatRecorder(outbound, is_live=is_live) if beats else None
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("automatic heartbeats are disabled for an activity: could not record its own")
            return None


class ActivityRun(AttemptRun):
    """One attempt of an activity.

    Args:
        setup: What the attempts of the worker share.
        info: The attempt, as Temporal describes it.
        next: The rest of the chain, which runs the activity.
        input: The call.
        outbound: What `init` of the activity's interceptor was given, or our recorder of heartbeats.
    """

    def __init__(
        self,
        setup: StreamingSetup,
        info: activity.Info,
        next: ActivityInboundInterceptor,  # noqa: A002 - Temporal's name
        input: ExecuteActivityInput,  # noqa: A002
        outbound: ActivityOutboundInterceptor | None,
    ) -> None:
        origin = origin_of_activity(info)
        super().__init__(setup, _session(setup, origin, outbound))
        self._info = info
        self._next = next
        self._input = input
        self._heartbeats: AutomaticHeartbeats | None = None
        interval, stall = automatic_interval(info, setup.options.heartbeat), setup.options.stall_timeout
        if interval is not None and isinstance(outbound, HeartbeatRecorder):
            self._heartbeats = AutomaticHeartbeats(
                outbound,
                interval,
                captured=lambda: self.session.buffer.received,
                stall_timeout=None if stall is None else stall.total_seconds(),
            )

    async def call(self) -> Any:
        """Run the activity: here, or in a child process of its pool."""
        if leaves_the_process(self._input):
            return await self.setup.pools.execute(
                self._next, self._input, self.session, on_first_call=self.model_called
            )
        with self.observing():
            result = await self._next.execute_activity(self._input)
            await self.last_ends()
            return result

    def ended_by(self, error: BaseException) -> tuple[Outcome, bool | None]:
        """Return how the attempt ended, and whether Temporal will start another one."""
        return outcome_of(error), will_retry(self._info, error)

    def alongside(self) -> AbstractAsyncContextManager[object]:
        """Return the automatic heartbeats; they go on while the attempt waits for its last tokens."""
        return super().alongside() if self._heartbeats is None else self._heartbeats

    def is_cancelled(self) -> bool:
        """Whether Temporal cancels the attempt."""
        return not activity.in_activity() or activity.is_cancelled()

    def model_called(self) -> None:
        """Begin to send heartbeats: until now Temporal could time the activity out, as it does without us."""
        if self._heartbeats is not None:
            self._heartbeats.begin()
        if isinstance(self.session, LiveSession | FallbackSession):
            self.session.begin()
        if self._heartbeats is None and not isinstance(self.session, LiveSession):
            self.setup.warnings.model_called(self._info)

    async def with_summary(self, result: Any) -> Any:
        """Return the result with the attempt's summary in its `custom_data`, where there is such a field."""
        return await self.setup.summaries.attach(result, self.session, self._input)


def _session(
    setup: StreamingSetup,
    origin: Origin,
    outbound: ActivityOutboundInterceptor | None,
) -> Session | OfflineSession:
    """Return the session of an activity attempt: to the backend, to its own heartbeats, or to both."""
    options, backend = setup.options, setup.backend
    converter = None if backend is None else setup.converter.of_activity(outbound)
    interval = live_interval(options.live, options.heartbeat)
    if interval is None or not isinstance(outbound, HeartbeatRecorder) or not outbound.is_live:
        return setup.session(origin, activity.metric_meter, converter)
    heartbeats = HeartbeatSink(outbound)
    if backend is None:
        return LiveSession(
            origin,
            heartbeats,
            interval=interval,
            budget=setup.budget,
            flush_timeout=options.flush_timeout,
        )
    make = partial(FallbackSession, heartbeats=heartbeats, interval=interval)
    return setup.session(origin, activity.metric_meter, converter, make)
