"""Which pages of a browser may use the gateway: those of its own origin, and those that are named."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.problem import Problem, answer
from temporal_token_interceptor.gateway.response import SERVERS_SEND

_EXPOSED = ("retry-after", "location", "etag", "x-workflow-run-id")
_ACCEPTED = ("accept", "authorization", "content-type", "last-event-id", "if-none-match")
_ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def guarded(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return an app that answers pages of its own origin and of these, and refuses all other pages.

    Also WebSockets and requests without preflight, which browsers send with cookies from any page. Clients
    that are no pages send no `Origin`, and are not concerned.

    Args:
        app: What answers.
        origins: Such as `https://app.example`; `*` for all, which get no cookies.

    Raises:
        ConfigurationError: one of them is no origin.
    """
    for one in origins:
        parts = urlsplit(one)
        if one not in ("*", f"{parts.scheme}://{parts.netloc}"):
            raise ConfigurationError(
                f"allow_origins has {one!r}, which is no origin: scheme and host alone, as 'https://app.example'"
            )
    allowed = frozenset(origins)
    if allowed:
        app = CORSMiddleware(
            app,
            allow_origins=list(allowed),
            allow_methods=["GET", "POST"],
            allow_headers=list(_ACCEPTED),
            expose_headers=list(_EXPOSED),
            allow_credentials="*" not in allowed,
        )

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        if not _is_allowed(HTTPConnection(scope), allowed):
            await _refuse(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app({**scope, SERVERS_SEND: send}, receive, with_headers)

    return guard


def _is_allowed(connection: HTTPConnection, allowed: frozenset[str]) -> bool:
    headers: Headers = connection.headers
    origin = headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    # Behind a proxy the host may be another than the one that the browser sees; the browser itself knows.
    scheme, _, host = origin.partition("://")
    return headers.get("sec-fetch-site") == "same-origin" or (
        scheme in ("http", "https") and host != "" and host == headers.get("host")
    )


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "origin"})
        return
    problem = Problem(403, "pages of this origin are not allowed: the server names them in allow_origins")
    response = await answer(Request(scope, receive), problem)
    await response(scope, receive, send)
