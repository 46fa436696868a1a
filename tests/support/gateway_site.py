"""A gateway on a port, in this process; and a subscriber that has its streams from the test."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from temporal_token_interceptor import Event, StreamNotFound, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import Gateway, gateway


def fake(streams: Callable[[str], AsyncGenerator[Event]]) -> TokenSubscriber:
    """Return a subscriber that yields what the test gives it, in place of reading servers.

    Args:
        streams: Returns the events of a workflow.
    """
    return cast("TokenSubscriber", _Fake(streams))


class _Fake:
    def __init__(self, streams: Callable[[str], AsyncGenerator[Event]]) -> None:
        self._streams = streams

    def subscribe(self, workflow_id: str, *_: Any, **__: Any) -> AsyncGenerator[Event]:
        return self._streams(workflow_id)

    async def subscribe_batches(
        self, workflow_id: str, *_: Any, on_caught_up: Callable[[], None], **__: Any
    ) -> AsyncGenerator[list[Event]]:
        on_caught_up()  # nothing is stored: all of it is new
        async with aclosing(self._streams(workflow_id)) as events:
            async for event in events:
                yield [event]

    async def describe(self, *_: Any) -> Any:
        raise StreamNotFound("there is no Temporal")


@dataclass
class Site:
    """A gateway that is served.

    Attributes:
        url: Its address.
        app: The gateway.
        streams: How many connections for events were begun.
        open: How many requests are being answered.
    """

    url: str
    app: Gateway
    streams: int = 0
    open: int = 0

    async def quiet(self) -> None:
        """Wait until the gateway serves no request and reads no workflow: pages were closed, and it knows."""
        async with asyncio.timeout(20):
            while self.open or _reads():  # noqa: ASYNC110 - see below
                await asyncio.sleep(0.02)  # nothing reports when a closed connection is noticed


@asynccontextmanager
async def site(subscriber: TokenSubscriber, port: int = 0, **options: Any) -> AsyncIterator[Site]:
    """Serve a gateway, with the live page, until the block ends; its clients are sent away first."""
    options = {"authorize": anyone, "live": True, "linger": timedelta(seconds=0.1)} | options
    app = gateway(subscriber, **options)
    listener = socket.create_server(("127.0.0.1", port))
    served = Site(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
    config = uvicorn.Config(
        _counted(app, served), log_level="warning", lifespan="off", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield served
    finally:
        app.drain()
        server.should_exit = True
        await serving
        await app.aclose()


def _counted(app: ASGIApp, served: Site) -> ASGIApp:
    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        served.streams += scope["path"].endswith("/events")
        served.open += 1
        try:
            await app(scope, receive, send)
        finally:
            served.open -= 1

    return counting


def _reads() -> bool:
    return any("token-stream hub" in task.get_name() for task in asyncio.all_tasks())
