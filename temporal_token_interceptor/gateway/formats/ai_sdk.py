"""The routes of the AI SDK: `useChat` with its own transport, and with `WorkflowChatTransport`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.bodies import json_body
from temporal_token_interceptor.gateway.formats.ai_sdk_chunks import AiSdkEncoder
from temporal_token_interceptor.gateway.formats.routing import checked_prefix, number, workflow_of
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Format, StreamRequest, Streams
from temporal_token_interceptor.reader.request import FirstRun


def ai_sdk(prefix: str = "/ai", *, version: Literal[6, 7] = 7) -> Format:
    """Return the format of the AI SDK: `useChat({ transport: new DefaultChatTransport({ api: prefix }) })`.

    A `POST` starts a workflow by the gateway's `start`, which is given the chat's `id` and `messages`; where
    there is none, the chat's id is that of a workflow. `GET {prefix}/{id}/stream` shows it from its start, or
    from a chunk on (`?startIndex=`), and answers 204 where none is found. A page that is reloaded finds its
    answer, if `start` gives a workflow the id of its chat.

    Each client has a subscription of its own, because it may count what it gets.

    Args:
        prefix: What the paths begin with: the client's `api`.
        version: The major version of the client's `ai`. What 6 was shown cannot be taken back, so it is shown
            nothing of an attempt before that has succeeded.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    checked_prefix(prefix)
    if version not in (6, 7):
        raise ConfigurationError(f"version is 6 or 7, not {version!r}")

    def made(streams: Streams) -> Sequence[BaseRoute]:
        routes = _Routes(streams, version)
        return [
            Route(prefix, routes.post, methods=["POST"]),
            Route(prefix + "/{workflow_id:path}/stream", routes.resume, methods=["GET"]),
        ]

    return made


class _Routes:
    def __init__(self, streams: Streams, version: Literal[6, 7]) -> None:
        self._streams = streams
        self._version: Literal[6, 7] = version

    async def post(self, request: Request) -> Response:
        """Start a workflow, or find one, and stream it."""
        # `WorkflowChatTransport` does not name the type of its body.
        body = await json_body(
            request, self._streams.limits.body_bytes, types=("application/json", "text/plain")
        )
        target = await workflow_of(self._streams, request, body, "id")
        return await self._serve(request, target, AiSdkEncoder(version=self._version, goes_on=_answer(body)))

    async def resume(self, request: Request) -> Response:
        """Stream a workflow from its beginning, or from a chunk on; 204 if there is none."""
        target = target_of(request.path_params["workflow_id"], request.query_params.get("run"))
        counted = number(request.query_params.get("startIndex"), "startIndex")
        try:
            encoder = AiSdkEncoder(version=self._version, skip=max(0, counted))
            runs: FirstRun = "newest" if counted < 0 else "all"
            return await self._serve(request, target, encoder, runs=runs, waits=False)
        except Problem as problem:
            if problem.status == 404:
                return Response(status_code=204, headers=HEADERS)
            raise

    async def _serve(
        self,
        request: Request,
        target: Target,
        encoder: AiSdkEncoder,
        *,
        runs: FirstRun = "newest",
        waits: bool = True,
    ) -> Response:
        response = await self._streams.serve(
            StreamRequest(
                request=request,
                target=target,
                encoder=encoder,
                on_retry="reset" if self._version >= 7 else "hold",
                begin="start",
                runs=runs,
                waits=waits,
            )
        )
        response.headers["x-vercel-ai-ui-message-stream"] = "v1"
        if target.workflow_id.isascii():  # as headers are; the client puts it into the path of `resume`
            response.headers["x-workflow-run-id"] = target.workflow_id
        return response


def _answer(body: Mapping[str, Any]) -> str:
    """Return the id of the client's last message, if that is an answer; empty otherwise."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    found = last.get("id")
    return found if isinstance(found, str) else ""
