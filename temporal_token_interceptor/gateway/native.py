"""The routes of the native format: changes as server-sent events, which EventSource and `tti.js` read."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.encoder import NativeEvents
from temporal_token_interceptor.gateway.streaming import StreamRequest, Streams


def native(streams: Streams) -> Sequence[BaseRoute]:
    """Return the routes of the native format."""

    async def events(request: Request) -> Response:
        target = Target(request.path_params["workflow_id"], request.query_params.get("run"), "read")
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor")
        return await streams.serve(
            StreamRequest(
                request=request, target=target, encoder=NativeEvents(), cursor=cursor, comes_again=True
            )
        )

    return [Route("/v1/workflows/{workflow_id:path}/events", events)]
