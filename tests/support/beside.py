"""A program: one streamed run beside another instrumentation of LangChain; prints what both report, as JSON.

python -m tests.support.beside <openinference|traceloop|none> <genai_spans> <address of Temporal>
"""

import asyncio
import json
import sys
from typing import Any

from opentelemetry import trace
from temporalio import activity
from temporalio.client import Client

from devservers import SDK_REST
from temporal_token_interceptor import MemoryStreamBackend
from temporal_token_interceptor.telemetry.names import SCOPE
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.telemetry import sdk_installed
from tests.support.workflows import RunActivity


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying("Tra", "ced").ainvoke("?")).text


async def run(client: Client, **options: Any) -> None:
    """Run one activity and read it."""
    backend = MemoryStreamBackend()
    workflow_id = unique("beside")
    async with streaming_worker(client, backend, [answer], **options) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await read_all(client, backend, workflow_id)


def instrument(name: str) -> None:
    """Install an instrumentation, as its documentation says."""
    if name == "openinference":
        from openinference.instrumentation.langchain import LangChainInstrumentor

        LangChainInstrumentor().instrument(tracer_provider=trace.get_tracer_provider())
    elif name == "traceloop":
        from opentelemetry.instrumentation.langchain import LangchainInstrumentor

        LangchainInstrumentor().instrument(tracer_provider=trace.get_tracer_provider())


async def main(instrumentation: str, genai_spans: str, address: str) -> None:
    client = await Client.connect(address)
    with sdk_installed() as telemetry:
        instrument(instrumentation)
        await run(client, genai_spans=genai_spans)
        reported = {
            "model_calls": [
                span.instrumentation_scope.name
                for span in telemetry.spans()
                if span.name == "chat scripted" or "ScriptedChatModel" in span.name
            ],
            "ours": [
                span.name.partition(" ")[0]
                for span in telemetry.spans()
                if span.instrumentation_scope.name == SCOPE
            ],
            "tokens": telemetry.total(f"{SCOPE}.tokens.published"),
            "durations": telemetry.total("gen_ai.client.operation.duration"),
        }
    print(json.dumps(reported))  # noqa: T201 - read by the test
    await asyncio.sleep(SDK_REST.total_seconds())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
