"""What docs/telemetry.md shows."""

import asyncio
import os
from typing import Any
from unittest import mock

from opentelemetry import metrics, trace
from temporalio import activity
from temporalio.client import Client

from temporal_token_interceptor import MemoryStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.collector import Collector
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import streaming_worker, unique
from tests.support.telemetry import forget_the_sdk
from tests.support.workflows import RunActivity


@play("docs/telemetry.md", "from opentelemetry import metrics, trace")
async def an_installed_sdk_is_all_it_takes(stage: Stage, block: Block) -> None:
    """Spans and metrics of ours reach the collector that the environment names."""

    @activity.defn
    async def answer(argument: Any) -> str:
        return (await ScriptedChatModel.saying("Tra", "ced").ainvoke("?")).text

    collector, backend, workflow_id = Collector(), MemoryStreamBackend(), unique("telemetry")
    with collector.serving(), mock.patch.dict(os.environ, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url):
        # The snippet imports the client's class; what it writes as `...` is the address.
        with mock.patch("temporalio.client.Client", stage.connecting):
            client: Client = (await block.run())["client"]
        tracing: Any = trace.get_tracer_provider()
        measuring: Any = metrics.get_meter_provider()
        try:
            async with streaming_worker(client, backend, [answer]) as queue, asyncio.timeout(20):
                await client.start_workflow(RunActivity.run, "answer", id=workflow_id, task_queue=queue)
                assert await TokenSubscriber(client, backend).text(workflow_id) == "Traced"
            assert tracing.force_flush()
            assert measuring.force_flush()
        finally:
            forget_the_sdk()
            tracing.shutdown()
            measuring.shutdown()

    spans = {
        span.name.partition(" ")[0].partition(":")[0]
        for request in collector.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert {"StartWorkflow", "RunActivity", "chat", "send", "receive"} <= spans
    assert any(request.resource_metrics for request in collector.metrics)
