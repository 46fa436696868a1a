"""Serves the live page: off unless it is switched on, and shown to whom `authorize` lets read.

The page is files and no data: all that it shows it gets from the routes that every client uses. A strict
Content-Security-Policy lets no script run but its own, so that what a model writes stays text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.streaming import Format, Streams
from temporal_token_interceptor.reader.temporal.run_list import Run

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page's own files and no others; no inline script, no markup out of text, no frame around it."""

LISTED = 200
"""Runs that the page is given, at most."""

_FILES = Path(__file__).parent / "files"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


ListRuns = Callable[[Request, int], Awaitable[Sequence[Run]]]
"""Returns the newest runs that a client may know of, at most so many; `RunList` is one."""


def live_page(list_runs: ListRuns | None = None, *, can_stop: bool = False) -> Format:
    """Return the routes of the page.

    Args:
        list_runs: What the page lists, asked every five seconds; None: only what its address names.
        can_stop: Whether the gateway cancels workflows: only then there is a button Stop.
    """

    def routes(streams: Streams) -> Sequence[BaseRoute]:
        page = _Page(streams, list_runs, can_stop=can_stop)
        return [
            Route("/live", page.show, methods=["GET"]),
            Route("/live.runs", page.runs, methods=["GET"]),
            Route("/live.files/{name}", page.file, methods=["GET"]),
            Route("/live/{workflow_id:path}", page.show, methods=["GET"]),
        ]

    return routes


class _Page:
    def __init__(self, streams: Streams, list_runs: ListRuns | None, *, can_stop: bool) -> None:
        self._streams = streams
        self._list_runs = list_runs
        facts = (' data-stop="yes"' if can_stop else "") + (' data-runs="yes"' if list_runs else "")
        self._html = (_FILES / "live.html").read_text(encoding="utf-8").replace("{{facts}}", facts)
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.suffix])
            for path in _FILES.iterdir()
            if path.suffix in _TYPES
        }

    async def show(self, request: Request) -> Response:
        """Answer with the page, for one run or for all."""
        workflow_id = request.path_params.get("workflow_id", "")
        action = Target(workflow_id, None, "read") if workflow_id else Target("", None, "list")
        await self._streams.allowed(request, action)
        root = escape(request.scope.get("root_path", ""))
        html = self._html.replace("{{root}}", root)
        return Response(html, media_type="text/html", headers=HEADERS | _SECURITY)

    async def runs(self, request: Request) -> Response:
        """Answer with the runs that the client may list, and may read."""
        if self._list_runs is None:
            raise Problem(404, "this server lists no runs")
        await self._streams.allowed(request, Target("", None, "list"))
        try:
            found = await self._list_runs(request, LISTED)
        except Exception as error:
            logger.exception("the gateway's list_runs function failed")
            raise Problem(503, "the runs cannot be listed at present") from error
        may = await asyncio.gather(*(self._may_read(request, run) for run in found))
        rows = [_row(run) for run, is_shown in zip(found, may, strict=True) if is_shown]
        return JSONResponse({"runs": rows}, headers=HEADERS)

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

    async def _may_read(self, request: Request, run: Run) -> bool:
        try:
            await self._streams.allowed(request, Target(run.workflow_id, None, "read"))
        except Problem:
            return False
        return True


def _row(run: Run) -> dict[str, str | None]:
    return {
        "workflow": run.workflow_id,
        "type": run.workflow_type,
        "status": run.status,
        "started": run.started.isoformat(),
        "closed": run.closed.isoformat() if run.closed else None,
    }
