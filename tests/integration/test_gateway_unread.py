"""Clients that open a stream and never read: each server leaves them, and nothing piles up for them."""

import asyncio
import json
import os
import resource
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from websockets.asyncio.client import connect

from temporal_token_interceptor import AttemptStarted, Call, CallStarted, TokenEvent
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.limits import Limits
from temporal_token_interceptor.protocol.cursor import Cursor
from tests.support.asgi_servers import made_certificate, on_granian, on_hypercorn, on_uvicorn, serves
from tests.support.frames import an_origin
from tests.support.gateway_site import fake

SERVERS = {"uvicorn": on_uvicorn, "hypercorn": on_hypercorn, "granian": on_granian}
QUICK = ["uvicorn http/1.1", "uvicorn websocket", "hypercorn http/2"]
REST = [
    "hypercorn http/1.1",
    "hypercorn websocket",
    "granian http/1.1",
    "granian http/2",
    "granian websocket",
]
KINDS = [*QUICK, *REST] if os.environ.get("TTI_TEST_ALL_SERVERS") else QUICK  # `make viewers`: all
PIECE = "0123456789" * 2_000


async def endless():
    """A call that never ends, as quick as it is read."""
    origin = an_origin(run_id="11111111-first")
    call = Call(ordinal=0, id="1:0", run_id="r", node_name="agent", path=(), model="model")
    yield _at(0, AttemptStarted(origin=origin))
    yield _at(1, CallStarted(call=call, origin=origin))
    index = 0
    while True:
        yield _at(index + 2, TokenEvent(PIECE, "agent", index, call=call, origin=origin))
        index += 1
        await asyncio.sleep(0)


def _at(number, event):
    return replace(event, cursor=str(Cursor("11111111-first", f"{1_763_640_000_000 + number}-0", 2)))


@asynccontextmanager
async def unread(port, protocol, query):
    """A stream that was asked for, and is not read."""
    path = f"/v1/workflows/w/events{query}"
    match protocol:
        case "http/1.1":
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode())
                yield
        case "http/2":
            async with (
                httpx.AsyncClient(http2=True, verify=False, timeout=30) as http,  # noqa: S501 - of this test
                http.stream("GET", f"https://127.0.0.1:{port}{path}"),
            ):
                yield
        case "websocket":
            ws = await connect(f"ws://127.0.0.1:{port}/v1/socket", max_queue=1, compression=None)
            begin = {"from": "start"} if query else {}
            await ws.send(json.dumps({"op": "subscribe", "workflow": "w", **begin}))
            yield
            ws.transport.abort()
            await ws.wait_closed()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_never_reads_is_left(tmp_path, kind):
    """One that shares a hub, and one with a subscription of its own."""
    server, protocol = kind.split()
    begun = []

    def stream(workflow_id):
        begun.append(workflow_id)
        return endless()

    app = gateway(
        fake(stream),
        authorize=anyone,
        linger=timedelta(0),
        limits=Limits(write_timeout=timedelta(seconds=0.3)),
    )
    certificate = [await made_certificate(tmp_path)] if protocol == "http/2" else []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        on = SERVERS[server](app, listener, *certificate)
        async with on, AsyncExitStack() as stack, asyncio.timeout(40):
            await serves(f"http{'s' if certificate else ''}://127.0.0.1:{port}/healthz", verify=False)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for query in ("", "?from=start"):
                await stack.enter_async_context(unread(port, protocol, query))
            while len(begun) < 2 or app._streams.connections.count:  # noqa: ASYNC110 - see below
                await asyncio.sleep(0.01)  # nothing reports that one was left
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            app.drain()
    await app.aclose()

    assert grown < 100_000  # KiB: the text itself, which a hub keeps, and what systems buffer
