"""What a client asks for by the query and the headers of a request of the native routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.encoder import NativeEvents, NativeLines
from temporal_token_interceptor.gateway.problem import Problem
from temporal_token_interceptor.gateway.stream_request import Begin, StreamRequest
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.views.visible import Visible

MOST_BYTES = 1_000
"""Of a workflow's id in UTF-8: Temporal's own bound. It would be asked again and again for a longer one."""

_One = TypeVar("_One")

_BEGIN: Mapping[str, Begin] = {"snapshot": "state", "start": "start", "now": "now"}
_ON_RETRY: Mapping[str, OnRetry] = {"reset": "reset", "hold": "hold", "annotate": "annotate"}
_VIEW = {"changes": False, "events": True}
_WAIT = {"0": False, "1": True}


def target_of(workflow_id: object, run_id: str | None = None) -> Target:
    """Return what a client wants to read.

    Raises:
        Problem: 400, it cannot be the id of a workflow.
    """
    if not isinstance(workflow_id, str) or not 0 < _bytes_of(workflow_id) <= MOST_BYTES:
        raise Problem(400, f"a workflow id is text of 1 to {MOST_BYTES} bytes")
    if not workflow_id.isprintable():
        raise Problem(400, "a workflow id has no control characters")
    if run_id is not None and (len(run_id) > 64 or not run_id.isprintable()):
        raise Problem(400, "`run` is the id of a run, or left out for the newest")
    return Target(workflow_id, run_id or None, "read")


def stream_options(request: Request) -> dict[str, Any]:
    """Return what the query says of how to stream: arguments of `StreamRequest`.

    Raises:
        Problem: 400; the detail names the parameter and what it can be.
    """
    is_raw = _chosen(request, "view", _VIEW, "changes")
    on_retry = _chosen(request, "on_retry", _ON_RETRY, "reset")
    if on_retry == "annotate" and not is_raw:
        raise Problem(400, "on_retry=annotate shows attempts side by side: it needs view=events")
    nodes, kinds = _names(request, "nodes"), _names(request, "kinds")
    try:
        Visible(nodes, kinds)
    except ConfigurationError as error:
        raise Problem(400, str(error)) from error
    return {
        "begin": _chosen(request, "from", _BEGIN, "snapshot"),
        "on_retry": on_retry,
        "is_raw": is_raw,
        "nodes": nodes,
        "kinds": kinds,
        "waits": _chosen(request, "wait", _WAIT, "1"),
        "comes_again": request.method == "GET" and request.headers.get("accept") == "text/event-stream",
    }


def native_encoder(request: Request) -> type[NativeEvents]:
    """Return the form that a client accepts: server-sent events, unless it asks for JSON on lines.

    Raises:
        Problem: 406, neither.
    """
    accepted = [
        part.partition(";")[0].strip() for part in request.headers.get("accept", "*/*").lower().split(",")
    ]
    for one in accepted:
        if one in ("text/event-stream", "text/*", "*/*", ""):
            return NativeEvents
        if one in ("application/x-ndjson", "application/*"):
            return NativeLines
    raise Problem(406, "streams are text/event-stream or application/x-ndjson: name one in Accept")


def stream_request(request: Request, target: Target, cursor: str | None, workflow: str = "") -> StreamRequest:
    """Return the request for a native stream; with a workflow, its events are tagged by that."""
    encoder = native_encoder(request)(workflow)
    return StreamRequest(
        request=request, target=target, encoder=encoder, cursor=cursor, **stream_options(request)
    )


def _bytes_of(text: str) -> int:
    """Return the length in UTF-8, also of halves of characters, which no text in UTF-8 has."""
    return len(text.encode(errors="surrogatepass"))


def _chosen(request: Request, name: str, choices: Mapping[str, _One], default: str) -> _One:
    given = request.query_params.get(name, default)
    if given not in choices:
        raise Problem(400, f"{name} can be {', '.join(choices)}")
    return choices[given]


def _names(request: Request, name: str) -> frozenset[str] | None:
    """Return the values of a parameter that may come several times; None if it does not."""
    return frozenset(request.query_params.getlist(name)) if name in request.query_params else None
