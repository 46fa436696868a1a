"""The OpenAPI document of the native routes; written by hand, and compared with the routes by a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.encoder import NativeEvents, NativeLines
from temporal_token_interceptor.views.visible import SHOWN_KINDS


def document_routes() -> Sequence[BaseRoute]:
    """Return the route of the document."""
    text = json.dumps(openapi(), indent=1)

    async def document(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls it
        return Response(text, media_type="application/json", headers={"Cache-Control": "no-cache"})

    return [Route("/openapi.json", document, methods=["GET"])]


def openapi() -> dict[str, Any]:
    """Return the document: OpenAPI 3.1. Its paths are relative to where the gateway is mounted."""
    one = [_parameter("workflow_id", "path", "The workflow. It may have slashes.", required=True)]
    named = [_parameter("workflow", "query", "The workflow.", required=True)]
    many = {**_parameter("workflow", "query", "The workflows.", required=True), "schema": _NAMES}
    cancel = {"202": _answer("Asked."), **_problems(400, 401, 403, 404)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Streams of Temporal workflows",
            "version": "1",
            "description": "What the models of workflows write, live, with retries taken back.",
        },
        "paths": {
            "/v1/workflows": {
                "get": {
                    "summary": "List the newest runs",
                    "parameters": [
                        _parameter(
                            "query", "query", "A list filter of Temporal, where the server takes one."
                        ),
                        _parameter("limit", "query", "At most so many.", schema=_INTEGER),
                    ],
                    "responses": {
                        "200": _json(_object({"runs": {"type": "array", "items": _RUN_ROW}})),
                        **_problems(400, 401, 403, 500, 503),
                    },
                },
                "post": {
                    "summary": "Start a workflow",
                    "requestBody": _body(
                        {"type": "object", "description": "What the server's function takes."}
                    ),
                    "responses": {
                        "201": _json(_object({"workflow": _STRING})),
                        **_problems(400, 401, 403, 408, 413, 415),
                    },
                },
            },
            "/v1/workflows/{workflow_id}/events": {
                "get": {
                    "summary": "Stream a workflow",
                    "parameters": [*one, _RUN, *_RESUME, *_HOW],
                    "responses": _STREAM,
                }
            },
            "/v1/workflows/{workflow_id}/snapshot": {
                "get": {
                    "summary": "What stands at present",
                    "parameters": [*one, _RUN, *_FILTERS],
                    "responses": _STATE,
                }
            },
            "/v1/workflows/{workflow_id}/cancel": {
                "post": {"summary": "Cancel a workflow", "parameters": [*one, _RUN], "responses": cancel}
            },
            "/v1/cancel": {
                "post": {"summary": "Cancel a workflow", "parameters": [*named, _RUN], "responses": cancel}
            },
            "/v1/snapshot": {
                "get": {
                    "summary": "What stands at present",
                    "parameters": [*named, _RUN, *_FILTERS],
                    "responses": _STATE,
                }
            },
            "/v1/events": {
                "get": {
                    "summary": "Stream several workflows on one connection",
                    "parameters": [many, *_RESUME, *_HOW],
                    "responses": _STREAM,
                },
                "post": {
                    "summary": "The same, with a cursor for each workflow",
                    "parameters": _HOW,
                    "requestBody": _body(
                        _object({"workflows": {"type": "object", "additionalProperties": _PLACE}})
                    ),
                    "responses": {**_STREAM, **_problems(408, 413, 415)},
                },
            },
            "/v1/tokens": {
                "post": {
                    "summary": "Make a stream token",
                    "requestBody": _body(_object({"workflows": _NAMES})),
                    "responses": {
                        "201": _json(
                            _object({"token": _STRING, "expires_in": _INTEGER, "resume_within": _INTEGER})
                        ),
                        **_problems(400, 401, 403, 408, 413, 415),
                    },
                }
            },
            "/healthz": {"get": {"summary": "Whether it runs", "responses": {"204": _answer("It does.")}}},
            "/readyz": {
                "get": {
                    "summary": "Whether it takes clients",
                    "responses": {"204": _answer("It does."), **_problems(503)},
                }
            },
            "/openapi.json": {"get": {"summary": "This document", "responses": {"200": _answer("It.")}}},
        },
        "components": {"schemas": {"Problem": _PROBLEM, "Item": _ITEM, "State": _STATE_SCHEMA}},
    }


def _parameter(
    name: str,
    where: str,
    description: str,
    *,
    required: bool = False,
    schema: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "description": description,
        "required": required,
        "schema": schema or _STRING,
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _answer(description: str) -> dict[str, Any]:
    return {"description": description}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {
            "description": _MEANINGS[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }


_MEANINGS = {
    400: "A parameter, cursor or body cannot be used; the detail names it.",
    401: "Log in first; or the stream token is forged or has expired.",
    403: "Not allowed; also to pages of an origin that is not named.",
    404: "No such workflow; also where it is hidden from the client.",
    406: "Streams are text/event-stream or application/x-ndjson.",
    408: "The body is too slow to come.",
    413: "The body is too long.",
    415: "The body has to be application/json.",
    429: "Too many streams are open. An EventSource gets 200 and an event `reconnect`.",
    500: "The stream cannot be read; the server's log has the reason.",
    503: "The server is stopping, or cannot read at present. An EventSource gets 200 and `reconnect`.",
}
_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_NAMES = {"type": "array", "items": _STRING, "minItems": 1}
_PLACE = {"type": ["object", "string", "null"], "properties": {"cursor": _STRING}}
_PROBLEM = _object(
    {"type": _STRING, "title": _STRING, "status": _INTEGER, "detail": _STRING, "instance": _STRING}
)
_ITEM = _object(
    {
        "id": _STRING,
        "kind": _STRING,
        "parent": _STRING,
        "stable": _STRING,
        "data": {"type": "object"},
        "text": _STRING,
        "open": {"type": "boolean"},
        "facts": {"type": "object"},
    }
)
_RUN_ROW = _object(
    {
        "workflow": _STRING,
        "type": _STRING,
        "status": _STRING,
        "started": _STRING,
        "closed": {"type": ["string", "null"]},
    }
)
_STATE_SCHEMA = _object(
    {
        "run": _STRING,
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
        "notes": {"type": "array", "items": {"type": "object"}},
        "status": {"type": ["string", "null"]},
        "cursor": _STRING,
    }
)
_RUN = _parameter("run", "query", "The run to begin with; by default the newest.")
_FILTERS = [
    _parameter("nodes", "query", "Only these nodes; comes several times.", schema=_NAMES),
    _parameter(
        "kinds",
        "query",
        "Only these kinds; comes several times.",
        schema={"type": "array", "items": {"enum": sorted(SHOWN_KINDS)}},
    ),
    _parameter("token", "query", "A stream token."),
]
_RESUME = [
    _parameter("Last-Event-ID", "header", "What a browser sends by itself: the last `id`."),
    _parameter("cursor", "query", "The same, where a header cannot be set."),
]
_HOW = [
    _parameter("from", "query", "Where to begin.", schema={"enum": ["snapshot", "start", "now"]}),
    _parameter("view", "query", "What to send.", schema={"enum": ["changes", "events"]}),
    _parameter(
        "on_retry",
        "query",
        "What to show of attempts that failed; `annotate` with view=events alone.",
        schema={"enum": ["reset", "hold", "annotate"]},
    ),
    _parameter("wait", "query", "0: 404 for a workflow that was not started.", schema={"enum": ["0", "1"]}),
    *_FILTERS,
]
_STREAM = {
    "200": {
        "description": "Events until the workflow has ended.",
        "content": {
            NativeEvents.media_type: {"schema": _STRING},
            NativeLines.media_type: {"schema": _STRING},
        },
    },
    "204": _answer("The cursor is that of the end: there is nothing more."),
    **_problems(400, 401, 403, 404, 406, 429, 503),
}
_STATE = {
    "200": _json({"$ref": "#/components/schemas/State"}),
    "304": _answer("As the client has it (If-None-Match)."),
    **_problems(400, 401, 403, 404, 429, 500, 503),
}
