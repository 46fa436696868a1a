"""Cursors that clients come with: where they are, and whether they are of the workflow at all."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from temporal_token_interceptor.errors import (
    ConfigurationError,
    InvalidCursor,
    StreamNotFound,
    TokenStreamError,
)
from temporal_token_interceptor.gateway.problem import Problem, problem_of
from temporal_token_interceptor.gateway.stream_request import StreamRequest
from temporal_token_interceptor.protocol.cursor import Cursor, Position
from temporal_token_interceptor.reader.subscriber import TokenSubscriber


def cursor_of(request: Request) -> str | None:
    """Return where a client resumes: a browser's header comes before the query, which does not change."""
    return request.headers.get("last-event-id") or request.query_params.get("cursor")


def is_at_the_end(cursor: str | None) -> bool:
    """Whether a client has all that a run will ever say.

    Raises:
        Problem: 400, its cursor is none.
    """
    try:
        return bool(cursor) and Cursor.parse(cursor or "").position == Position.END
    except InvalidCursor as error:
        raise Problem(400, str(error)) from error


async def placed(asked: StreamRequest, subscriber: TokenSubscriber) -> StreamRequest:
    """Return what was asked for; without its cursor if that is of the end of another run.

    A workflow that was started again under its id has more to say, whatever the cursor of its run before.

    Args:
        asked: What was asked for; its client may read the workflow.
        subscriber: Asks Temporal, which knows the runs.

    Raises:
        Problem: 503, Temporal is away.
    """
    if not is_at_the_end(asked.cursor):
        return asked
    ended, target = Cursor.parse(asked.cursor or "").run_id, asked.target
    try:
        run = await subscriber.describe(target.workflow_id, None if target.run_id is None else ended)
    except (StreamNotFound, ConfigurationError):
        is_its_own = target.run_id is None  # or of a run that Temporal has forgotten
    except TokenStreamError as error:
        raise problem_of(error) from error
    else:
        is_its_own = run.run_id == ended
    return asked if is_its_own else replace(asked, cursor=None)
