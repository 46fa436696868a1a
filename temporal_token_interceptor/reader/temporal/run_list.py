"""The newest runs that Temporal knows, for a page that lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from temporalio.client import Client
from temporalio.service import RPCError

from temporal_token_interceptor.errors import ConfigurationError, TransportUnavailable


class Run(NamedTuple):
    """One run.

    Attributes:
        workflow_id: The workflow.
        workflow_type: Its type.
        status: `running`, or how it closed.
        started: When it began.
        closed: When it closed; None while it runs.
    """

    workflow_id: str
    workflow_type: str
    status: str
    started: datetime
    closed: datetime | None


class Request(Protocol):
    """What is looked at of a client's request."""

    @property
    def query_params(self) -> Mapping[str, str]:
        """The parameters of its address."""
        ...


class RunList:
    """Lists the newest runs; one request to Temporal each time.

    Args:
        client: A connected Temporal client.
        query: Temporal's list filter, such as `WorkflowType = 'Chat'`; empty for all.
        narrowed: Whether a client's `?query=`, in the same language, narrows that; it never widens it.
    """

    def __init__(self, client: Client, query: str = "", *, narrowed: bool = False) -> None:
        self._client = client
        self._query = query
        self._narrowed = narrowed

    async def __call__(self, request: Request, limit: int) -> list[Run]:
        """Return at most so many runs, the newest first.

        Raises:
            ConfigurationError: Temporal refused the query, or the client may not send one.
            TransportUnavailable: Temporal does not answer.
        """
        asked = request.query_params.get("query", "")
        if asked and not self._narrowed:
            raise ConfigurationError("this server takes no `query`: leave it out")
        if asked and not _is_enclosed(asked):
            raise ConfigurationError(
                "`query` is a list filter of Temporal, such as WorkflowType = 'Chat', with quotes and "
                "parentheses in pairs, and without backslashes, backticks and comments"
            )
        query = " AND ".join(f"({one})" for one in (self._query, asked) if one)
        try:
            found = [one async for one in self._client.list_workflows(query or None, limit=limit)]
        except RPCError as error:
            if error.status.name == "INVALID_ARGUMENT" and asked:
                raise ConfigurationError("Temporal refused `query`: see its list filters") from error
            if error.status.name == "INVALID_ARGUMENT":
                raise ConfigurationError(
                    f"Temporal refused the query {self._query!r}: {error.message}"
                ) from error
            raise TransportUnavailable(f"Temporal cannot list runs: {error.message}") from error
        return [
            Run(
                one.id,
                one.workflow_type,
                one.status.name.lower() if one.status is not None else "running",
                one.start_time,
                one.close_time,
            )
            for one in found
        ]


def _is_enclosed(query: str) -> bool:
    """Whether parentheses around a query enclose all of it: nothing in it ends them."""
    if len(query) > 1_000 or not query.isprintable() or re.search(r"[\\`]|--|/\*|#", query):
        return False
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", query)
    depth = 0
    for one in bare:
        depth += (one == "(") - (one == ")")
        if depth < 0 or one in "'\"":
            return False
    return depth == 0
