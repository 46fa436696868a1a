"""What a worker reports of streaming: a `send` span for each model call, the metrics of what it publishes.

Without an SDK an attempt gets `NO_TELEMETRY`, whose verbs do nothing. With one, counters are added up here
and reported once a second, so that a frame costs one histogram and no more. Whatever the user's own parts of
an SDK raise is logged once an attempt, and the tokens go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from temporal_token_interceptor._guard import NO_INJECTION, Guard, never_failing
from temporal_token_interceptor.events import AttemptEnded, Call, CallEnded, Gap, Origin, Record, TextRun
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.instruments import (
    Instruments,
    MemoryBudget,
    destination,
    fail,
    live_instruments,
    live_tracer,
    system_of,
    traceparent_of,
)
from temporal_token_interceptor.telemetry.kinds import Metric

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 1.0

# Such an attempt has not failed, and another one begins from the start.
_RETRIED = frozenset({"paused", "reset", "worker_shutdown"})


class RuntimeMeter(Protocol):
    """What is used of Temporal's own `MetricMeter`."""

    def create_counter(self, name: str, description: str | None = None, unit: str | None = None) -> Any:
        """Create a counter, whose `add` takes an amount."""


class NoTelemetry:
    """What an attempt reports to where no SDK is installed."""

    traceparent: str | None = None
    """The trace that readers link to, for the headers of the attempt's frames."""

    is_on: ClassVar[bool] = False
    """Whether it is worth calling for each frame."""

    def call_started(self, call: Call) -> None:
        """Note that a captured call begins. Called where the model is, on any thread."""

    def waiting(self) -> None:
        """Note that the buffer is no longer empty. On any thread."""

    def taken(self) -> int | None:
        """Note that a frame was made; return when its oldest event came, in microseconds since 1970."""
        return None

    def stored(self, records: Sequence[Record]) -> None:
        """Note that the frame that was made last is stored."""

    def ended(self, end: AttemptEnded | None, undelivered: int) -> None:
        """Note that the attempt has ended, and how, if that is known; report what was not reported yet."""


NO_TELEMETRY = NoTelemetry()


