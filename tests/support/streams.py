"""What most integration tests need: a streaming worker, a started workflow, the events that were read."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    AttemptStarted,
    Event,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from tests.support.workflows import (
    Branch,
    Continuing,
    OnlyChildren,
    RunActivity,
    RunBeating,
    RunInTurn,
    RunMany,
    RunThenWait,
    Waiting,
)

Backend = RedisStreamBackend | MemoryStreamBackend


def unique(name: str) -> str:
    """A workflow id that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def streaming_worker(
    client: Client,
    backend: Backend | None,
    activities: Sequence[Callable[..., Any]],
    /,
    *,
    interceptors: Sequence[Interceptor] = (),
    task_queue: str | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """Run a worker with our interceptor, as a user would; yield its task queue."""
    task_queue = task_queue or unique("queue")
    # An activity that waits for a thread calls no model yet, and so sends no heartbeat: enough for all.
    with ThreadPoolExecutor(max_workers=64) as threads:
        async with Worker(
            client,
            # The sandbox imports workflows again for each worker, and of hundreds in one process some workers
            # meet a race of CPython 3.11's imports. test_plugin.py and the README's programs run sandboxed.
            workflow_runner=UnsandboxedWorkflowRunner(),
            task_queue=task_queue,
            workflows=[
                Branch,
                RunActivity,
                RunBeating,
                RunInTurn,
                RunMany,
                RunThenWait,
                OnlyChildren,
                Continuing,
                Waiting,
            ],
            activities=activities,
            activity_executor=threads,
            # By default the SDK sends a beat every 0.8 timeouts: a full machine needs more slack than that.
            max_heartbeat_throttle_interval=timedelta(seconds=0.3),
            interceptors=[TokenStreamingInterceptor(backend, **options), *interceptors]
            if backend is not None
            else list(interceptors),
        ):
            yield task_queue


async def read_all(client: Client, backend: Backend | None, workflow_id: str, **options: Any) -> list[Event]:
    """Read a workflow's stream to its end."""
    return [event async for event in TokenSubscriber(client, backend).subscribe(workflow_id, **options)]


def kinds(events: Sequence[Event]) -> list[str]:
    """The class names of events, with runs of the same one folded."""
    names = [type(event).__name__ for event in events]
    return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]


def standing_text(events: Sequence[Event]) -> str:
    """The answer text that a viewer who obeys `supersedes` has on the screen."""
    text: dict[str, str] = {}
    for event in events:
        if isinstance(event, AttemptStarted) and event.supersedes:
            text.pop(event.supersedes.attempt_id, None)
        elif isinstance(event, TokenEvent):
            text[event.origin.attempt_id] = text.get(event.origin.attempt_id, "") + event.token
    return "".join(text.values())
