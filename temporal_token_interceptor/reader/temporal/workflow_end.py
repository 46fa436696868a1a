"""Temporal's word on a workflow: which run to follow, how it closed, and whether it goes on in another.

A run is watched by the long poll for its close event: one request in 20 seconds while nothing happens, a
few milliseconds from the close to the answer, and no payload is decoded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHistoryEventFilterType
from temporalio.service import RPCError, RPCStatusCode

from temporal_token_interceptor._tasks import joined
from temporal_token_interceptor.errors import ConfigurationError, StreamNotFound, TransportUnavailable
from temporal_token_interceptor.events import Status

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

# Whoever subscribes first and starts the workflow then should not miss its first second. One question costs
# Temporal some milliseconds.
_LONGEST_PAUSE_FOR_START = 0.2

# The SDK gives up on its own after some ten seconds of failing; what the server may still do better is
# tried again here, within our bound.
_TRANSIENT: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
    }
)


@dataclass(frozen=True, slots=True)
class Closed:
    """How a run closed.

    Attributes:
        status: Temporal's word.
        next_run_id: The run that the workflow goes on in, if it does.
        again: Whether that run does again what this one did (a reset, a retry): its activities then replace
            those of the same id.
    """

    status: Status
    next_run_id: str | None = None
    again: bool = False


class Patient:
    """Asks Temporal until it answers.

    Args:
        client: The client.
        patience: How long Temporal may be away before `TransportUnavailable`.
    """

    def __init__(self, client: Client, *, patience: timedelta) -> None:
        self._client = client
        self._patience = patience.total_seconds()

    async def patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until Temporal answers, within the bound; translate what it says no to.

        Raises:
            StreamNotFound: Temporal does not know what was asked for.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        loop = asyncio.get_running_loop()
        since: float | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = await ask()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise StreamNotFound(
                        "Temporal knows no such workflow, run or activity in namespace "
                        f"{self._client.namespace!r}: {error.message}"
                    ) from error
                if error.status not in _TRANSIENT:
                    raise ConfigurationError(
                        f"Temporal refuses to tell about the workflow ({error.status.name}: {error.message})"
                    ) from error
                if since is None:
                    since = loop.time()
                    logger.warning("Temporal does not answer (%s); asking again", error.status.name)
                elif loop.time() - since > self._patience:
                    raise TransportUnavailable(
                        f"Temporal has not answered for {self._patience:g} s ({error.status.name}); "
                        "resume from the last event's cursor once it is back"
                    ) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                if since is not None:
                    logger.warning("Temporal answers again")
                return answer


@dataclass(slots=True)
class _Watch:
    """The one long poll for the end of a run, and how many wait for it."""

    asking: asyncio.Task[Closed]
    waiting: int = 0


class Completion(Patient):
    """Asks Temporal about workflows, patiently."""

    def __init__(self, client: Client, *, patience: timedelta) -> None:
        super().__init__(client, patience=patience)
        self._watches: dict[tuple[str, str], _Watch] = {}

    async def newest_run(self, workflow_id: str, *, start_timeout: timedelta) -> str:
        """Return the run id of a workflow's newest run; wait for the workflow to be started.

        Raises:
            StreamNotFound: not started before the deadline, or no such namespace (at once).
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        deadline = asyncio.get_running_loop().time() + start_timeout.total_seconds()
        pause = _FIRST_PAUSE
        while True:
            try:
                description = await self.patiently(self._client.get_workflow_handle(workflow_id).describe)
            except StreamNotFound as error:
                remaining = deadline - asyncio.get_running_loop().time()
                if _is_namespace_missing(error.__cause__):
                    raise
                if remaining <= 0:
                    waited = f" within {start_timeout.total_seconds():g} s" if start_timeout else ""
                    raise StreamNotFound(
                        f"no workflow {workflow_id!r} in namespace {self._client.namespace!r} was started"
                        f"{waited}: check the id" + (", or raise start_timeout" if waited else "")
                    ) from error.__cause__
                await asyncio.sleep(min(pause, remaining))
                pause = min(pause * 2, _LONGEST_PAUSE_FOR_START)
            else:
                return _run_id(description)

    async def closed(self, workflow_id: str, run_id: str) -> Closed:
        """Wait until a run closes, however long that takes, and return how.

        All who wait for the same run share one long poll.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        key = (workflow_id, run_id)
        watch = self._watches.get(key)
        if watch is None:
            asking = asyncio.create_task(self._closed(*key), name=f"token-stream end of {workflow_id}")
            watch = self._watches[key] = _Watch(asking)
        watch.waiting += 1
        try:
            return await asyncio.shield(watch.asking)
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                del self._watches[key]
                await joined(watch.asking)

    async def history_length(self, workflow_id: str, run_id: str) -> int:
        """Return how many events the history of a run has.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        return (await self.patiently(handle.describe)).history_length

    async def _closed(self, workflow_id: str, run_id: str) -> Closed:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)

        async def close_event() -> HistoryEvent | None:
            events = handle.fetch_history_events(
                wait_new_event=True,
                event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT,
                skip_archival=True,
            )
            return await anext(aiter(events), None)

        while (event := await self.patiently(close_event)) is None:
            pass  # the long poll ended without news
        closed = _closed_by(event)
        if closed.status == "terminated" and (next_run := await self._reset_to(workflow_id, run_id)):
            return Closed("terminated", next_run, again=True)
        return closed

    async def _reset_to(self, workflow_id: str, run_id: str) -> str | None:
        """Find the run that a reset started: it terminates the old one and begins anew in the same chain."""
        newest = await self.patiently(self._client.get_workflow_handle(workflow_id).describe)
        if _run_id(newest) == run_id:
            return None
        old = await self.patiently(self._client.get_workflow_handle(workflow_id, run_id=run_id).describe)
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


def _run_id(description: WorkflowExecutionDescription) -> str:
    return description.raw_description.workflow_execution_info.execution.run_id


def _first_run_id(description: WorkflowExecutionDescription) -> str:
    return description.raw_description.workflow_execution_info.first_run_id


def _is_namespace_missing(error: BaseException | None) -> bool:
    """Tell a missing namespace from a missing workflow: both are NOT_FOUND, the details differ."""
    if not isinstance(error, RPCError):
        return False
    return any(detail.type_url.endswith("NamespaceNotFoundFailure") for detail in error.grpc_status.details)