class AttemptTelemetry(NoTelemetry):
    """What one attempt reports about the frames that it sends.

    Args:
        origin: The attempt.
        system: The transport.
        tracer: For `send` spans; None for no spans.
        instruments: For metrics; None for none.
        runtime_meter: Temporal's, which gets the counters too; None if it is off.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """

    is_on = True

    def __init__(
        self,
        origin: Origin,
        system: str,
        tracer: trace.Tracer | None,
        instruments: Instruments | None,
        runtime_meter: RuntimeMeter | None,
        *,
        guard: Guard = NO_INJECTION,
    ) -> None:
        self.guard = guard
        self.traceparent = traceparent_of(trace.get_current_span())
        self._origin = origin
        self._system = system
        self._tracer = tracer
        self._instruments = instruments
        self._flushed = None if instruments is None else instruments[names.FLUSH_DURATION]
        self._flush_attributes = {names.SYSTEM: system}
        self._runtime_meter = runtime_meter
        self._sends: dict[int, _Send] = {}
        self._starting = threading.Lock()
        self._since: int | None = None
        self._taken_at = 0.0
        self._unreported: Counter[Metric] = Counter()
        self._report_at = 0.0
        self._tokens = 0
        self._logged = False

    @never_failing
    def call_started(self, call: Call) -> None:
        """Start its `send` span, as a child of the span that is current where the model is called."""
        if self._tracer is None:
            return
        span = self._tracer.start_span(
            names.SEND.name,
            kind=SpanKind.PRODUCER,
            attributes={
                **destination("send", self._system, StreamKey.of(self._origin).name),
                names.NODE: call.node_name,
                names.CALL_ID: call.run_id,
                names.ATTEMPT: self._origin.attempt,
            },
        )
        with self._starting:
            self._sends[call.ordinal] = _Send(span)
            if self.traceparent is None:  # no span around the activity: readers link to its first call
                self.traceparent = traceparent_of(span)

    def waiting(self) -> None:
        """Remember when, if delays are measured."""
        if self._instruments is not None:
            self._since = time.time_ns() // 1_000

    def taken(self) -> int | None:
        """Remember when; see `NoTelemetry`."""
        self._taken_at = time.monotonic()
        since, self._since = self._since, None
        return since

    @never_failing
    def stored(self, records: Sequence[Record]) -> None:
        """Count what is in it."""
        now = time.monotonic()
        if self._flushed is not None:
            self._flushed(now - self._taken_at, self._flush_attributes)
        unreported = self._unreported
        unreported[names.FRAMES_PUBLISHED] += 1
        calls: set[int] = set()
        for record in records:
            if isinstance(record, TextRun):
                self._tokens += record.count
                unreported[names.TOKENS_PUBLISHED] += record.count
                if len(record.texts) < record.count:
                    unreported[names.TOKENS_MERGED] += record.count
            elif isinstance(record, Gap):
                unreported[names.TOKENS_DROPPED] += record.missing or 0
            if (call := getattr(record, "call", None)) is not None:
                calls.add(call if isinstance(call, int) else call.ordinal)
        if self._sends:
            self._count_messages(calls, records)
        if now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            self._report()

    def log_error(self, error: Exception) -> None:
        """Log an exception, the first of this attempt."""
        if not self._logged:
            self._logged = True
            activity = self._origin.activity_id
            logger.error(
                "telemetry of activity %r failed; tokens go on (logged once an attempt)",
                activity,
                exc_info=error,
            )

    def _count_messages(self, calls: set[int], records: Sequence[Record]) -> None:
        for ordinal in calls:
            if (send := self._sends.get(ordinal)) is not None:
                send.messages += 1
        for record in records:
            if isinstance(record, CallEnded) and (send := self._sends.pop(record.call.ordinal, None)):
                send.end()

    @never_failing
    def ended(self, end: AttemptEnded | None, undelivered: int) -> None:
        """End the spans that are open, as undelivered, and report all counts."""
        if end is not None and (end.will_retry or end.outcome in _RETRIED):
            self._unreported[names.TOKENS_SUPERSEDED] += self._tokens
        self._unreported[names.FRAMES_UNDELIVERED] += undelivered
        self._report()
        with self._starting:
            sends, self._sends = self._sends, {}
        for send in sends.values():  # their last frames were not stored
            fail(send.span, "undelivered")
            send.end()

    def _report(self) -> None:
        unreported, self._unreported = self._unreported, Counter()
        for metric, amount in unreported.items():
            if not amount:
                continue
            if self._instruments is not None:
                self._instruments[metric](amount, {names.ACTIVITY_TYPE: self._origin.activity_type})
            if self._runtime_meter is not None:
                name = metric.name.replace(".", "_")
                self._runtime_meter.create_counter(name, metric.about, metric.unit).add(amount)


class _Send:
    """The `send` span of a call."""

    __slots__ = ("messages", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.messages = 0

    def end(self) -> None:
        self.span.set_attribute(names.MESSAGE_COUNT, self.messages)
        self.span.end()


def attempt_telemetry(
    origin: Origin,
    sink: object,
    budget: MemoryBudget,
    runtime_meter: RuntimeMeter | None,
    *,
    guard: Guard = NO_INJECTION,
) -> NoTelemetry:
    """Return what an attempt reports to; `NO_TELEMETRY` if no SDK is installed."""
    tracer, instruments = live_tracer(), live_instruments()
    if instruments is not None:
        instruments.watch(budget)
    elif (
        tracer is None and runtime_meter is None and not trace.get_current_span().get_span_context().is_valid
    ):
        return NO_TELEMETRY
    return AttemptTelemetry(origin, system_of(sink), tracer, instruments, runtime_meter, guard=guard)


def count_dropped(frames: int) -> None:
    """Count frames of ended attempts that will never be delivered, if an SDK is installed."""
    if (instruments := live_instruments()) is not None:
        try:
            instruments[names.FRAMES_DROPPED](frames)
        except Exception:  # the user's SDK
            logger.exception("could not count dropped frames")
