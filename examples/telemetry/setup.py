"""The SDK as a user installs it: to the console, or to a collector if the environment names one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    HistogramDataPoint,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from temporalio.contrib.opentelemetry import create_tracer_provider

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@contextmanager
def telemetry() -> Iterator[None]:
    """Install an SDK for the program; at the end of the block all of it has been exported."""
    resource = Resource.create({"service.name": "token-streams-example"})
    spans: SpanExporter
    figures: MetricExporter
    if os.environ.get(ENDPOINT):
        spans, figures = OTLPSpanExporter(), OTLPMetricExporter()
    else:
        spans, figures = (
            ConsoleSpanExporter(formatter=span_line),
            ConsoleMetricExporter(formatter=metric_lines),
        )
    # Temporal's own provider: spans of workflows are not exported again when a workflow is replayed.
    tracing = create_tracer_provider(resource=resource, shutdown_on_exit=False)
    tracing.add_span_processor(BatchSpanProcessor(spans))
    measuring = MeterProvider(
        [PeriodicExportingMetricReader(figures)], resource=resource, shutdown_on_exit=False
    )
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(measuring)
    try:
        yield
    finally:
        tracing.shutdown()
        measuring.shutdown()


def span_line(span: ReadableSpan) -> str:
    """Return a span as one line: trace, span, parent, name, attributes, links."""
    parent = f"{span.parent.span_id:016x}"[:6] if span.parent else "-"
    links = " ".join(f"-> {link.context.span_id:016x}"[:9] for link in span.links)
    place = f"{span.context.trace_id:032x}"[:6] + f" {span.context.span_id:016x}"[:7]
    return f"{place} {parent:6}  {span.name}  {json.dumps(dict(span.attributes or {}))}  {links}\n"


def metric_lines(data: MetricsData) -> str:
    """Return metrics as a line each: how many, and the mean where that says more."""
    lines = ["\n"]
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = "?"
                    if isinstance(point, HistogramDataPoint):
                        value = f"{point.count} x {point.sum / point.count:.4f} {metric.unit}"
                    elif isinstance(point, NumberDataPoint):
                        value = f"{point.value} {metric.unit}"
                    lines.append(f"{metric.name}  {value}  {json.dumps(dict(point.attributes or {}))}\n")
    return "".join(lines)
