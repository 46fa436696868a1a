"""Workflows that a list filter of Temporal finds, again and again: visibility has nothing to wait for."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus

from temporal_token_interceptor.reader.feed import Feed, Found, RoundOver
from temporal_token_interceptor.reader.temporal.workflow_end import Completion


async def found(client: Client, completion: Completion, query: str, interval: timedelta) -> Feed:
    """Iterate over what the query finds, round after round; each ends with a `RoundOver`.

    Args:
        client: Whose namespace is searched.
        completion: Waits out what passes.
        query: A list filter.
        interval: From the end of one round to the next.

    Raises:
        ConfigurationError: Temporal refuses the query.
        TransportUnavailable: Temporal was away for too long.
    """
    while True:
        pages = client.list_workflows(query)
        more = True
        while more:
            await completion.call(pages.fetch_next_page)
            for one in pages.current_page or ():
                yield Found(one.id, one.run_id, one.status is WorkflowExecutionStatus.RUNNING)
            more = bool(pages.next_page_token)
        yield RoundOver()
        await asyncio.sleep(interval.total_seconds())
