"""The gateway on a real server: clients that leave, and a server that stops while they read."""

import asyncio
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import uvicorn
from temporalio import activity

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


@asynccontextmanager
async def running(client, redis_url):
    """A server, its gateway, and the URL of the stream of a workflow that goes on until it is released."""
    release = asyncio.Event()

    @activity.defn
    async def answers(argument: object) -> str:
        await ScriptedChatModel.saying("first ").ainvoke("?")
        await release.wait()
        return (await ScriptedChatModel.saying("last").ainvoke("?")).text

    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answers]) as queue,
    ):
        app = gateway(TokenSubscriber(client, backend), authorize=anyone, linger=timedelta(seconds=0.1))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        workflow_id = unique("served")
        handle = await client.start_workflow(
            RunActivity.run, args=["answers"], id=workflow_id, task_queue=queue
        )
        try:
            yield app, f"http://127.0.0.1:{listener.getsockname()[1]}/v1/workflows/{workflow_id}/events"
        finally:
            release.set()
            await handle.result()
            app.drain()
            server.should_exit = True
            await serving
            await app.aclose()


async def until(lines, wanted):
    """Read up to a line that has a word."""
    async for line in lines:
        if wanted in line:
            return line
    raise AssertionError(f"{wanted} did not come")


async def test_a_client_that_leaves_is_forgotten(client, redis_url):
    """And, some time after the last one, so is what was read for it."""
    async with running(client, redis_url) as (app, url), httpx.AsyncClient() as http:
        async with http.stream("GET", url, timeout=20) as response:
            await until(response.aiter_lines(), "first")
            [hub] = app._streams._hubs._hubs.values()
        await asyncio.wait({hub._reading}, timeout=20)

        assert hub._reading.done()
        assert not app._streams._hubs._hubs


async def test_a_server_that_stops_ends_its_streams(client, redis_url):
    """Twenty clients are asked to come again; each gets a time, within the bound, and a closed stream."""

    async def read(http, url, seen):
        async with http.stream("GET", url, timeout=20) as response:
            lines = response.aiter_lines()
            await until(lines, "first")
            seen.release()
            await until(lines, "event: reconnect")
            return await until(lines, "draining")

    limits = httpx.Limits(max_connections=None)
    async with running(client, redis_url) as (app, url), httpx.AsyncClient(limits=limits) as http:
        seen = asyncio.Semaphore(0)
        reading = [asyncio.create_task(read(http, url, seen)) for _ in range(20)]
        for _ in reading:
            await seen.acquire()
        app.drain()
        last = await asyncio.wait_for(asyncio.gather(*reading), 20)

    assert len(last) == 20
