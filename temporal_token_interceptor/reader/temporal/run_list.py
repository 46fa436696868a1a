"""The newest runs that Temporal knows, for a page that lists them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

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


class RunList:
    """Lists the newest runs; one request to Temporal each time.

    Args:
        client: A connected Temporal client.
        query: Temporal's list filter, such as `WorkflowType = 'Chat'`; empty for all.
    """

    def __init__(self, client: Client, query: str = "") -> None:
        self._client = client
        self._query = query

    async def __call__(self, request: object, limit: int) -> list[Run]:  # noqa: ARG002 - as every `ListRuns`
        """Return at most so many runs, the newest first; `request` is not looked at.

        Raises:
            ConfigurationError: Temporal refused the query.
            TransportUnavailable: Temporal does not answer.
        """
        try:
            found = [one async for one in self._client.list_workflows(self._query or None, limit=limit)]
        except RPCError as error:
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
