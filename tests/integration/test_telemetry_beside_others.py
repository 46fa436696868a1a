"""Other people's parts: an OTLP endpoint that decodes, and other instrumentations of LangChain."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from temporalio.client import Client

from temporal_token_interceptor.telemetry.names import SCOPE
from tests.support.beside import run
from tests.support.collector import Collector
from tests.support.telemetry import sdk_installed

ROOT = Path(__file__).parents[2]


async def test_spans_and_metrics_arrive_at_a_collector_as_otlp(client):
    """What an OTLP endpoint decodes are our spans, linked, and our metrics, with their buckets."""
    collector = Collector()
    with collector.serving():
        spans = BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces"))
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{collector.url}/v1/metrics"), export_interval_millis=60_000
        )
        with sdk_installed([spans], [reader]):
            await run(client)
            assert spans.force_flush()
            assert reader.force_flush()

    received = {
        span.name.partition(" ")[0]: span
        for request in collector.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if scope.scope.name == "temporal_token_interceptor"
    }
    assert {*received} == {"chat", "send", "receive"}
    assert [link.span_id for link in received["receive"].links] == [received["send"].span_id]
    metrics = {
        metric.name: metric
        for request in collector.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "temporal_token_interceptor"
        for metric in scope.metrics
    }
    [published] = metrics["temporal_token_interceptor.tokens.published"].sum.data_points
    assert published.as_int == 2
    [first_chunk] = metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
    assert (first_chunk.count, first_chunk.explicit_bounds[0]) == (1, 0.01)
    assert "temporal_token_interceptor.delivery.delay" in metrics


async def told_beside(client: Client, instrumentation: str, genai_spans: str) -> dict[str, Any]:
    """What is told beside another instrumentation: in a process of its own, as none can be removed."""
    program = [sys.executable, "-m", "tests.support.beside", instrumentation, genai_spans]
    process = await asyncio.create_subprocess_exec(
        *program, client.service_client.config.target_host, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(output)
    return told


@pytest.mark.parametrize("instrumentation", ["openinference", "traceloop"])
async def test_no_model_call_is_told_twice(client, instrumentation):
    """Where another instrumentation tells of model calls `auto` leaves them to it; the rest stays."""
    told = await told_beside(client, instrumentation, "auto")

    assert len(told["model_calls"]) == 1
    assert SCOPE not in told["model_calls"]
    assert {*told["ours"]} == {"send", "receive"}
    assert told["tokens"] == 2
    assert told["durations"] <= 1  # one of the two has this metric too


@pytest.mark.parametrize("instrumentation", ["openinference", "traceloop"])
async def test_on_means_on(client, instrumentation):
    """`genai_spans="on"` tells of model calls beside others too, for whoever wants both."""
    told = await told_beside(client, instrumentation, "on")

    assert len(told["model_calls"]) == 2
    assert told["model_calls"].count(SCOPE) == 1
    assert {*told["ours"]} == {"chat", "send", "receive"}


async def test_auto_tells_where_nobody_else_does(client):
    """Without another instrumentation `auto` is on."""
    told = await told_beside(client, "none", "auto")

    assert told["model_calls"] == [SCOPE]
    assert told["durations"] == 1
