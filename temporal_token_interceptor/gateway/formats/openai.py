"""The routes of OpenAI's protocols: Responses, which resume, and chat completions, which many pages read."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.bodies import JsonAnswer, json_body
from temporal_token_interceptor.gateway.encoder import Encoder
from temporal_token_interceptor.gateway.formats.openai_chunks import ChatCompletionsEncoder
from temporal_token_interceptor.gateway.formats.openai_events import (
    ResponsesEncoder,
    response,
    response_facts,
)
from temporal_token_interceptor.gateway.formats.openai_whole import WholeCompletion, WholeResponse
from temporal_token_interceptor.gateway.formats.routing import checked_prefix, number, workflow_of
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Format, StreamRequest, Streams
from temporal_token_interceptor.reader.request import FirstRun
from temporal_token_interceptor.views.changes import View

Endpoint = Callable[[Request], Awaitable[Response]]


def openai(prefix: str = "/openai/v1", *, model: str = "workflow") -> Format:
    """Return the format of OpenAI's SDKs: `OpenAI(base_url=".../openai/v1")`.

    `POST {prefix}/responses` and `{prefix}/chat/completions` start a workflow by the gateway's `start`, which
    is given the body. A response is retrieved, streamed again from any `starting_after` and cancelled by its
    id, which names the workflow: `response_id(workflow_id)` is the id of one that was started elsewhere.
    Chat completions cannot take back: of an attempt, they show nothing before it has succeeded.

    Args:
        prefix: What the paths begin with: the client's `base_url`.
        model: The name of the only model that `GET {prefix}/models` lists.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    checked_prefix(prefix)

    def made(streams: Streams) -> Sequence[BaseRoute]:
        routes = _Routes(streams, model)
        return [
            Route(prefix + "/responses", _answered(routes.respond), methods=["POST"]),
            Route(prefix + "/responses/{response_id}", _answered(routes.retrieve), methods=["GET"]),
            Route(prefix + "/responses/{response_id}/cancel", _answered(routes.cancel), methods=["POST"]),
            Route(prefix + "/chat/completions", _answered(routes.chat), methods=["POST"]),
            Route(prefix + "/models", routes.models, methods=["GET"]),
        ]

    return made


def response_id(workflow_id: str) -> str:
    """Return the id under which a workflow is a response."""
    return "resp_" + urlsafe_b64encode(workflow_id.encode()).decode("ascii").rstrip("=")


def _workflow_id(name: str) -> str:
    """Return the workflow of a response.

    Raises:
        Problem: 404, it is the id of none.
    """
    text = name.removeprefix("resp_")
    try:
        workflow_id = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError as error:
        raise Problem(404, "there is no such response") from error
    if response_id(workflow_id) != name:
        raise Problem(404, "there is no such response")
    return workflow_id


class _Routes:
    def __init__(self, streams: Streams, model: str) -> None:
        self._streams = streams
        self._model = model

    async def respond(self, request: Request) -> Response:
        """Start a workflow; stream it, return that it has begun, or wait for its end."""
        body = await json_body(request, self._streams.limits.body_bytes)
        target = await workflow_of(self._streams, request, body, "conversation")
        facts = self._facts(target, body.get("model"), int(time.time()))
        if body.get("stream"):
            return await self._serve(request, target, ResponsesEncoder(facts))
        if body.get("background"):
            await self._streams.allowed(request, target)
            return JsonAnswer(response(facts, View(), "queued"), headers=HEADERS)
        return await self._serve(request, target, WholeResponse(facts))

    async def retrieve(self, request: Request) -> Response:
        """Return a response as it stands, or stream it, after any event."""
        target = target_of(_workflow_id(request.path_params["response_id"]))
        facts = self._facts(target)
        if request.query_params.get("stream") == "true":
            after = number(request.query_params.get("starting_after"), "starting_after")
            encoder = ResponsesEncoder(facts, starting_after=after)
            runs: FirstRun = "newest" if after < 0 else "all"
            return await self._serve(request, target, encoder, runs=runs, waits=False)
        view, _ = await self._streams.snapshot(
            StreamRequest(request=request, target=target, encoder=ResponsesEncoder(facts))
        )
        return JsonAnswer(response(facts, view), headers=HEADERS)

    async def cancel(self, request: Request) -> Response:
        """Cancel a workflow, by the gateway's `cancel`; its response ends when the workflow does."""
        await self._streams.actions.cancel(
            request, target_of(_workflow_id(request.path_params["response_id"]))
        )
        return await self.retrieve(request)

    async def chat(self, request: Request) -> Response:
        """Start a workflow, and stream what stands, or wait for its end."""
        body = await json_body(request, self._streams.limits.body_bytes)
        target = await workflow_of(self._streams, request, body, "workflow")
        name = "chatcmpl-" + response_id(target.workflow_id).removeprefix("resp_")
        options = body.get("stream_options")
        encoder = ChatCompletionsEncoder(
            name,
            model=str(body.get("model") or self._model),
            created=int(time.time()),
            with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )
        made: Encoder = encoder if body.get("stream") else WholeCompletion(encoder)
        return await self._serve(request, target, made, holds=True)

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls it
        """Return the only model."""
        model = {"id": self._model, "object": "model", "created": 0, "owned_by": "temporal"}
        return JsonAnswer({"object": "list", "data": [model]}, headers=HEADERS)

    def _facts(self, target: Target, model: object = None, created_at: int = 0) -> dict[str, Any]:
        name = response_id(target.workflow_id)
        return response_facts(name, model=str(model or self._model), created_at=created_at)

    async def _serve(
        self,
        request: Request,
        target: Target,
        encoder: Encoder,
        *,
        holds: bool = False,
        runs: FirstRun = "newest",
        waits: bool = True,
    ) -> Response:
        return await self._streams.serve(
            StreamRequest(
                request=request,
                target=target,
                encoder=encoder,
                on_retry="hold" if holds else "reset",
                begin="start",
                runs=runs,
                waits=waits,
            )
        )


def _answered(endpoint: Endpoint) -> Endpoint:
    """Let an endpoint answer problems as OpenAI's SDKs read them."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            kind = "server_error" if problem.status >= 500 else "invalid_request_error"
            error = {"message": problem.detail, "type": kind, "param": None, "code": None}
            return JsonAnswer({"error": error}, problem.status, headers=HEADERS | problem.headers)

    return answered
