"""An OpenTelemetry SDK for one test, installed globally as a user does; and what it received."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once


class Telemetry:
    """The spans and metrics that the SDK received."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()

    def spans(self, prefix: str = "") -> list[Any]:
        """The finished spans whose name begins so, in the order in which they started."""
        found = [span for span in self.exporter.get_finished_spans() if span.name.startswith(prefix)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def tree(self) -> dict[str, Any]:
        """The spans by name, each with its children; a name that is there twice gets a number."""
        spans = self.spans()
        known = {span.context.span_id for span in spans}

        def below(parent: int | None) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for span in spans:
                its_parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
                if its_parent == parent:
                    same = sum(name.partition(" #")[0] == span.name for name in found)
                    found[f"{span.name} #{same + 1}" if same else span.name] = below(span.context.span_id)
            return found

        return below(None)

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def total(self, name: str) -> float:
        """What a counter counted, or how many values a histogram has, over all attributes."""
        return float(
            sum(point.value if hasattr(point, "value") else point.count for point in self.points(name))
        )

    def metric_names(self) -> set[str]:
        """The metrics that have data points."""
        data = self.reader.get_metrics_data()
        return {
            metric.name
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def sdk_installed(
    processors: Sequence[SpanProcessor] = (), readers: Sequence[MetricReader] = ()
) -> Iterator[Telemetry]:
    """Install an SDK globally for the block; afterwards there is none, as before."""
    telemetry = Telemetry()
    provider = _tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(telemetry.exporter))
    for processor in processors:
        provider.add_span_processor(processor)
    meter_provider = MeterProvider([telemetry.reader, *readers], shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(meter_provider)
    try:
        yield telemetry
    finally:
        forget_the_sdk()
        meter_provider.shutdown()
        provider.shutdown()


def forget_the_sdk() -> None:
    """Have no global providers, as before; one can be set once in the life of a process, but for tests."""
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    metrics_internal._METER_PROVIDER, metrics_internal._METER_PROVIDER_SET_ONCE = None, Once()


def _tracer_provider() -> Any:
    """Temporal's own, as its users have it; it needs a newer OpenTelemetry than we do, see `make lowest`."""
    try:
        from temporalio.contrib.opentelemetry import create_tracer_provider
    except ImportError:
        return TracerProvider()
    return create_tracer_provider()
