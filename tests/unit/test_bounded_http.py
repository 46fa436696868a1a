"""`tti serve` on a port: headers have a bound, in bytes and in time; all else is answered as ever."""

import asyncio
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from temporal_token_interceptor.cli import http
from temporal_token_interceptor.cli.http import BoundedProtocol


async def length(request: Request):
    return PlainTextResponse(str(len(await request.body())))


async def echo(ws: WebSocket):
    await ws.accept()
    await ws.send_text(await ws.receive_text())
    await ws.close()


@asynccontextmanager
async def serving():
    """The port of a server."""
    app = Starlette(routes=[Route("/", length, methods=["GET", "POST"]), WebSocketRoute("/ws", echo)])
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="websockets-sansio", log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


@pytest.mark.parametrize(
    "piece", [b"x-one: " + b"y" * 1_000 + b"\r\n", b"y" * 1_000], ids=["many headers", "one header"]
)
async def test_endless_headers_are_refused(piece):
    """A server that goes on reading would be filled by one client."""
    sent = 0
    async with serving() as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\nx-begin: ")
        try:
            while not reader.at_eof():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        writer.close()

    assert sent < 16 << 20  # what the system's buffers take is sent, too


async def test_headers_that_do_not_come_end_the_connection(monkeypatch):
    """At first, and after a request that was answered."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.2)
    async with serving() as port, asyncio.timeout(20):
        for begin in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin)
            answer = await reader.read()
            writer.close()
            assert (b"200 OK" in answer) == (b"\r\n\r\n" in begin)


async def test_what_is_within_the_bounds_is_answered():
    """A body with its headers, several requests on a connection, and a WebSocket."""
    async with serving() as port, asyncio.timeout(20):
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            lengths = [
                (await client.post(url, content=b"x" * size, headers={"x-long": "y" * 20_000})).text
                for size in (0, 300_000, 900_000)
            ]
        async with connect(f"ws://127.0.0.1:{port}/ws") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"

    assert lengths == ["0", "300000", "900000"]
