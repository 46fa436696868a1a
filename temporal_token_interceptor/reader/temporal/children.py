"""The child workflows that a run starts, as its history names them: at once, and without asking again.

One long poll waits for the next event of the run; while nothing happens, Temporal answers it every 20
seconds. The history is read once, from its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistoryEventAsyncIterator

from temporal_token_interceptor._tasks import unless
from temporal_token_interceptor.reader.temporal.history import CLOSED
from temporal_token_interceptor.reader.temporal.workflow_end import Completion


class ChildStarted(NamedTuple):
    """A run started a child workflow.

    Attributes:
        namespace: The child's.
        workflow_id: The child.
        run_id: Its first run; it may go on in others.
        event_id: The place in the history of the run that started it.
    """

    namespace: str
    workflow_id: str
    run_id: str
    event_id: int


class ChildEnded(NamedTuple):
    """A child workflow has closed, and all the runs that it went on in.

    Attributes:
        child: As it was started.
    """

    child: ChildStarted


class RunEnded(NamedTuple):
    """The run itself has closed; nothing follows."""


Start = ChildStarted | ChildEnded | RunEnded

_ENDED = frozenset(
    {
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
    }
)


async def children(
    client: Client, completion: Completion, workflow_id: str, run_id: str, stop: asyncio.Future[None]
) -> AsyncGenerator[Start]:
    """Iterate over the children that a run starts, until it has closed.

    Args:
        client: Asks.
        completion: Waits out what passes.
        workflow_id: The workflow.
        run_id: The run.
        stop: Once it is done, what the history has by then is read, and no more is waited for.

    Raises:
        StreamNotFound: no such run.
        TransportUnavailable: Temporal was away for too long.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    seen = 0
    started: dict[int, ChildStarted] = {}
    while True:
        wait = not stop.done()
        pages = handle.fetch_history_events(wait_new_event=wait, skip_archival=True)
        more = True
        while more:
            if await unless(stop if wait else None, _page(completion, pages)) is None:
                break  # what it was about to bring is read again
            for event in pages.current_page or ():
                if event.event_id <= seen:
                    continue
                seen = event.event_id
                if (found := _met(event, client.namespace, started)) is not None:
                    yield found
                    if isinstance(found, RunEnded):
                        return
            more = bool(pages.next_page_token)
        if not wait:
            return


def in_namespace(client: Client, namespace: str) -> Client:
    """Return a client of the same connection and data converter, for another namespace."""
    return Client(client.service_client, namespace=namespace, data_converter=client.data_converter)


async def _page(completion: Completion, pages: WorkflowHistoryEventAsyncIterator) -> bool:
    await completion.call(pages.fetch_next_page)
    return True


def _met(event: HistoryEvent, namespace: str, started: dict[int, ChildStarted]) -> Start | None:
    if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
        begun = event.child_workflow_execution_started_event_attributes
        child = ChildStarted(
            begun.namespace or namespace,
            begun.workflow_execution.workflow_id,
            begun.workflow_execution.run_id,
            event.event_id,
        )
        started[event.event_id] = child
        return child
    if event.event_type in _ENDED:
        attributes = getattr(event, event.WhichOneof("attributes") or "")
        # It names the run that the child ended in; its start names the first.
        child_or_none = started.get(attributes.started_event_id)
        return None if child_or_none is None else ChildEnded(child_or_none)
    return RunEnded() if event.event_type in CLOSED else None
