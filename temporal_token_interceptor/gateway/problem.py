"""Errors as HTTP clients get them: before a stream has begun, problem documents (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from temporal_token_interceptor.errors import (
    CodecMismatch,
    ConfigurationError,
    StreamNotFound,
    TransportUnavailable,
)
from temporal_token_interceptor.gateway.access import Allow, Authorize, Deny, Target
from temporal_token_interceptor.gateway.encoder import json_text

logger = logging.getLogger(__name__)

HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept"}
"""Of all answers that are made for one client: no cache and no proxy keeps them or holds them back."""


class Problem(Exception):
    """A request is answered with an error. Raised by routes; the app turns it into a response.

    Attributes:
        status: The HTTP status.
        detail: What is wrong and what to do, for the person who wrote the client; no content of a stream.
        headers: What the answer has beside those of every answer.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


async def answer(request: Request, error: Exception) -> Response:
    """Return the response of a `Problem`, as an exception handler of Starlette.

    And of what Starlette itself refuses: unknown paths, and methods that a path does not have.
    """
    if isinstance(error, HTTPException):
        error = Problem(error.status_code, str(error.detail), dict(error.headers or {}))
    if not isinstance(error, Problem):
        raise error
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": request.url.path[:200],  # without the query, which may hold a token
    }
    headers = HEADERS | error.headers
    return Response(json_text(body), error.status, media_type="application/problem+json", headers=headers)


async def asked_for(authorize: Authorize, request: Request, target: Target) -> Allow:
    """Return what the host's function allows. Whatever is not `Allow` allows nothing.

    Raises:
        Problem: it denies, or it failed: then the log has the reason.
    """
    try:
        answer = await authorize(request, target)
    except Problem:
        raise
    except Exception as error:
        logger.exception("the gateway's authorize function failed")
        raise Problem(500, "authorize failed: the server's log has the reason") from error
    if isinstance(answer, Allow):
        return answer
    if not isinstance(answer, Deny):
        logger.error("the gateway's authorize function returned %s: Allow(...) or Deny(...)", type(answer))
        raise Problem(500, "authorize failed: the server's log has the reason")
    if answer.hide:
        raise Problem(404, "there is no such workflow")
    raise Problem(answer.status, "log in first" if answer.status == 401 else "not allowed")


def problem_of(error: Exception) -> Problem:
    """Return how an error that ended a subscription is answered; 503 where the client may come again."""
    match error:
        case StreamNotFound():
            return Problem(404, "no such workflow was started in time: check the id")
        case TransportUnavailable():
            return Problem(503, "the stream cannot be read at present: come again", {"Retry-After": "5"})
        case CodecMismatch():
            return Problem(500, "the stream is sealed, and the server has no key that opens it")
        case ConfigurationError():
            return Problem(400, str(error))
        case _:
            return Problem(500, "the stream cannot be read: the server's log has the reason")
