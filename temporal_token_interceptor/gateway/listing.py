"""Which runs there are: `GET /v1/workflows`, for pages that show more than what they were given the id of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Allow, Target
from temporal_token_interceptor.gateway.bodies import JsonAnswer
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.reader.temporal.run_list import Run

logger = logging.getLogger(__name__)

LISTED = 200
"""Runs that a client is given, at most."""

ListRuns = Callable[[Request, int], Awaitable[Sequence[Run]]]
"""Returns the newest runs that a client may know of, at most so many; `RunList` is one."""


def list_routes(
    allowed: Callable[[Request, Target], Awaitable[Allow]], list_runs: ListRuns
) -> Sequence[BaseRoute]:
    """Return the route of the list.

    Args:
        allowed: Asks what a client may, and raises `Problem` if it may not: for the action `list`, and `read`
            for each run. Runs that it may not read are left out.
        list_runs: The host's function.
    """

    async def listed(request: Request) -> Response:
        limit = _limit(request)
        await allowed(request, Target("", None, "list"))
        try:
            found = await list_runs(request, limit)
        except ConfigurationError as error:
            if "query" in request.query_params:
                raise Problem(400, str(error)) from error
            logger.exception("the gateway's list_runs function cannot be used")
            raise Problem(500, "list_runs failed: the server's log has the reason") from error
        except Exception as error:
            logger.exception("the gateway's list_runs function failed")
            raise Problem(503, "the runs cannot be listed at present") from error
        may = await asyncio.gather(*(_may_read(allowed, request, run) for run in found))
        rows = [_row(run) for run, is_shown in zip(found, may, strict=True) if is_shown]
        return JsonAnswer({"runs": rows}, headers=HEADERS)

    return [Route("/v1/workflows", listed, methods=["GET"])]


async def _may_read(
    allowed: Callable[[Request, Target], Awaitable[Allow]], request: Request, run: Run
) -> bool:
    try:
        await allowed(request, Target(run.workflow_id, None, "read"))
    except Problem:
        return False
    return True


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(LISTED))
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 0 < int(text) <= LISTED):
        raise Problem(400, f"limit is a number from 1 to {LISTED}")
    return int(text)


def _row(run: Run) -> dict[str, str | None]:
    return {
        "workflow": run.workflow_id,
        "type": run.workflow_type,
        "status": run.status,
        "started": run.started.isoformat(),
        "closed": run.closed.isoformat() if run.closed else None,
    }
