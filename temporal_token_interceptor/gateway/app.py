"""The gateway: an ASGI app that streams workflows to browsers and other HTTP clients.

It needs no lifespan, because a mounted app has none: hubs begin with their first client and end after their
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Authorize
from temporal_token_interceptor.gateway.assets import asset_routes
from temporal_token_interceptor.gateway.native import native
from temporal_token_interceptor.gateway.problem import Problem, answer
from temporal_token_interceptor.gateway.streaming import Format, Streams, Times
from temporal_token_interceptor.reader.subscriber import TokenSubscriber


class Gateway:
    """Streams workflows over HTTP; an ASGI app. Made by `gateway`."""

    def __init__(self, streams: Streams, formats: Sequence[Format]) -> None:
        self._streams = streams
        routes = [route for made in (native, *formats) for route in made(streams)]
        self._app = Starlette(
            routes=[*routes, Route("/readyz", self._ready), *asset_routes()],
            exception_handlers={Problem: answer},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    def drain(self) -> None:
        """Refuse new streams and ask all clients to come again, to another process: before a server stops."""
        self._streams.drain()

    async def aclose(self) -> None:
        """End all streams and subscriptions. Optional: they end by themselves after their last client."""
        await self._streams.close()

    async def _ready(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls it
        if self._streams.is_draining:
            raise Problem(503, "the server is stopping")
        return Response(status_code=204)


def gateway(
    subscriber: TokenSubscriber,
    *,
    authorize: Authorize,
    formats: Sequence[Format] = (),
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
        formats: What to serve beside the native format.
        recheck: How often a living stream is asked for again.
        keep_alive: After how much silence a comment is sent.
        linger: How long a subscription lives after its last client.

    Raises:
        ConfigurationError: `authorize` is no function.
    """
    if not callable(authorize):
        raise ConfigurationError("authorize must be an async function (request, target) -> Allow or Deny")
    times = Times(recheck.total_seconds(), keep_alive.total_seconds(), linger.total_seconds())
    return Gateway(Streams(subscriber, authorize, times), formats)
