"""The gateway: an ASGI app that streams workflows to browsers and other HTTP clients.

It needs no lifespan, because a mounted app has none: hubs begin with their first client and end after their
last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from temporal_token_interceptor._arguments import duration, positive_duration
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Authorize
from temporal_token_interceptor.gateway.actions import Cancel, Start, action_routes
from temporal_token_interceptor.gateway.assets import asset_routes
from temporal_token_interceptor.gateway.connection import Times
from temporal_token_interceptor.gateway.limits import Limits
from temporal_token_interceptor.gateway.listing import ListRuns, list_routes
from temporal_token_interceptor.gateway.live.page import live_page
from temporal_token_interceptor.gateway.native import native
from temporal_token_interceptor.gateway.openapi import document_routes
from temporal_token_interceptor.gateway.origins import guarded
from temporal_token_interceptor.gateway.problem import Problem, answer
from temporal_token_interceptor.gateway.socket import sockets
from temporal_token_interceptor.gateway.streaming import Format, Streams
from temporal_token_interceptor.gateway.tokens import StreamTokens
from temporal_token_interceptor.reader.subscriber import TokenSubscriber


class Gateway:
    """Streams workflows over HTTP; an ASGI app. Made by `gateway`."""

    def __init__(
        self, streams: Streams, formats: Sequence[Format], origins: Sequence[str], runs: ListRuns | None
    ) -> None:
        self._streams = streams
        routes = [route for made in (native, sockets, *formats) for route in made(streams)]
        app = Starlette(
            routes=[
                *routes,
                *action_routes(streams.actions, streams.limits.body_bytes),
                *(list_routes(streams.allowed, runs) if runs is not None else ()),
                Route("/healthz", _healthy, methods=["GET"]),
                Route("/readyz", self._ready, methods=["GET"]),
                *document_routes(),
                *asset_routes(),
            ],
            exception_handlers={Problem: answer, HTTPException: answer},
        )
        self._app = guarded(app, origins)

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
    subscriber: TokenSubscriber | Callable[[], TokenSubscriber],
    *,
    authorize: Authorize,
    formats: Sequence[Format] = (),
    start: Start | None = None,
    cancel: Cancel | None = None,
    tokens: StreamTokens | None = None,
    allow_origins: Sequence[str] = (),
    limits: Limits | None = None,
    live: bool = False,
    list_runs: ListRuns | None = None,
    recheck: timedelta = timedelta(seconds=60),
    keep_alive: timedelta = timedelta(seconds=15),
    linger: timedelta = timedelta(seconds=10),
) -> Gateway:
    """Return an ASGI app that streams workflows; to be mounted in Starlette, FastAPI or Django, or alone.

    One subscription serves all clients of a workflow. `GET /v1/workflows/{id}/events` is a stream of
    server-sent events, which a browser's EventSource reads and resumes by itself. docs/gateway.md has the
    other routes; `/openapi.json` describes them.

    Args:
        subscriber: Reads the workflows; or a function that returns it, for one that is made when the host
            starts.
        authorize: Asked for each workflow of each connection, and again every `recheck`. An id is no
            credential, and neither is a cursor. `access.anyone` allows everything, and has to be written out.
        formats: What to serve beside the native format.
        start: Starts a workflow for `POST /v1/workflows`; None: there is no such route.
        cancel: Cancels one for `POST /v1/workflows/{id}/cancel`; None: there is no such route. A client that
            leaves never cancels.
        tokens: Makes stream tokens for `POST /v1/tokens`; None: there are none.
        allow_origins: Pages of which other origins may use the gateway, such as `https://app.example`.
        limits: What it takes on; None for the defaults.
        live: Whether the live page is served, as `/live`: for people who watch runs. See docs/live-page.md.
        list_runs: Lists runs for `GET /v1/workflows` and that page, such as
            `reader.temporal.run_list.RunList(client)`; None: there is no such route, and the page shows only
            what its address names.
        recheck: How often a living stream is asked for again.
        keep_alive: After how much silence a comment is sent.
        linger: How long a subscription lives after its last client.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """
    if not callable(authorize):
        raise ConfigurationError("authorize must be an async function (request, target) -> Allow or Deny")
    for name, hook in (("start", start), ("cancel", cancel), ("list_runs", list_runs)):
        if hook is not None and not callable(hook):
            raise ConfigurationError(f"{name} must be an async function, or None")
    if isinstance(allow_origins, str):
        raise ConfigurationError("allow_origins is a list of origins, not one string")
    times = Times(
        positive_duration("recheck", recheck).total_seconds(),
        positive_duration("keep_alive", keep_alive).total_seconds(),
        duration("linger", linger).total_seconds(),
    )
    streams = Streams(
        subscriber, authorize, times, limits=limits or Limits(), tokens=tokens, start=start, cancel=cancel
    )
    pages = [live_page(has_list=list_runs is not None, can_stop=cancel is not None)] if live else []
    return Gateway(streams, [*formats, *pages], allow_origins, list_runs)


async def _healthy(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls it
    return Response(status_code=204)
