"""Telemetry off the usual way: process pools, Nexus, no transport."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin
from temporalio.worker import SharedStateManager, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import MemoryStreamBackend, TokenEvent, TokenStreamingInterceptor
from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.integration.test_nexus import Caller, WriterHandler
from tests.support.pool_activities import WORDS, answer_in_process
from tests.support.streams import read_all, unique
from tests.support.telemetry import sdk_installed
from tests.support.workflows import RunActivity


@activity.defn
async def answer_with_custom_data(argument: Any) -> dict[str, Any]:
    await ScriptedChatModel.saying("by ", "history").ainvoke("?")
    return {"custom_data": None}


async def test_what_a_process_pool_says_is_told_by_the_worker(client):
    """My activity runs in another process; the way of its words is in the activity's trace all the same."""
    backend, workflow_id, queue = MemoryStreamBackend(), unique("pool"), unique("pool")
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads is a lottery

    with sdk_installed() as told, spawn.Manager() as manager, ProcessPoolExecutor(1, spawn) as executor:
        traced = Client(**{**client.config(), "plugins": [OpenTelemetryPlugin(add_temporal_spans=True)]})
        async with Worker(
            traced,
            workflow_runner=UnsandboxedWorkflowRunner(),
            task_queue=queue,
            workflows=[RunActivity],
            activities=[answer_in_process],
            activity_executor=executor,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
            interceptors=[TokenStreamingInterceptor(backend)],
        ):
            await traced.start_workflow(
                RunActivity.run,
                args=["answer_in_process", None, False, 1, 20],
                id=workflow_id,
                task_queue=queue,
            )
            events = await read_all(client, backend, workflow_id)
        [around], [send] = told.spans("RunActivity"), told.spans("send")

    assert [event.token for event in events if isinstance(event, TokenEvent)] == WORDS
    assert send.parent.span_id == around.context.span_id
    assert send.status.is_unset
    assert told.total(names.TOKENS_PUBLISHED.name) == len(WORDS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_operations_calls_are_told(client, temporal_env):
    """My Nexus handler calls a model: I see the call, its way to the transport, and who reads it."""
    backend, queue, endpoint = MemoryStreamBackend(), unique("nexus"), unique("endpoint")
    await temporal_env.create_nexus_endpoint(endpoint, queue)

    with sdk_installed() as told, ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            workflow_runner=UnsandboxedWorkflowRunner(),
            task_queue=queue,
            workflows=[Caller],
            nexus_service_handlers=[WriterHandler()],
            nexus_task_executor=threads,
            interceptors=[TokenStreamingInterceptor(backend)],
        ):
            handle = await client.start_workflow(Caller.run, endpoint, id=queue, task_queue=queue)
            await read_all(client, backend, queue)
            await handle.result()
        [chat], [send], [receive] = told.spans("chat"), told.spans("send"), told.spans("receive")

    assert (names.NODE, "Writer/write") in chat.attributes.items()
    assert [link.context.span_id for link in receive.links] == [send.context.span_id]
    assert told.total(names.TOKENS_PUBLISHED.name) == 2


async def test_without_a_transport_the_model_calls_are_told(client):
    """I stream without Redis: I see my model's calls and who reads them, and nothing as sent or lost."""
    workflow_id, queue = unique("bare"), unique("bare")

    with sdk_installed() as told:
        async with Worker(
            client,
            workflow_runner=UnsandboxedWorkflowRunner(),
            task_queue=queue,
            workflows=[RunActivity],
            activities=[answer_with_custom_data],
            interceptors=[TokenStreamingInterceptor(live="off")],  # what heartbeats repeat would count twice
        ):
            await client.start_workflow(
                RunActivity.run, args=["answer_with_custom_data", None], id=workflow_id, task_queue=queue
            )
            events = await read_all(client, None, workflow_id)
        [chat], [receive] = told.spans("chat"), told.spans("receive")
        measured = told.metric_names()

    assert [event.token for event in events if isinstance(event, TokenEvent)] == ["by ", "history"]
    assert chat.status.is_unset
    assert receive.attributes[names.SYSTEM] == "temporal"
    assert receive.attributes[names.MESSAGE_COUNT] == 1
    assert not receive.links
    assert told.spans("send") == []
    assert names.DURATION.name in measured
    assert not {metric.name for metric in (names.TOKENS_PUBLISHED, names.FRAMES_UNDELIVERED)} & measured
