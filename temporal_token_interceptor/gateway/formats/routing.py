"""What the routes of foreign protocols share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.problem import Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Streams

History = Callable[[Request, str], Awaitable[Sequence[dict[str, Any]]]]
"""Returns the messages that stood before a workflow began, such as the user's, in the words of the protocol.

Given the request and the id of the workflow. `authorize` was asked before.
"""


def checked_prefix(prefix: str) -> str:
    """Return a path that routes can begin with.

    Raises:
        ConfigurationError: it does not begin with a slash, or ends with one.
    """
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ConfigurationError(f"prefix is a path such as '/chat', not {prefix!r}")
    return prefix


def number(text: str | None, name: str) -> int:
    """Return a number of a query; -1 if there is none.

    Raises:
        Problem: 400, it is no number from 0 on.
    """
    if text is None:
        return -1
    if not text.isascii() or not text.isdecimal() or len(text) > 16:
        raise Problem(400, f"{name} is a number from 0 on")
    return int(text)


async def stood_before(
    streams: Streams, request: Request, target: Target, history: History | None
) -> list[dict[str, Any]]:
    """Return what a host knows of the messages before a workflow; none for a client that sees no content.

    Raises:
        Problem: the client may not read the workflow.
    """
    allowed = await streams.allowed(request, target)
    if history is None or not allowed.content:
        return []
    return list(await history(request, target.workflow_id))


async def workflow_of(streams: Streams, request: Request, body: Mapping[str, Any], name: str) -> Target:
    """Return the workflow that a client's POST is about: a new one, where the host starts them.

    Args:
        streams: Of the gateway.
        request: Of the client. `?workflow=` names one that runs already.
        body: What it sent.
        name: Which member has the id of a workflow, where the host starts none.

    Raises:
        Problem: the client may not, or names none.
    """
    given = request.query_params.get("workflow")
    if given is None and streams.actions.start_hook is not None:
        given = await streams.actions.start(request, body)
    return target_of(given if given is not None else body.get(name), request.query_params.get("run"))
