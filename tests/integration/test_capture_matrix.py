"""Ways to call x kinds of activity: each cell is run. `TTI_UPDATE_DOCS=1` writes docs/capture.md anew."""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Interceptor, SharedStateManager, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    CallEnded,
    Event,
    MemoryStreamBackend,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from tests.support.streams import read_all, unique
from tests.support.ways import ASYNC, SYNC, WORDS, call_anything, call_async, call_sync
from tests.support.workflows import RunActivity

PAGE = Path(__file__).parents[2] / "docs" / "capture.md"
KINDS = ["async", "dynamic", "local", "standalone", "threads", "process pool"]
PATIENCE = timedelta(seconds=30)
PACKAGES = ["langchain-core", "langgraph", "temporalio"]


def told(events: Sequence[Event]) -> str:
    """What a reader was told of the calls."""
    tokens = [event.token for event in events if isinstance(event, TokenEvent)]
    ends = [event for event in events if isinstance(event, CallEnded) and not event.error]
    if not ends:
        return "nothing"
    if tokens == WORDS:
        return "tokens"
    if tokens == [*WORDS, "".join(WORDS)]:
        return "tokens, then whole"
    return "whole" if tokens == ["".join(WORDS)] else f"tokens: {tokens}"


@asynccontextmanager
async def serving(client: Client, interceptor: Interceptor) -> AsyncIterator[tuple[str, str]]:
    """Workers for activities of every kind; the second queue is that of the process pool."""
    queue, pool_queue = unique("matrix"), unique("matrix-pool")
    spawn = multiprocessing.get_context("spawn")
    async with AsyncExitStack() as stack:
        manager = stack.enter_context(spawn.Manager())
        processes = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
        threads = stack.enter_context(ThreadPoolExecutor(8))
        for task_queue, executor, activities in (
            (queue, threads, [call_async, call_sync, call_anything]),
            (pool_queue, processes, [call_sync]),
        ):
            await stack.enter_async_context(
                Worker(
                    client,
                    workflow_runner=UnsandboxedWorkflowRunner(),
                    task_queue=task_queue,
                    workflows=[RunActivity],
                    activities=activities,
                    activity_executor=executor,
                    shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
                    interceptors=[interceptor],
                    max_heartbeat_throttle_interval=timedelta(seconds=0.2),
                )
            )
        yield queue, pool_queue


@pytest.mark.filterwarnings("ignore:The method .* is in beta")  # v3 events say so once
@pytest.mark.timeout(120)
async def test_the_matrix_of_capture_is_up_to_date(client):
    """docs/capture.md says what arrives for each way to call in each kind of activity, as seen just now."""
    backend = MemoryStreamBackend()
    cells: dict[tuple[str, str], str] = {}

    async def run(kind: str, way: str) -> None:
        name = "call_sync" if kind in ("threads", "process pool") else "call_async"
        workflow_id = unique("matrix")
        if kind == "standalone":
            await client.start_activity(
                call_async,
                way,
                id=workflow_id,
                task_queue=queue,
                start_to_close_timeout=timedelta(seconds=30),
            )
            events = [e async for e in TokenSubscriber(client, backend).subscribe_activity(workflow_id)]
        else:
            await client.start_workflow(
                RunActivity.run,
                args=[name if kind != "dynamic" else "anything", way, kind == "local", 1, 30],
                id=workflow_id,
                task_queue=pool_queue if kind == "process pool" else queue,
            )
            events = await read_all(client, backend, workflow_id)
        assert events[-1].status == "completed", (kind, way)
        cells[kind, way] = told(events)

    async with serving(client, TokenStreamingInterceptor(backend)) as (queue, pool_queue):
        await asyncio.gather(*(run(kind, way) for kind in KINDS[:4] for way in ASYNC))
        await asyncio.gather(*(run(kind, way) for kind in KINDS[4:] for way in SYNC))

    if os.environ.get("TTI_UPDATE_DOCS"):
        PAGE.write_text(_page(cells, _versions()), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    # The page has the versions that it was written with; the table holds with others, too (`make newest`).
    written_with = page.partition("Versions: ")[2].partition(".\n")[0]
    assert page == _page(cells, written_with)


@pytest.mark.filterwarnings("ignore:The method .* is in beta")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["async", "dynamic", "threads", "process pool"])
async def test_without_a_backend_the_same_arrives_through_heartbeats(client, kind):
    """What docs/capture.md says holds for a reader that has Temporal alone, while results hold nothing."""
    ways = SYNC if kind in ("threads", "process pool") else ASYNC
    cells: dict[str, str] = {}
    turn = asyncio.Semaphore(4)

    async def run(way: str) -> None:
        name = {"async": "call_async", "dynamic": "anything"}.get(kind, "call_sync")
        workflow_id = unique("matrix")
        async with turn:
            await client.start_workflow(
                RunActivity.run,
                args=[name, way, False, 1, 30],
                id=workflow_id,
                task_queue=pool_queue if kind == "process pool" else queue,
            )
            events = await read_all(client, None, workflow_id)
        assert events[-1].status == "completed", (kind, way)
        cells[way] = told(events)

    async with serving(client, TokenStreamingInterceptor()) as (queue, pool_queue):
        await asyncio.gather(*map(run, ways))

    assert cells == _cells_of_page(kind, ways)


def _cells_of_page(kind: str, ways: Iterable[str]) -> dict[str, str]:
    """What docs/capture.md says of the ways to call in one kind of activity."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    [first] = [place for place, row in enumerate(rows) if kind in row]
    column = rows[first].index(kind)
    table = {row[0]: row[column] for row in rows[first:]}
    return {way: table[way] for way in ways}


def _versions() -> str:
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES)


def _page(cells: dict[tuple[str, str], str], versions: str) -> str:
    lines = [
        "# What is captured",
        "",
        "A model is called in each way in each kind of activity, on real servers. A subscriber received:",
        "`tokens`, one by one; `whole`, the text in one piece when the call ended; or `nothing`.",
        "`tests/integration/test_capture_matrix.py` writes this page and checks it.",
        "",
        f"Versions: {versions}.",
    ]
    for ways, kinds in ((ASYNC, KINDS[:4]), (SYNC, KINDS[4:])):
        lines += ["", f"| way to call | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
        lines += [f"| {way} | {' | '.join(cells[kind, way] for kind in kinds)} |" for way in ways]
    lines += [
        "",
        "Where it says `nothing`, LangChain calls no callbacks: a thread without its caller's context",
        "has no callbacks of its caller, and `_generate` is below them. Copy the context",
        "(`contextvars.copy_context().run`), or use `asyncio.to_thread` or LangChain's own pool.",
        "",
    ]
    return "\n".join(lines)
