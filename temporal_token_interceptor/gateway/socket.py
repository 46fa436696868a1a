"""The native events over a WebSocket: one connection, workflows come and go on it.

A client sends `{"op": "subscribe", "workflow": "...", "cursor": "..."}`, and the same with `unsubscribe`.
Other members are as in the query of `/v1/workflows/{id}/events`; so is `token`, which is better off there.
Each event is a text frame: a line of the NDJSON form, with its `workflow`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.gateway.connection import Connection
from temporal_token_interceptor.gateway.cursors import cursor_of
from temporal_token_interceptor.gateway.encoder import NativeLines
from temporal_token_interceptor.gateway.problem import Problem
from temporal_token_interceptor.gateway.query import stream_options, target_of
from temporal_token_interceptor.gateway.stream_request import StreamRequest
from temporal_token_interceptor.gateway.streaming import Streams
from temporal_token_interceptor.telemetry.gateway import GatewayTelemetry

logger = logging.getLogger(__name__)

_TOO_BIG, _RESTART = 1009, 1012  # of RFC 6455 and IANA's registry


class SocketLines(NativeLines):
    """Lines, each of which is sent as a frame."""

    name = "websocket"


def sockets(streams: Streams) -> Sequence[BaseRoute]:
    """Return the route of WebSockets."""

    async def serve(socket: WebSocket) -> None:
        if streams.is_draining:
            await socket.close(_RESTART)
            return
        try:
            streams.connections.check((), None)
        except Problem:
            await socket.close(1013)  # try again later
            return
        telemetry = GatewayTelemetry(SocketLines.name)
        with streams.connections.counted((), None), telemetry.connected():
            await socket.accept()
            await _Socket(streams, socket, telemetry).serve()

    return [WebSocketRoute("/v1/socket", serve)]


class _Socket:
    def __init__(self, streams: Streams, socket: WebSocket, telemetry: GatewayTelemetry) -> None:
        self._streams = streams
        self._socket = socket
        self._telemetry = telemetry
        self._connection = Connection(SocketLines(), streams.times, telemetry, stays=True)
        self._open: dict[str, AsyncExitStack] = {}

    async def serve(self) -> None:
        """Serve until the client leaves, or the server stops."""
        with self._streams.living(self._connection):
            tasks = [
                started(self._connection.stream(self._write), "token-stream socket"),
                started(self._read(), "token-stream socket"),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    await joined(task)
                    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                        logger.info("a socket of a gateway ended early", exc_info=error)
                for workflow_id in list(self._open):
                    await self._close(workflow_id)
        if self._connection.is_draining:
            await self._socket.close(_RESTART)

    async def _write(self, chunk: bytes) -> None:
        for line in chunk.splitlines():
            await self._send(line.decode())
        for workflow_id in self._open.keys() - self._connection.feeds.keys():
            await self._close(workflow_id)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            sent: str | bytes = message.get("text") or message.get("bytes") or ""
            if len(sent) > self._streams.limits.body_bytes:
                await self._socket.close(_TOO_BIG)
                return
            workflow_id = ""
            try:
                frame = _frame(sent)
                workflow_id = target_of(frame.get("workflow")).workflow_id
                if frame["op"] == "subscribe":
                    await self._subscribe(workflow_id, frame)
                else:
                    await self._close(workflow_id)
            except Problem as problem:
                self._telemetry.refused(problem.status)
                encoder = SocketLines(workflow_id)
                await self._send(encoder.problem(problem.status, problem.detail).decode().rstrip())

    async def _subscribe(self, workflow_id: str, frame: dict[str, Any]) -> None:
        if workflow_id not in self._open and len(self._open) >= self._streams.limits.workflows_per_connection:
            raise Problem(429, "this connection has as many workflows as it may: unsubscribe from some")
        request = self._as_request(frame)
        target = target_of(workflow_id, request.query_params.get("run"))
        asked = StreamRequest(
            request=request,
            target=target,
            encoder=SocketLines(workflow_id),
            cursor=cursor_of(request),
            **stream_options(request),
        )
        allowed = await self._streams.admitted(asked)
        await self._close(workflow_id)
        self._streams.connections.check([workflow_id], allowed.principal)
        stack = self._open[workflow_id] = AsyncExitStack()
        stack.enter_context(self._streams.connections.counted([workflow_id], allowed.principal))
        feed = self._streams.feed(asked, allowed, self._connection.woken)
        self._connection.feeds[workflow_id] = await stack.enter_async_context(feed)
        self._connection.beat()

    def _as_request(self, frame: dict[str, Any]) -> Request:
        """Return what the client would have sent over HTTP: `authorize` is asked about requests.

        Raises:
            Problem: 400, a member is none of a query.
        """
        members = {
            name: value if isinstance(value, list) else [value]
            for name, value in frame.items()
            if name not in ("op", "workflow") and value is not None
        }
        if not all(isinstance(one, str | int) for values in members.values() for one in values):
            raise Problem(400, "members of a frame are text, numbers, or lists of these")
        # Half a character, which JSON may have, comes out as one that no parameter takes.
        query = urlencode(members, doseq=True, encoding="utf-8", errors="surrogatepass").encode()
        return Request({**self._socket.scope, "type": "http", "method": "GET", "query_string": query})

    async def _close(self, workflow_id: str) -> None:
        self._connection.feeds.pop(workflow_id, None)
        if (stack := self._open.pop(workflow_id, None)) is not None:
            await stack.aclose()

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(self._streams.limits.write_timeout.total_seconds()):
            await self._socket.send_text(text)


def _frame(sent: str | bytes) -> dict[str, Any]:
    if isinstance(sent, bytes):
        raise Problem(400, "a frame is text, and this one is binary")
    try:
        frame = json.loads(sent)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the frame is not JSON") from error
    if not isinstance(frame, dict) or frame.get("op") not in ("subscribe", "unsubscribe"):
        raise Problem(400, 'a frame is {"op": "subscribe" or "unsubscribe", "workflow": "order-7"}')
    return frame
