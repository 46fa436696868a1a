"""Whether an OpenTelemetry SDK is installed, and what all spans and metrics have in common.

Only OpenTelemetry's API is imported. Whether the user installed an SDK is decided once an attempt, and once a
subscription, by looking at the global providers; where there is none nothing is made and nothing is asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.kinds import Metric

PROPAGATOR = TraceContextTextMapPropagator()
"""W3C trace context, whatever the user has configured: it is what the protocol says."""

_BUCKETS = "explicit_bucket_boundaries_advisory"
# Older APIs of OpenTelemetry take no advice on buckets; there, the SDK or a view of the user sets them.
_TAKES_BUCKETS = _BUCKETS in inspect.signature(metrics.Meter.create_histogram).parameters


def live_tracer() -> trace.Tracer | None:
    """Return a tracer of the global provider; None if that is the API's own, which records nothing."""
    provider = trace.get_tracer_provider()
    return None if _is_of_the_api(provider) else _tracer(provider)


def live_instruments() -> Instruments | None:
    """Return the instruments of the global provider; None if that is the API's own, which records nothing."""
    provider = metrics.get_meter_provider()
    return None if _is_of_the_api(provider) else _instruments(provider)


def _is_of_the_api(provider: object) -> bool:
    # The API's placeholder for metrics has no public name, so providers are distinguished by where they live.
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


@cache
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer(names.SCOPE)


@cache
def _instruments(provider: metrics.MeterProvider) -> Instruments:
    return Instruments(provider.get_meter(names.SCOPE))


class MemoryBudget(Protocol):
    """What the gauge of buffered bytes reads."""

    @property
    def leased(self) -> int:  # pyright: ignore[reportReturnType] - a property of a protocol
        """Bytes that are held now."""
        ...


class Instruments:
    """All metrics of the package, made once for each provider."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._budgets: set[MemoryBudget] = set()
        self._made = {metric: self._make(meter, metric) for metric in names.METRICS}

    def _make(self, meter: metrics.Meter, metric: Metric) -> Callable[..., None]:
        facts: dict[str, Any] = {"unit": metric.unit, "description": metric.about}
        if metric.kind == "histogram":
            if _TAKES_BUCKETS:
                facts[_BUCKETS] = metric.buckets
            return meter.create_histogram(metric.name, **facts).record
        if metric.kind == "counter":
            return meter.create_counter(metric.name, **facts).add
        if metric.kind == "up_down_counter":
            return meter.create_up_down_counter(metric.name, **facts).add
        meter.create_observable_up_down_counter(metric.name, [self._buffered], **facts)
        return _nothing

    def __getitem__(self, metric: Metric) -> Callable[..., None]:
        """Return what takes an amount and attributes: a histogram's `record`, else `add`."""
        return self._made[metric]

    def watch(self, budget: MemoryBudget) -> None:
        """Let the memory that is held on a budget be part of the buffer size."""
        self._budgets.add(budget)

    def _buffered(self, _options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(sum(budget.leased for budget in list(self._budgets)))


def _nothing(*_: object) -> None:
    """Take an amount of what is observed instead."""


def traceparent_of(span: Span) -> str | None:
    """Return the W3C `traceparent` of a span; None if it belongs to no trace."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def fail(span: Span, error_type: str) -> None:
    """Mark a span as failed. The message of an error may hold content, so it is not asked for."""
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(StatusCode.ERROR)


def destination(operation: str, system: str, stream: str) -> dict[str, str | int]:
    """Return the attributes of a `send` or `receive` span."""
    return {
        names.SYSTEM: system,
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: operation,
        names.DESTINATION: stream,
        names.TEMPLATE: names.STREAM_TEMPLATE,
    }


def system_of(transport: object) -> str:
    """Return what a transport calls itself in telemetry: its `system`, else the name of its class.

    Where there is none, what was said comes out of Temporal's history.
    """
    if transport is None:
        return "temporal"
    return str(getattr(transport, "system", type(transport).__name__))
