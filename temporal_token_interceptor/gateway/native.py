"""The routes of the native format: changes as server-sent events or as lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.bodies import JsonAnswer, json_body
from temporal_token_interceptor.gateway.cursors import cursor_of
from temporal_token_interceptor.gateway.encoder import NativeLines, json_text, split_cursors
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import native_encoder, stream_request, target_of
from temporal_token_interceptor.gateway.streaming import Streams


def native(streams: Streams) -> Sequence[BaseRoute]:
    """Return the routes of the native format."""
    routes = _Native(streams)
    return [
        Route("/v1/workflows/{workflow_id:path}/events", routes.events, methods=["GET"]),
        Route("/v1/workflows/{workflow_id:path}/snapshot", routes.snapshot, methods=["GET"]),
        Route("/v1/events", routes.many, methods=["GET", "POST"]),
        Route("/v1/snapshot", routes.snapshot, methods=["GET"]),
        *([Route("/v1/tokens", routes.tokens, methods=["POST"])] if streams.tokens is not None else []),
    ]


class _Native:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def events(self, request: Request) -> Response:
        """Stream one workflow."""
        return await self._streams.serve(stream_request(request, _target(request), cursor_of(request)))

    async def many(self, request: Request) -> Response:
        """Stream several workflows on one connection."""
        if request.method == "POST":
            cursors = _cursors(await json_body(request, self._streams.limits.body_bytes))
        else:
            names = list(dict.fromkeys(request.query_params.getlist("workflow")))
            places = split_cursors(cursor_of(request) or "", len(names))
            cursors = dict(zip(names, places, strict=True))
        most = self._streams.limits.workflows_per_connection
        if not 0 < len(cursors) <= most:
            raise Problem(400, f"name 1 to {most} workflows, as ?workflow=a&workflow=b")
        if request.query_params.get("run"):
            raise Problem(400, "`run` is for one workflow: /v1/workflows/{id}/events")
        every = [
            stream_request(request, target_of(workflow_id), cursor, workflow_id)
            for workflow_id, cursor in cursors.items()
        ]
        frame = native_encoder(request)()
        place = None if isinstance(frame, NativeLines) else frame.place
        return await self._streams.serve_many(every, frame, place)

    async def snapshot(self, request: Request) -> Response:
        """Answer with the state of a run."""
        view, cursor = await self._streams.snapshot(stream_request(request, _target(request), None))
        body = json_text(view.to_json() | {"cursor": cursor})
        tag = f'"{sha256(body.encode()).hexdigest()[:24]}"'  # not the cursor: two clients may see two states
        headers = HEADERS | {"Cache-Control": "private, no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def tokens(self, request: Request) -> Response:
        """Make a stream token for workflows that the client may read."""
        body = await json_body(request, self._streams.limits.body_bytes)
        names, most = body.get("workflows"), self._streams.limits.workflows_per_connection
        if self._streams.tokens is None or not isinstance(names, list) or not 0 < len(names) <= most:
            raise Problem(400, f'a token is for 1 to {most} workflows: {{"workflows": ["order-7"]}}')
        if "token" in request.query_params:
            raise Problem(403, "a stream token is for reading, and not for making others")
        allowed = {}
        for name in names:
            target = target_of(name)
            allowed[target.workflow_id] = await self._streams.allowed(request, target)
        return JsonAnswer(self._streams.tokens.make(allowed), 201, headers=HEADERS)


def _target(request: Request) -> Target:
    """Return the workflow of the path; one whose id a path cannot hold is named by the query."""
    workflow_id = request.path_params.get("workflow_id") or request.query_params.get("workflow")
    return target_of(workflow_id, request.query_params.get("run"))


def _cursors(body: Mapping[str, Any]) -> dict[str, str | None]:
    workflows = body.get("workflows")
    if not isinstance(workflows, Mapping):
        raise Problem(400, 'the body is {"workflows": {"order-7": {"cursor": "..."}, "order-8": {}}}')
    cursors: dict[str, str | None] = {}
    for workflow_id, wanted in workflows.items():
        cursor = wanted.get("cursor") if isinstance(wanted, Mapping) else wanted
        if not isinstance(cursor, str | None):
            raise Problem(400, "the cursor of a workflow is the text that came with its events, or left out")
        cursors[workflow_id] = cursor
    return cursors
