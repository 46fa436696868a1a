"""The gateway below a path of a host's app, on each ASGI server that people use."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from tests.support.asgi_servers import nginx, on_granian, on_hypercorn, on_uvicorn, serves
from tests.support.gateways import EVENT_SOURCE, half_answered


@pytest.mark.parametrize("on", [on_uvicorn, on_hypercorn, on_granian])
async def test_a_server_streams_and_stops(client, redis_url, on):
    """A token comes before the next is written; who leaves is forgotten; who stays is asked to come again."""
    async with mounted(client, redis_url, on) as (app, site, workflow_id), httpx.AsyncClient() as http:
        url = f"{site}/v1/workflows/{workflow_id}/events"
        async with http.stream("GET", url) as stays:
            body = stays.aiter_text()
            await until(body, "first ")
            async with http.stream("GET", url) as leaves:
                await until(leaves.aiter_text(), "first ")
                assert app._streams.connections.count == 2
            while app._streams.connections.count > 1:  # noqa: ASYNC110 - nothing reports that one was forgotten
                await asyncio.sleep(0.01)
            app.drain()
            end = "".join([piece async for piece in body])
        ready = await http.get(f"{site}/readyz")
        again = await http.get(url, headers=EVENT_SOURCE)

    assert stays.headers["content-type"].startswith("text/event-stream")
    assert "event: reconnect" in end
    assert "last" not in end
    assert (ready.status_code, again.status_code) == (503, 200)
    assert "event: reconnect" in again.text


@asynccontextmanager
async def mounted(client, redis_url, on):
    """A gateway below `/streams` of a host's app, its address, and a workflow that has begun to write."""
    async with (
        RedisStreamBackend(redis_url) as backend,
        half_answered(client, backend) as (workflow_id, _),
        asyncio.timeout(40),
    ):
        app = gateway(TokenSubscriber(client, backend), authorize=anyone, linger=timedelta(seconds=0.1))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            site = f"http://127.0.0.1:{listener.getsockname()[1]}/streams"
            async with on(Starlette(routes=[Mount("/streams", app)]), listener):
                await serves(f"{site}/healthz")
                try:
                    yield app, site, workflow_id
                finally:
                    app.drain()
        await app.aclose()


async def until(body, wanted):
    """Read up to a word."""
    text = ""
    while wanted not in text:
        text += await anext(body)
    return text


# ---------------------------------------------------------------------- behind nginx


async def test_nginx_holds_nothing_back(client, redis_url, tmp_path):
    """With the lines of the docs, tokens come as they are written, compressed or not, and so does the end."""
    async with (
        mounted(client, redis_url, on_uvicorn) as (app, site, workflow_id),
        nginx(tmp_path, site) as (proxied, _),
        httpx.AsyncClient() as http,
    ):
        url = f"{proxied}/v1/workflows/{workflow_id}/events"
        plain = http.stream("GET", url, headers={"accept-encoding": "identity"})
        async with plain as one, http.stream("GET", url, headers={"accept-encoding": "gzip"}) as two:
            bodies = [one.aiter_text(), two.aiter_text()]
            for body in bodies:
                await until(body, "first ")
            app.drain()
            ends = ["".join([piece async for piece in body]) for body in bodies]

    assert ("gzip" in one.headers.get("content-encoding", ""), two.headers["content-encoding"]) == (
        False,
        "gzip",
    )
    assert all("event: reconnect" in end for end in ends)


async def test_twenty_streams_share_a_connection_of_http_2(client, redis_url, tmp_path):
    """HTTP/2 is the proxy's: a browser's limit of six connections is none there."""
    async with (
        mounted(client, redis_url, on_uvicorn) as (app, site, workflow_id),
        nginx(tmp_path, site) as (_, proxied),
        httpx.AsyncClient(http2=True, verify=False) as http,  # noqa: S501 - made for this test
        AsyncExitStack() as stack,
    ):
        url = f"{proxied}/v1/workflows/{workflow_id}/events"
        streams = [await stack.enter_async_context(http.stream("GET", url)) for _ in range(20)]
        for stream in streams:
            await until(stream.aiter_text(), "first ")
        sockets = {stream.extensions["network_stream"].get_extra_info("socket") for stream in streams}
        watched = app._streams.connections.count

    assert {stream.http_version for stream in streams} == {"HTTP/2"}
    assert (len(sockets), watched) == (1, 20)
