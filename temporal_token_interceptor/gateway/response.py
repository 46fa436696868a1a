"""The response that streams: its end is the end of all that was begun for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from temporal_token_interceptor._tasks import ProgressTimeout, joined, started, unless
from temporal_token_interceptor.gateway.problem import HEADERS
from temporal_token_interceptor.telemetry.gateway import GatewayTelemetry

logger = logging.getLogger(__name__)

Write = Callable[[bytes], Awaitable[None]]
"""Sends one piece of a body; returns once the server has accepted it."""

SERVERS_SEND = "temporal_token_interceptor.send"
"""In the scope: the `send` with which the gateway was called. What Starlette wraps around it looks at the
beginning of a response alone, and costs as much for each token as all else."""


class StreamResponse(Response):
    """A response that is written by a function, which is cancelled if the client leaves.

    A client that accepts nothing for so many seconds is left: it resumes where it was, if it comes again.

    Args:
        body: Writes everything, by the function that it is passed.
        media_type: Of the body.
        counted: Entered while the response lives.
        telemetry: Is reported to.
        write_timeout: How many seconds one write may take.
    """

    def __init__(
        self,
        body: Callable[[Write], Awaitable[None]],
        media_type: str,
        counted: AbstractContextManager[None],
        telemetry: GatewayTelemetry,
        *,
        write_timeout: float,
    ) -> None:
        super().__init__(media_type=media_type, headers=HEADERS)
        del self.headers["content-length"]
        self._body = body
        self._counted = counted
        self._telemetry = telemetry
        self._write_timeout = write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, until the body ends, the client leaves, or it accepts nothing for too long."""
        loop = asyncio.get_running_loop()
        since: float | None = None  # when the write began that has not been accepted yet
        servers_send: Send = scope.get(SERVERS_SEND, send)

        async def write(chunk: bytes) -> None:
            nonlocal since
            since = loop.time()
            try:
                await servers_send({"type": "http.response.body", "body": chunk, "more_body": True})
            except OSError as error:  # of servers by version 2.4 of ASGI
                raise ClientDisconnect from error
            since = None

        async def stream() -> None:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await self._body(write)
            await servers_send({"type": "http.response.body", "body": b"", "more_body": False})

        def last_progress() -> float:
            return loop.time() if since is None else since

        with self._counted, self._telemetry.connected():
            left = started(_left(receive), "token-stream client")
            try:
                async with ProgressTimeout(self._write_timeout, last_progress):
                    await unless(left, stream())
            except TimeoutError:
                self._telemetry.refused(408)
            except ClientDisconnect:
                logger.debug("a client of a gateway left during a write")
            finally:
                await joined(left)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
