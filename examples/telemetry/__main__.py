"""Run one question whose first attempt fails, and show what OpenTelemetry received of it."""

import asyncio
import logging
import sys

from opentelemetry import trace
from temporalio.client import Client
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin
from temporalio.worker import Worker

from devservers import SDK_REST, ServerUnavailable, redis_server, temporal_server
from examples.telemetry.chat import TASK_QUEUE, Chat, answer
from examples.telemetry.setup import telemetry
from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor, TokenSubscriber


async def main() -> None:
    with telemetry():
        async with temporal_server() as server, redis_server() as redis_url:
            client = await Client.connect(
                server.client.service_client.config.target_host,
                plugins=[OpenTelemetryPlugin(add_temporal_spans=True)],
            )
            async with RedisStreamBackend(redis_url) as backend:
                print(f"\nThe reader has: {await ask(client, backend)}")
        await asyncio.sleep(SDK_REST.total_seconds())


async def ask(client: Client, backend: RedisStreamBackend) -> str:
    """Start a workflow in one request, and read its answer in another."""
    tracer = trace.get_tracer("example")
    async with Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Chat],
        activities=[answer],
        interceptors=[TokenStreamingInterceptor(backend)],
    ):
        with tracer.start_as_current_span("POST /ask"):
            await client.start_workflow(Chat.run, "What for?", id="telemetry-example", task_queue=TASK_QUEUE)
        with tracer.start_as_current_span("GET /stream"):
            return await TokenSubscriber(client, backend).text("telemetry-example")


if __name__ == "__main__":
    logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # the failure is part of the plot
    try:
        asyncio.run(main())
    except ServerUnavailable as error:
        sys.exit(str(error))
