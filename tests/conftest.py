"""Real servers, shared by the whole session; tests keep apart by unique names, so nothing is flushed."""

import asyncio
import gc
import os
import uuid
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from devservers import ServerUnavailable, find_redis, redis_server, temporal_server

# No deadline: a slow machine breaks no law, and pytest-timeout ends what hangs. `quick` is the default;
# `make test` and CI use `full`.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("full" if os.environ.get("CI") else "quick")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave what imports and collection make out of garbage collection: it lives as long as the process.

    Each full collection would look at 400 MB of it, for a fifth of a second to a half.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(2_000, 10, 50)


@pytest.fixture(scope="session")
async def redis_url():
    """URL of a real Redis."""
    async with _skip_where_missing(redis_server()) as url:
        yield url


@pytest.fixture(scope="session")
async def temporal_env():
    """A real Temporal dev server: a `WorkflowEnvironment`."""
    async with _skip_where_missing(temporal_server()) as environment:
        yield environment


@pytest.fixture(scope="session")
def client(temporal_env):
    """A Temporal client without interceptors or plugins; `client.config()` is the start of another one."""
    return temporal_env.client


@pytest.fixture(scope="session")
def redis_binary():
    """A Redis to start with settings of one's own."""
    try:
        return find_redis()
    except ServerUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def redis_client(redis_url):
    """A Redis client that may block: redis-py's default would cut an XREAD after five seconds."""
    async with Redis.from_url(redis_url, socket_timeout=None) as redis:
        yield redis


@pytest.fixture
def task_queue(request):
    """A task queue, and a good prefix for workflow ids, that no other test has."""
    return f"{request.node.name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
async def no_leaked_tasks():
    """Code that starts a task joins it: after a test, no task of the test remains."""
    before = asyncio.all_tasks()
    yield
    # The grace is for generators and transports that the loop itself is closing, not for our own tasks.
    leaked = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=0.5)
    if leaked:
        names = "\n".join(repr(task) for task in leaked)
        for task in leaked:
            task.cancel()  # one guilty test, not all that follow it
        pytest.fail(f"tasks outlived the test that started them:\n{names}", pytrace=False)


@asynccontextmanager
async def _skip_where_missing(server):
    """The running server; else a skip at home and a failure in CI, where a skip would not be noticed."""
    async with AsyncExitStack() as stack:
        try:
            started = await stack.enter_async_context(server)
        except ServerUnavailable as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        yield started
