"""Nexus operation handlers: what their models say arrives in the stream of the workflow that called."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nexusrpc
import pytest
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from temporalio import workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import MemoryStreamBackend, TokenEvent, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import kinds, read_all, unique


@nexusrpc.service
class Writer:
    """Writes."""

    write: nexusrpc.Operation[str, str]


@service_handler(service=Writer)
class WriterHandler:
    """Asks a model."""

    @sync_operation
    async def write(self, context: StartOperationContext, question: str) -> str:
        return (await ScriptedChatModel.saying("by ", "nexus").ainvoke(question)).text


@workflow.defn(sandboxed=False)
class Caller:
    """Calls the operation."""

    @workflow.run
    async def run(self, endpoint: str) -> Any:
        client = workflow.create_nexus_client(service=Writer, endpoint=endpoint)
        return await client.execute_operation(Writer.write, "?")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("has_backend", [True, False])
async def test_an_operation_streams_to_its_caller(client, temporal_env, has_backend, caplog):
    """I subscribe to my workflow and see what the operation says that it calls; or the log says why not."""
    backend = MemoryStreamBackend() if has_backend else None
    queue, workflow_id = unique("nexus"), unique("nexus")
    endpoint = unique("endpoint")
    await temporal_env.create_nexus_endpoint(endpoint, queue)

    with ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            workflow_runner=UnsandboxedWorkflowRunner(),
            task_queue=queue,
            workflows=[Caller],
            nexus_service_handlers=[WriterHandler()],
            nexus_task_executor=threads,
            interceptors=[TokenStreamingInterceptor(backend)],
        ):
            handle = await client.start_workflow(Caller.run, endpoint, id=workflow_id, task_queue=queue)
            events = await read_all(client, backend, workflow_id)
            result = await handle.result()

    assert result == "by nexus"
    assert ("Nexus operation 'Writer/write' calls models" in caplog.text) is not has_backend
    if not has_backend:
        assert kinds(events) == ["StreamEnded"]
        return
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [token.token for token in tokens] == ["by ", "nexus"]
    assert {token.node_name for token in tokens} == {"Writer/write"}
    assert kinds(events)[-2:] == ["AttemptEnded", "StreamEnded"]
