"""How and when a workflow run closed, according to Temporal; which run to follow, and which comes next.

A run is watched by the long poll for its close event: one request in 20 seconds while nothing happens, a
few milliseconds from the close to the answer, and no payload is decoded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial

from temporalio.api.enums.v1 import ContinueAsNewInitiator, EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHistoryEventFilterType,
)
from temporalio.service import RPCError

from temporal_token_interceptor._tasks import SharedQuestions
from temporal_token_interceptor.errors import StreamNotFound
from temporal_token_interceptor.events import Status
from temporal_token_interceptor.reader.temporal.asking import (
    FIRST_PAUSE,
    Closed,
    RetryingClient,
    RunDescription,
)

# A client that subscribes first and starts the workflow then should not miss its first second. One question
# costs Temporal some milliseconds.
_LONGEST_PAUSE_FOR_START = 0.2


# How many events of a history are looked at for an activity that completed.
_LOOKED_AT = 1_000


class Completion(RetryingClient):
    """Asks Temporal about workflows."""

    def __init__(self, client: Client, *, patience: timedelta) -> None:
        super().__init__(client, patience=patience)
        self._starts: SharedQuestions[str] = SharedQuestions()
        self._ends: SharedQuestions[Closed] = SharedQuestions()

    async def newest_run(self, workflow_id: str, *, start_timeout: timedelta) -> str:
        """Return the run id of a workflow's newest run; wait for the workflow to be started.

        All who wait for the same workflow share the questions.

        Raises:
            StreamNotFound: not started before the deadline, or no such namespace (at once).
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        if start_timeout:
            with suppress(TimeoutError):
                async with asyncio.timeout(start_timeout.total_seconds()):
                    return await self._starts.ask((workflow_id,), partial(self._started, workflow_id))
        try:
            return await self._run_now(workflow_id)
        except StreamNotFound as error:
            if _is_namespace_missing(error.__cause__):
                raise
            waited = f" within {start_timeout.total_seconds():g} s" if start_timeout else ""
            raise StreamNotFound(
                f"no workflow {workflow_id!r} in namespace {self._client.namespace!r} was started"
                f"{waited}: check the id" + (", or raise start_timeout" if waited else "")
            ) from error.__cause__

    async def _started(self, workflow_id: str) -> str:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._run_now(workflow_id)
            except StreamNotFound as error:
                if _is_namespace_missing(error.__cause__):
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_FOR_START)

    async def _run_now(self, workflow_id: str) -> str:
        return _run_id(await self.call(self._client.get_workflow_handle(workflow_id).describe))

    async def first_run(self, workflow_id: str, run_id: str) -> str:
        """Return the oldest run of a run's chain that Temporal still knows: it forgets them one by one.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        first = _first_run_id(await self._described(workflow_id, run_id))
        if first == run_id:
            return run_id
        try:
            await self._described(workflow_id, first)
        except StreamNotFound:
            pass  # walked back to below
        else:
            return first
        while (before := await self._run_before(workflow_id, run_id)) is not None:
            run_id = before
        return run_id

    async def repeated_run(self, workflow_id: str, run_id: str) -> str | None:
        """Return the run that this one does again: as a retry, or because it was reset; None if none.

        Of a workflow that was reset more than once, it is the run before the first of these resets.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        begun = await self._begun(workflow_id, run_id)
        if begun.original_execution_run_id not in ("", run_id):
            return begun.original_execution_run_id
        is_retry = begun.initiator == ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY
        return begun.continued_execution_run_id or None if is_retry else None

    async def _begun(self, workflow_id: str, run_id: str) -> WorkflowExecutionStartedEventAttributes:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)

        async def first_event() -> HistoryEvent | None:
            events = handle.fetch_history_events(page_size=1, skip_archival=True)
            return await anext(aiter(events), None)

        event = await self.call(first_event) or HistoryEvent()
        return event.workflow_execution_started_event_attributes

    async def _run_before(self, workflow_id: str, run_id: str) -> str | None:
        """Return the run that went on in this one; None if there was none, or it is forgotten."""
        before = (await self._begun(workflow_id, run_id)).continued_execution_run_id
        if not before:
            return None
        try:
            await self._described(workflow_id, before)
        except StreamNotFound:
            return None
        return before

    async def _described(self, workflow_id: str, run_id: str | None) -> WorkflowExecutionDescription:
        return await self.call(self._client.get_workflow_handle(workflow_id, run_id=run_id).describe)

    async def describe(self, workflow_id: str, run_id: str | None) -> RunDescription:
        """Return what Temporal knows of a run, None for the newest; it waits for nothing.

        Raises:
            StreamNotFound: no such workflow, run or namespace.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        description = await self._described(workflow_id, run_id)
        status = None if description.status is None else _STATUSES.get(description.status)
        return RunDescription(_run_id(description), description.start_time, status)

    async def completed_activity(self, workflow_id: str, run_id: str) -> str | None:
        """Return the type of the first activity of a run that completed on a worker; None if none has so far.

        It reads the history from its start, at most some thousand events.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        pages = handle.fetch_history_events(page_size=_LOOKED_AT, skip_archival=True)
        await self.call(pages.fetch_next_page)
        types: dict[int, str] = {}
        for event in pages.current_page or ():
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                types[event.event_id] = scheduled.activity_type.name
            elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                return types.get(event.activity_task_completed_event_attributes.scheduled_event_id, "?")
        return None

    async def closed(self, workflow_id: str, run_id: str) -> Closed:
        """Wait until a run closes, however long that takes, and return how.

        All who wait for the same run share one long poll.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        return await self._ends.ask((workflow_id, run_id), partial(self._closed, workflow_id, run_id))

    async def history_length(self, workflow_id: str, run_id: str) -> int:
        """Return how many events the history of a run has.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        return (await self.call(handle.describe)).history_length

    async def _closed(self, workflow_id: str, run_id: str) -> Closed:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)

        async def close_event() -> HistoryEvent | None:
            events = handle.fetch_history_events(
                wait_new_event=True,
                event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT,
                skip_archival=True,
            )
            return await anext(aiter(events), None)

        while (event := await self.call(close_event)) is None:
            pass  # the long poll ended without an event
        closed = _closed_by(event)
        if closed.next_run_id is None and (next_run := await self._reset_to(workflow_id, run_id)):
            return Closed(closed.status, next_run, again=True)
        return closed

    async def _reset_to(self, workflow_id: str, run_id: str) -> str | None:
        """Find the run that a reset started: it terminates a running one, and follows a closed one later."""
        newest = await self.call(self._client.get_workflow_handle(workflow_id).describe)
        if _run_id(newest) == run_id:
            return None
        old = await self.call(self._client.get_workflow_handle(workflow_id, run_id=run_id).describe)
        return _run_id(newest) if _first_run_id(newest) == _first_run_id(old) else None


