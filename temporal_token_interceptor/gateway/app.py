"""The gateway: an ASGI app that streams workflows to browsers and other HTTP clients.

It needs no lifespan, because a mounted app has none: hubs begin with their first client and end after their
last.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from temporal_token_interceptor.errors import ConfigurationError, InvalidCursor, TransportUnavailable
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.gateway.access import Allow, Authorize, Deny, Target
from temporal_token_interceptor.gateway.assets import asset_routes
from temporal_token_interceptor.gateway.encoder import Encoder, NativeEvents
from temporal_token_interceptor.gateway.hub import Hub, HubClient, Hubs, Key
from temporal_token_interceptor.protocol.cursor import Cursor, Position
from temporal_token_interceptor.reader.subscriber import TokenSubscriber

_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept"}
_SPREAD = 5_000  # milliseconds over which clients of a server that stops come again


class Gateway:
    """Streams workflows over HTTP; an ASGI app. Made by `gateway`."""

    def __init__(
        self,
        subscriber: TokenSubscriber,
        authorize: Authorize,
        *,
        recheck: timedelta,
        keep_alive: timedelta,
        linger: timedelta,
    ) -> None:
        self._subscriber = subscriber
        self._authorize = authorize
        self._recheck = recheck.total_seconds()
        self._keep_alive = keep_alive.total_seconds()
        self._hubs = Hubs(self._subscribe, linger.total_seconds())
        self._is_draining = False
        self._app = Starlette(
            routes=[
                Route("/v1/workflows/{workflow_id:path}/events", self._events),
                Route("/readyz", self._ready),
                *asset_routes(),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    def drain(self) -> None:
        """Refuse new streams and ask all clients to come again, to another process: before a server stops."""
        self._is_draining = True
        self._hubs.wake()

    async def aclose(self) -> None:
        """End all streams and subscriptions. Optional: they end by themselves after their last client."""
        self.drain()
        await self._hubs.close()

    def _subscribe(self, key: Key) -> AsyncGenerator[Event]:
        workflow_id, run_id = key
        return self._subscriber.subscribe(workflow_id, run_id)

    async def _ready(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls it
        return _problem(503, "the server is stopping") if self._is_draining else Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        target = Target(request.path_params["workflow_id"], request.query_params.get("run"), "read")
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor") or None
        allowed = await self._authorize(request, target)
        if isinstance(allowed, Deny):
            return _refusal(allowed)
        if self._is_draining:
            # An EventSource never comes back after another status than 200.
            again = NativeEvents().reconnect(random.randrange(_SPREAD), "draining")  # noqa: S311 - no secret
            return Response(again, media_type=NativeEvents.media_type, headers=_HEADERS)
        try:
            place = Cursor.parse(cursor) if cursor else None
        except InvalidCursor as error:
            return _problem(400, str(error))
        if place is not None and place.position == Position.END:
            return Response(status_code=204, headers=_HEADERS)  # the client has all; it stops an EventSource
        body = self._stream(request, target, cursor, allowed)
        return _Stream(body, NativeEvents.media_type)

    async def _stream(
        self, request: Request, target: Target, cursor: str | None, allowed: Allow
    ) -> AsyncGenerator[bytes]:
        encoder = NativeEvents()
        yield encoder.begin()
        loop = asyncio.get_running_loop()
        checked = loop.time()
        async with self._hubs.client((target.workflow_id, target.run_id), cursor) as (hub, client):
            while True:
                await client.wait(min(self._keep_alive, self._recheck))
                if loop.time() - checked >= self._recheck:
                    again = await self._authorize(request, target)
                    if isinstance(again, Deny):
                        yield encoder.reconnect(0, "authorization")
                        return
                    allowed, checked = again, loop.time()
                yield _written(encoder, client, allowed)
                if hub.has_ended:
                    yield _written(encoder, client, allowed, last=True)
                    if hub.error is not None:
                        yield _ended_early(encoder, hub)
                    return
                if self._is_draining:
                    yield encoder.reconnect(random.randrange(_SPREAD), "draining")  # noqa: S311 - no secret
                    return


def gateway(
    subscriber: TokenSubscriber,
    *,
    authorize: Authorize,
    recheck: timedelta = timedelta(seconds=60),
    keep_alive: timedelta = timedelta(seconds=15),
    linger: timedelta = timedelta(seconds=10),
) -> Gateway:
    """Return an ASGI app that streams workflows: to be mounted in Starlette or FastAPI, or served alone.

    One subscription serves all clients of a workflow. `GET /v1/workflows/{id}/events` is a stream of
    server-sent events, which a browser's EventSource reads and resumes by itself.

    Args:
        subscriber: Reads the workflows.
        authorize: Asked for each connection, and again every `recheck`. An id is no credential, and neither
            is a cursor. `access.anyone` allows everything, and has to be written out.
        recheck: How often a living stream is asked for again.
        keep_alive: After how much silence a comment is sent.
        linger: How long a subscription lives after its last client.

    Raises:
        ConfigurationError: `authorize` is no function.
    """
    if not callable(authorize):
        raise ConfigurationError("authorize must be an async function (request, target) -> Allow or Deny")
    return Gateway(subscriber, authorize, recheck=recheck, keep_alive=keep_alive, linger=linger)


class _Stream(StreamingResponse):
    """A response whose generator is closed with it, also where the client left during a write."""

    def __init__(self, body: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(body, media_type=media_type, headers=_HEADERS)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._body):
            await super().__call__(scope, receive, send)


def _written(encoder: Encoder, client: HubClient, allowed: Allow, *, last: bool = False) -> bytes:
    """Return what waits for a client, as it may see it; a ping if nothing does."""
    visible = allowed.visible
    taken = client.take()
    if isinstance(taken, tuple):
        view, cursor = taken
        return encoder.late(visible.view(view), cursor)
    shown = [seen for change in taken if (seen := visible.of(change)) is not None]
    return encoder.encode(shown) if shown else b"" if last else encoder.ping()


def _ended_early(encoder: Encoder, hub: Hub) -> bytes:
    away = isinstance(hub.error, TransportUnavailable)
    return encoder.reconnect(_SPREAD, "unavailable" if away else type(hub.error).__name__)


def _refusal(denied: Deny) -> Response:
    if denied.hide:
        return _problem(404, "there is no such workflow")
    return _problem(denied.status, "log in first" if denied.status == 401 else "not allowed")


def _problem(status: int, detail: str) -> Response:
    """Return an error as RFC 9457 has it."""
    body = {"type": "about:blank", "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json", headers=_HEADERS)
