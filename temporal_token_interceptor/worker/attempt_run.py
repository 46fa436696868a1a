"""One attempt around the user's code, whether Temporal calls it an activity or a Nexus operation."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import Any

from temporalio.common import MetricMeter
from temporalio.converter import DataConverter
from temporalio.exceptions import CancelledError

from temporal_token_interceptor._guard import Guard
from temporal_token_interceptor._tasks import cancelled_too_late
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.call_gate import gated
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.attempt import attempt_telemetry
from temporal_token_interceptor.telemetry.model_calls import models_reported
from temporal_token_interceptor.transport.base import TokenSink, opened
from temporal_token_interceptor.worker.attempt_info import runtime_meter
from temporal_token_interceptor.worker.data_converter import ClientConverter
from temporal_token_interceptor.worker.fetched_session import session_to
from temporal_token_interceptor.worker.offline_session import OfflineSession
from temporal_token_interceptor.worker.once_warnings import OnceWarnings
from temporal_token_interceptor.worker.options import StreamingOptions
from temporal_token_interceptor.worker.pool_activities import ProcessPools
from temporal_token_interceptor.worker.result_summary import ResultSummaries
from temporal_token_interceptor.worker.session import Session
from temporal_token_interceptor.worker.startup import Startup

logger = logging.getLogger(__name__)

# Temporal cancels a sync activity by raising this in its thread.
INJECTED = (CancelledError,)


class StreamingSetup:
    """What all attempts of one worker share.

    Args:
        backend: Where the tokens go; None: into the results of the activities.
        options: What the user chose.
    """

    def __init__(self, backend: TokenSink | None, options: StreamingOptions) -> None:
        self.backend: TokenSink | None = backend
        self.options: StreamingOptions = options
        self.guard: Guard = Guard(INJECTED)
        self.budget: Budget = Budget(options.max_buffered_bytes)
        self.converter: ClientConverter = ClientConverter(options.data_converter)
        self.summaries: ResultSummaries = ResultSummaries(backend, enabled=options.summary != "off")
        self.pools: ProcessPools = ProcessPools(options)
        self.warnings: OnceWarnings = OnceWarnings(options)
        self.startup: Startup = Startup(backend, options)

    async def close(self) -> None:
        """Deliver what is left within `flush_timeout`, and join the task that does it."""
        await self.summaries.close(self.options.flush_timeout.total_seconds())

    def session(
        self,
        origin: Origin,
        current_meter: Callable[[], MetricMeter],
        converter: DataConverter | None,
        make: Callable[..., Session] = session_to,
    ) -> Session | OfflineSession:
        """Return the session of an attempt.

        Args:
            origin: The attempt.
            current_meter: Returns Temporal's meter, within the attempt.
            converter: Seals its frames. None: it is not known, and nothing may be sent.
            make: Makes it, of what `session_to` takes.
        """
        if self.backend is None or converter is None:
            return OfflineSession(origin)
        meter = runtime_meter(current_meter)
        backend = opened(self.backend)
        return make(
            origin,
            backend,
            budget=self.budget,
            flush_timeout=self.options.flush_timeout,
            codec=FrameCodec.of(converter, StreamKey.of(origin)),
            telemetry=attempt_telemetry(origin, backend, self.budget, meter, guard=self.guard),
        )


class AttemptRun(ABC):
    """One attempt: runs the user's code, captures its model calls, and reports how it ended.

    Args:
        setup: What the attempts of the worker share.
        session: Sends what is captured.
    """

    def __init__(self, setup: StreamingSetup, session: Session | OfflineSession) -> None:
        self.setup = setup
        self.session = session
        options = setup.options
        self.observer = Observer(
            gated(session.buffer, hold=options.hold_calls, transform=options.transform, guard=setup.guard),
            default_node=session.origin.activity_type,
            selection=setup.options.selection,
            on_call=session.telemetry.call_started,
            on_first_call=self.model_called,
            is_cancelled=self.is_cancelled,
            guard=setup.guard,
        )
        if not isinstance(options.hold_calls, bool):
            self.observer.unmatched.update(options.hold_calls)

    async def run(self) -> Any:
        """Return or raise what the user's code does, once its last tokens are stored or given up."""
        async with self.session, self.alongside():
            try:
                result = await self.call()
            except BaseException as error:
                outcome, will_retry = self.ended_by(error)
                await self.session.finish(outcome, will_retry=will_retry)
                self.setup.summaries.leave(self.session)
                raise
            await self.session.finish("completed_provisional")
            self.setup.warnings.attempt_completed(
                self.session.origin.activity_type,
                self.observer,
                has_only_calls=0 < self.session.buffer.received == 2 * self.session.tally.call_count,
            )
            return await self.with_summary(result)

    @abstractmethod
    async def call(self) -> Any:
        """Run the user's code."""

    @abstractmethod
    def ended_by(self, error: BaseException) -> tuple[Outcome, bool | None]:
        """Return how an attempt ended that raised this, and whether another follows, if that is known."""

    def alongside(self) -> AbstractAsyncContextManager[object]:
        """Return what runs as long as the attempt, up to the delivery of its last tokens."""
        return nullcontext()

    def model_called(self) -> None:  # noqa: B027 - not every kind of attempt has something to do
        """Note the first model call of the attempt, captured or not. On the thread of the model."""

    def is_cancelled(self) -> bool:
        """Whether Temporal cancels the attempt, as far as is known here. On the thread of the model."""
        return True

    async def with_summary(self, result: Any) -> Any:
        """Return what the user gets as the result. Undelivered frames are sent later."""
        self.setup.summaries.leave(self.session)
        return result

    async def last_ends(self) -> None:
        """Wait for ends that come late: those of LangChain's v3 streams, by a turn of the loop."""
        if self.observer.has_open_calls:
            with cancelled_too_late():  # the user's code has returned
                await asyncio.sleep(0)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Capture, and report to OpenTelemetry, every model call made within the context."""
        options = self.setup.options
        with (
            capturing(self.observer, force_streaming=options.force_streaming),
            models_reported(
                genai_spans=options.genai_spans,
                default_node=self.session.origin.activity_type,
                guard=self.setup.guard,
            ),
        ):
            yield