def _closed_by(event: HistoryEvent) -> Closed:
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            completed = event.workflow_execution_completed_event_attributes
            return Closed("completed", completed.new_execution_run_id or None)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            failed = event.workflow_execution_failed_event_attributes
            return Closed("failed", failed.new_execution_run_id or None, again=True)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            timed_out = event.workflow_execution_timed_out_event_attributes
            return Closed("timed_out", timed_out.new_execution_run_id or None, again=True)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            continued = event.workflow_execution_continued_as_new_event_attributes
            # Where a run failed and is retried the server may say this instead, with the failure.
            return Closed("completed", continued.new_execution_run_id, again=continued.HasField("failure"))
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            return Closed("canceled")
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            return Closed("terminated")
        case _:
            return Closed("unknown")


_STATUSES: dict[WorkflowExecutionStatus, Status] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "canceled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
}


def _run_id(description: WorkflowExecutionDescription) -> str:
    return description.raw_description.workflow_execution_info.execution.run_id


def _first_run_id(description: WorkflowExecutionDescription) -> str:
    return description.raw_description.workflow_execution_info.first_run_id


def _is_namespace_missing(error: BaseException | None) -> bool:
    """Distinguish a missing namespace from a missing workflow: both are NOT_FOUND, the details differ."""
    if not isinstance(error, RPCError):
        return False
    return any(detail.type_url.endswith("NamespaceNotFoundFailure") for detail in error.grpc_status.details)
