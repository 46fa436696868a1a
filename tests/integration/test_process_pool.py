"""Sync activities in a process pool: captured in the child, delivered by the parent."""

import asyncio
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import SharedStateManager, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    AttemptEnded,
    MemoryStreamBackend,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from tests.support.pool_activities import WORDS, answer_in_process, fail_in_process
from tests.support.streams import kinds, read_all, unique
from tests.support.workflows import RunActivity

# Not local, one attempt, 20 seconds without a heartbeat: a child that is new has to import LangChain first.
PATIENT = [False, 1, 20]


@pytest.fixture(scope="module")
def pool():
    """A pool of two children, and Temporal's shared state for them."""
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads is a lottery
    with spawn.Manager() as manager, ProcessPoolExecutor(2, mp_context=spawn) as executor:
        yield executor, SharedStateManager.create_from_multiprocessing(manager)


@asynccontextmanager
async def pool_worker(client, backend, pool, **options):
    executor, shared = pool
    queue = unique("pool")
    async with Worker(
        client,
        workflow_runner=UnsandboxedWorkflowRunner(),
        task_queue=queue,
        workflows=[RunActivity],
        activities=[answer_in_process, fail_in_process],
        activity_executor=executor,
        shared_state_manager=shared,
        interceptors=[TokenStreamingInterceptor(backend, **options)],
    ):
        yield queue


async def test_tokens_of_a_process_pool_arrive_while_it_works(client, pool, tmp_path):
    """My CPU-bound activity runs in another process; I still see its first word before the second exists."""
    backend, go_on = MemoryStreamBackend(), tmp_path / "go on"
    workflow_id = unique("pool")

    async with pool_worker(client, backend, pool) as queue:
        handle = await client.start_workflow(
            RunActivity.run,
            args=["answer_in_process", str(go_on), *PATIENT],
            id=workflow_id,
            task_queue=queue,
        )
        events = []
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, TokenEvent):
                go_on.touch()  # only now can the model go on
        result = await handle.result()

    assert [event.token for event in events if isinstance(event, TokenEvent)] == WORDS
    assert result == "".join(WORDS)
    assert kinds(events) == [
        "AttemptStarted",
        "CallStarted",
        "TokenEvent",
        "CallEnded",
        "AttemptEnded",
        "StreamEnded",
    ]


async def test_what_a_child_raises_leaves_as_it_came(client, pool):
    """An exception crosses the processes as it would without us, and the words before it arrive."""
    backend, workflow_id = MemoryStreamBackend(), unique("pool")

    async with pool_worker(client, backend, pool) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["fail_in_process", None, *PATIENT], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()

    assert isinstance(failure.value.cause, ActivityError)
    assert isinstance(failure.value.cause.cause, ApplicationError)
    assert (failure.value.cause.cause.type, failure.value.cause.cause.message) == ("ValueError", "as told")
    assert [event.token for event in events if isinstance(event, TokenEvent)] == ["half"]
    assert [event.outcome for event in events if isinstance(event, AttemptEnded)] == ["failed"]


async def test_many_children_keep_apart(client, pool):
    """Activities that run at the same time in the pool each have their own text."""
    backend = MemoryStreamBackend()

    async with pool_worker(client, backend, pool) as queue:
        ids = [unique("pool") for _ in range(6)]
        handles = [
            await client.start_workflow(
                RunActivity.run, args=["answer_in_process", None, *PATIENT], id=workflow_id, task_queue=queue
            )
            for workflow_id in ids
        ]
        texts = await asyncio.gather(
            *(TokenSubscriber(client, backend).text(workflow_id) for workflow_id in ids)
        )
        results = [await handle.result() for handle in handles]

    assert texts == results == ["".join(WORDS)] * 6


async def test_a_pool_that_cannot_report_is_named_once(client, pool, monkeypatch, caplog):
    """Where no socket can be opened, the activity runs as ever, and one warning names it."""
    backend = MemoryStreamBackend()

    async def refuse(*args, **kwargs):
        raise PermissionError("no sockets here")

    monkeypatch.setattr(asyncio, "start_server", refuse)
    async with pool_worker(client, backend, pool) as queue:
        results = [
            await client.execute_workflow(
                RunActivity.run,
                args=["answer_in_process", None, *PATIENT],
                id=unique("pool"),
                task_queue=queue,
            )
            for _ in range(2)
        ]

    assert results == ["".join(WORDS)] * 2
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (warning,) = [text for text in warnings if "process pool" in text]
    assert "'answer_in_process'" in warning


class _Upper:
    def feed(self, text: str) -> str:
        return text.upper()

    def flush(self) -> str:
        return "!"


async def test_text_of_a_process_pool_goes_through_the_worker_s_transform(client, pool):
    """It runs in the worker's process, where nothing has left yet, and need not be picklable."""
    backend, workflow_id = MemoryStreamBackend(), unique("pool-transform")

    async with pool_worker(client, backend, pool, transform=lambda call: _Upper(), hold_calls=True) as queue:
        await client.execute_workflow(
            RunActivity.run, args=["answer_in_process", None, *PATIENT], id=workflow_id, task_queue=queue
        )
        events = await read_all(client, backend, workflow_id)

    said = "".join(event.token for event in events if isinstance(event, TokenEvent))
    assert said == "".join(WORDS).upper() + "!"
