"""The routes of AG-UI: for `HttpAgent`, for TanStack AI, and for CopilotKit without its own runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.bodies import json_body
from temporal_token_interceptor.gateway.encoder import Encoder
from temporal_token_interceptor.gateway.formats.ag_ui_events import AgUiEncoder
from temporal_token_interceptor.gateway.formats.routing import (
    History,
    checked_prefix,
    stood_before,
    workflow_of,
)
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Format, StreamRequest, Streams
from temporal_token_interceptor.views.changes import Change

_RUNTIME = "1.75.0"  # of CopilotKit, whose interface this is


def ag_ui(prefix: str = "/agui", *, agent: str = "workflow", history: History | None = None) -> Format:
    """Return the format of AG-UI: `new HttpAgent({ url: prefix })`, or CopilotKit's `runtimeUrl`.

    A `POST` of a run starts a workflow by the gateway's `start`, which is given `threadId` and `messages`;
    without `start`, the thread's id is that of a workflow which runs. CopilotKit's `connect` and `stop` take
    the thread's id for the workflow's, so `start` should give a workflow the id of its thread. A client that
    comes again with `Last-Event-ID` (TanStack AI) is shown what stands, and no new workflow is started.

    Args:
        prefix: What the paths begin with.
        agent: The name of the agent, for CopilotKit.
        history: Returns the messages before the workflow's, for a client that has none: `connect`.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    checked_prefix(prefix)

    def made(streams: Streams) -> Sequence[BaseRoute]:
        routes = _Routes(streams, agent, history)
        of_agent = f"{prefix}/agent/{quote(agent)}"
        return [
            Route(prefix, routes.run, methods=["POST"]),
            Route(prefix + "/info", routes.info, methods=["GET"]),
            Route(of_agent + "/run", routes.run, methods=["POST"]),
            Route(of_agent + "/connect", routes.connect, methods=["POST"]),
            Route(of_agent + "/stop/{thread:path}", routes.stop, methods=["POST"]),
        ]

    return made


class _Routes:
    def __init__(self, streams: Streams, agent: str, history: History | None) -> None:
        self._streams = streams
        self._agent = agent
        self._history = history

    async def run(self, request: Request) -> Response:
        """Start a workflow, or find one, and stream it."""
        body = await json_body(request, self._streams.limits.body_bytes)
        place = request.headers.get("last-event-id")
        if place:
            target = target_of(unquote(place.partition("/")[0]))
        else:
            target = await workflow_of(self._streams, request, body, "threadId")
        # What the client had on the connection before may have been taken back.
        encoder = _encoder(body, target, _messages(body), is_unsure=bool(place))
        return await self._streams.serve(_asked(request, target, encoder))

    async def connect(self, request: Request) -> Response:
        """Show a thread, to a page that was reloaded; nothing if its workflow is not there."""
        body = await json_body(request, self._streams.limits.body_bytes)
        target = target_of(body.get("threadId"))
        before = await stood_before(self._streams, request, target, self._history)
        messages = _messages(body) or before
        encoder = _encoder(body, target, messages, is_unsure=True)
        try:
            return await self._streams.serve(_asked(request, target, encoder, waits=False))
        except Problem as problem:
            if problem.status != 404:
                raise
        nothing = encoder.begin() + encoder.encode([Change("end", data="completed")])
        return Response(nothing, media_type=encoder.media_type, headers=HEADERS)

    async def stop(self, request: Request) -> Response:
        """Cancel a workflow, by the gateway's `cancel`."""
        await self._streams.actions.cancel(request, target_of(request.path_params["thread"]))
        return JSONResponse({"stopped": True}, headers=HEADERS)

    async def info(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls it
        """Return what CopilotKit wants to know of its runtime."""
        agent = {"name": self._agent, "className": "Workflow", "description": "a Temporal workflow"}
        known = {"version": _RUNTIME, "agents": {self._agent: agent}, "mode": "sse"}
        return JSONResponse(known | {"audioFileTranscriptionEnabled": False}, headers=HEADERS)


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the client's messages.

    Raises:
        Problem: 400, they are none.
    """
    messages = body.get("messages", [])
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise Problem(400, "messages is a list of objects, each with its id")
    return messages


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("id"), str)


def _encoder(
    body: Mapping[str, Any], target: Target, messages: Sequence[dict[str, Any]], *, is_unsure: bool = False
) -> AgUiEncoder:
    thread, run = body.get("threadId", target.workflow_id), body.get("runId", target.workflow_id)
    connection = f"{quote(target.workflow_id, safe='')}/{token_hex(4)}-"
    return AgUiEncoder(str(thread), str(run), messages, connection=connection, is_unsure=is_unsure)


def _asked(request: Request, target: Target, encoder: Encoder, *, waits: bool = True) -> StreamRequest:
    return StreamRequest(request=request, target=target, encoder=encoder, waits=waits)
