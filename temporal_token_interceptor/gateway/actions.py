"""What clients may do beside reading: start a workflow and cancel one, by functions of the host.

Leaving a stream never cancels anything: a page that is reloaded leaves, too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Allow, Target
from temporal_token_interceptor.gateway.bodies import JsonAnswer, json_body
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of

logger = logging.getLogger(__name__)

Start = Callable[[Request, Mapping[str, Any]], Awaitable[str]]
"""Starts a workflow for a client, given the JSON object that it sent, and returns the workflow's id.

It may raise `Problem` to refuse what was sent. `authorize` was asked before, for the action `start`.
"""

Cancel = Callable[[Request, Target], Awaitable[None]]
"""Asks that a workflow ends, mostly by `handle.cancel()`; `authorize` was asked before, for `cancel`."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Actions:
    """The host's functions, and the questions before them; for the routes of every format.

    Attributes:
        allowed: Asks what a client may; raises `Problem` if it may not.
        start_hook: Starts a workflow; None: clients cannot.
        cancel_hook: Cancels a workflow; None: clients cannot.
    """

    allowed: Callable[[Request, Target], Awaitable[Allow]]
    start_hook: Start | None = None
    cancel_hook: Cancel | None = None

    async def start(self, request: Request, arguments: Mapping[str, Any]) -> str:
        """Start a workflow and return its id.

        Raises:
            Problem: the client may not, there is no such function, it failed, or it returned no id.
        """
        if self.start_hook is None:
            raise Problem(404, "this server starts no workflows")
        await self._check(request, Target("", None, "start"))
        started = await _called("start", self.start_hook(request, arguments))
        return target_of(started).workflow_id  # which may be what the client sent, and becomes a header

    async def cancel(self, request: Request, target: Target) -> None:
        """Ask that a workflow ends.

        Raises:
            Problem: as of `start`.
        """
        if self.cancel_hook is None:
            raise Problem(404, "this server cancels no workflows")
        target = Target(target.workflow_id, target.run_id, "cancel")
        await self._check(request, target)
        await _called("cancel", self.cancel_hook(request, target))

    async def _check(self, request: Request, target: Target) -> None:
        if "token" in request.query_params:
            raise Problem(403, "a stream token is for reading alone")
        await self.allowed(request, target)


def action_routes(actions: Actions, most: int) -> Sequence[BaseRoute]:
    """Return the routes of what the host has functions for.

    Args:
        actions: The functions.
        most: Bytes of a body.
    """

    async def start(request: Request) -> Response:
        workflow_id = await actions.start(request, await json_body(request, most))
        location = f"{request.scope.get('root_path', '')}/v1/workflows/{quote(workflow_id)}/events"
        return JsonAnswer({"workflow": workflow_id}, 201, headers=HEADERS | {"Location": location})

    async def cancel(request: Request) -> Response:
        workflow_id = request.path_params.get("workflow_id") or request.query_params.get("workflow")
        await actions.cancel(request, target_of(workflow_id, request.query_params.get("run")))
        return Response(status_code=202, headers=HEADERS)

    routes: list[BaseRoute] = []
    if actions.start_hook is not None:
        routes.append(Route("/v1/workflows", start, methods=["POST"]))
    if actions.cancel_hook is not None:
        routes.append(Route("/v1/workflows/{workflow_id:path}/cancel", cancel, methods=["POST"]))
        routes.append(Route("/v1/cancel", cancel, methods=["POST"]))
    return routes


async def _called(name: str, calling: Awaitable[_T]) -> _T:
    """Return what a function of the host returns; what it raises is logged, and not sent."""
    try:
        return await calling
    except Problem:
        raise
    except Exception as error:
        logger.exception("the gateway's %s function failed", name)
        raise Problem(500, f"{name} failed: the server's log has the reason") from error
