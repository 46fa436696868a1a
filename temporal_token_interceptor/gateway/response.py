"""The response that streams: its end is the end of all that was begun for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from temporal_token_interceptor._tasks import ProgressTimeout
from temporal_token_interceptor.gateway.problem import HEADERS
from temporal_token_interceptor.telemetry.gateway import GatewayTelemetry


class StreamResponse(StreamingResponse):
    """A response whose generator is closed with it, also where the client left during a write.

    A client that accepts nothing for so many seconds is left: it resumes where it was, if it comes again.

    Args:
        body: What is written.
        media_type: Of the body.
        counted: Entered while the response lives.
        telemetry: Is reported to.
        write_timeout: How many seconds one write may take.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        media_type: str,
        counted: AbstractContextManager[None],
        telemetry: GatewayTelemetry,
        *,
        write_timeout: float,
    ) -> None:
        super().__init__(body, media_type=media_type, headers=HEADERS)
        self._body = body
        self._counted = counted
        self._telemetry = telemetry
        self._write_timeout = write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, until the body ends, the client leaves, or it accepts nothing for too long."""
        loop = asyncio.get_running_loop()
        since: float | None = None  # when the write began that has not been accepted yet

        async def noted(message: Message) -> None:
            nonlocal since
            since = loop.time()
            await send(message)
            since = None

        def last_progress() -> float:
            return loop.time() if since is None else since

        with self._counted, self._telemetry.connected():
            async with aclosing(self._body):
                try:
                    async with ProgressTimeout(self._write_timeout, last_progress):
                        await super().__call__(scope, receive, noted)
                except TimeoutError:
                    self._telemetry.refused(408)
