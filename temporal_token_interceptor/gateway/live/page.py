"""Serves the live page: off unless it is switched on, and shown to whom `authorize` lets read.

The page is files and no data: all that it shows it gets from the routes that every client uses. A strict
Content-Security-Policy lets no script run but its own, so that what a model writes stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Format, Streams

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page's own files and no others; no inline script, no markup out of text, no frame around it."""

_FILES = Path(__file__).parent / "files"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def live_page(*, has_list: bool = False, can_stop: bool = False) -> Format:
    """Return the routes of the page.

    Args:
        has_list: Whether the gateway lists runs, which the page asks every five seconds; otherwise it shows
            only what its address names.
        can_stop: Whether the gateway cancels workflows: only then there is a button Stop.
    """

    def routes(streams: Streams) -> Sequence[BaseRoute]:
        page = _Page(streams, has_list=has_list, can_stop=can_stop)
        return [
            Route("/live", page.show, methods=["GET"]),
            Route("/live.files/{name}", page.file, methods=["GET"]),
            Route("/live/{workflow_id:path}", page.show, methods=["GET"]),
        ]

    return routes


class _Page:
    def __init__(self, streams: Streams, *, has_list: bool, can_stop: bool) -> None:
        self._streams = streams
        facts = (' data-stop="yes"' if can_stop else "") + (' data-runs="yes"' if has_list else "")
        self._html = (_FILES / "live.html").read_text(encoding="utf-8").replace("{{facts}}", facts)
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.suffix])
            for path in _FILES.iterdir()
            if path.suffix in _TYPES
        }

    async def show(self, request: Request) -> Response:
        """Answer with the page, for one run or for all."""
        workflow_id = request.path_params.get("workflow_id", "")
        action = target_of(workflow_id) if workflow_id else Target("", None, "list")
        await self._streams.allowed(request, action)
        root = escape(request.scope.get("root_path", ""))
        html = self._html.replace("{{root}}", root)
        return Response(html, media_type="text/html", headers=HEADERS | _SECURITY)

    async def file(self, request: Request) -> Response:
        """Answer with one of the page's files; they hold no data."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise Problem(404, "there is no such file")
        content, media_type = found
        tag = f'"{sha256(content).hexdigest()[:24]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)
