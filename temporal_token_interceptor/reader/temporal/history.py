"""A run's stream as Temporal's history has it: what the results of its activities hold.

Without a transport, or where it was away, an activity's result carries the frames (`summary.py`). They come
once the activity has completed, and only of attempts that did; nothing is lost with a transport's memory.

Two ways lead in. Where there is no transport, each reader follows the history while the run lives. Where
there is one, the history is looked at when the run has closed, once for all readers of the process, and only
results are decoded of which a reader does not know already all that they could hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import ActivitySerializationContext

from temporal_token_interceptor.events.origin import HISTORY, Origin
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.temporal.results import Result, in_time
from temporal_token_interceptor.reader.temporal.workflow_end import Completion
from temporal_token_interceptor.transport.base import Entry

CLOSED = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)
"""The events that end a history."""

# The name that the SDK's core gives to the marker of a local activity.
_LOCAL_ACTIVITY = "core_local_activity"


class _Scheduled(NamedTuple):
    activity_id: str
    activity_type: str
    task_queue: str
    time: datetime


class _Started(NamedTuple):
    attempt: int
    time: datetime


class RunHistory:
    """The history of one run, for all its readers of the process.

    Args:
        client: Its data converter decodes the results.
        completion: Asks Temporal.
        stream: The run.
    """

    def __init__(self, client: Client, completion: Completion, stream: StreamKey) -> None:
        self._client = client
        self._completion = completion
        self._stream = stream
        self._turn = asyncio.Lock()
        self._results: Sequence[Result] | None = None

    def live(self, *, counts: bool, on_scheduled: Callable[[int], None] | None = None) -> LiveHistory:
        """Return what one reader follows while the run lives: one long poll in 20 seconds.

        Args:
            counts: Whether to report also what only a transport has.
            on_scheduled: Is called with the id of each event that schedules an activity.
        """
        scan = _Scan(self._client, self._completion, self._stream, on_scheduled)
        return LiveHistory(scan, counts=counts)

    async def results(self) -> Sequence[Result]:
        """Return what the activities returned so far, in order; of a closed run, it is asked for once.

        Raises:
            TransportUnavailable: Temporal was away, or its answer took too long.
            StreamNotFound: no such run.
        """
        return await in_time(self._looked(), "its history could not be read")

    async def now(self) -> str:
        """Return an id behind all that is in the history, and before all that is to come.

        Raises:
            TransportUnavailable: Temporal was away for too long.
            StreamNotFound: no such run.
        """
        length = await self._completion.history_length(self._stream.workflow_id, self._stream.run_id)
        return f"{HISTORY}{length + 1:015d}"

    async def _looked(self) -> Sequence[Result]:
        async with self._turn:
            if self._results is not None:
                return self._results
            scan = _Scan(self._client, self._completion, self._stream)
            async with aclosing(scan.results(wait=False)) as found:
                results = [result async for result in found]
            if scan.closed:
                self._results = results
            return results


class LiveHistory:
    """The entries of a run, as its activities complete: it reads like a `TokenSource`."""

    def __init__(self, scan: _Scan, *, counts: bool) -> None:
        self._scan = scan
        self._counts = counts
        self._last = ""

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:  # noqa: ARG002
        """Iterate over the entries, as activities complete. Like a transport's, it does not end by itself.

        Raises:
            TransportUnavailable: Temporal was away for too long.
            StreamNotFound: no such run.
        """
        while not self._scan.closed:
            async with aclosing(self._scan.results(wait=True)) as results:
                async for result in results:
                    batch = [entry for entry in await self._entries(result) if entry.id > after]
                    if batch:
                        self._last = batch[-1].id
                        yield batch
        # The reader learns of the end from Temporal, and leaves.
        await asyncio.get_running_loop().create_future()

    async def last_id(self, stream: StreamKey) -> str:  # noqa: ARG002
        """Return the id of the newest entry, or an empty string.

        Raises:
            TransportUnavailable: Temporal was away for too long.
        """
        last = self._last
        if not self._scan.closed:
            async with aclosing(self._scan.copy().results(wait=False)) as results:
                async for result in results:
                    if entries := await self._entries(result):
                        last = entries[-1].id
        return last

    async def _entries(self, result: Result) -> Sequence[Entry]:
        held = await result.contents()
        return [*held.frames, *(held.counted if self._counts else ())]


class _Scan:
    """Goes through the events of a run, and meets each once.

    Attributes:
        closed: Whether the run's last event was met.
    """

    def __init__(
        self,
        client: Client,
        completion: Completion,
        stream: StreamKey,
        on_scheduled: Callable[[int], None] | None = None,
    ) -> None:
        self.closed = False
        self._on_scheduled = on_scheduled
        self._client = client
        self._completion = completion
        self._stream = stream
        self._seen = 0  # event ids count from 1
        self._carried_over = False
        self._workflow_type = ""
        self._scheduled: dict[int, _Scheduled] = {}
        self._started: dict[int, _Started] = {}

    def copy(self) -> _Scan:
        """Return one that goes on from here by itself."""
        copy = _Scan(self._client, self._completion, self._stream)
        copy._seen, copy._carried_over, copy._workflow_type = (
            self._seen,
            self._carried_over,
            self._workflow_type,
        )
        copy._scheduled, copy._started = dict(self._scheduled), dict(self._started)
        return copy

    async def results(self, *, wait: bool) -> AsyncGenerator[Result]:
        """Iterate over the results that were not met yet, to the end that the history has for now."""
        handle = self._client.get_workflow_handle(self._stream.workflow_id, run_id=self._stream.run_id)
        pages = handle.fetch_history_events(wait_new_event=wait, skip_archival=True)
        more = True
        while more:
            await self._completion.call(pages.fetch_next_page)
            for event in pages.current_page or ():
                if event.event_id <= self._seen:
                    continue
                if (result := self._met(event)) is not None:
                    yield result
                # Only now: the reader that decodes it may be cut short, and meets the event again.
                self._seen = event.event_id
                self.closed = event.event_type in CLOSED
            more = bool(pages.next_page_token)

    def _met(self, event: HistoryEvent) -> Result | None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                begun = event.workflow_execution_started_event_attributes
                self._workflow_type = begun.workflow_type.name
                # After a reset, a history begins with that of the run before.
                self._carried_over = begun.original_execution_run_id != self._stream.run_id
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    self._carried_over &= failed.new_run_id != self._stream.run_id
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                self._scheduled[event.event_id] = _Scheduled(
                    scheduled.activity_id,
                    scheduled.activity_type.name,
                    scheduled.task_queue.name,
                    _time_of(event),
                )
                if self._on_scheduled is not None:
                    self._on_scheduled(event.event_id)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                self._started[event.event_id] = _Started(started.attempt, _time_of(event))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED if not self._carried_over:
                return self._completed(event)
            case EventType.EVENT_TYPE_MARKER_RECORDED if not self._carried_over:
                return self._completed_locally(event)
        return None

    def _completed(self, event: HistoryEvent) -> Result:
        completed = event.activity_task_completed_event_attributes
        scheduled = self._scheduled[completed.scheduled_event_id]
        started = self._started[completed.started_event_id]
        converter = self._client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=self._stream.namespace,
                workflow_id=self._stream.workflow_id,
                workflow_type=None,
                activity_type=scheduled.activity_type,
                activity_id=scheduled.activity_id,
                activity_task_queue=scheduled.task_queue,
                is_local=False,
            )
        )
        origin = self._origin(scheduled.activity_id, scheduled.activity_type, started, scheduled.time)
        return Result(origin, event.event_id, completed.result.payloads, converter)

    def _completed_locally(self, event: HistoryEvent) -> Result | None:
        marker = event.marker_recorded_event_attributes
        if marker.marker_name != _LOCAL_ACTIVITY or not marker.details["result"].payloads:
            return None
        facts = _facts(marker.details["data"].payloads)
        started = _Started(int(facts.get("attempt") or 0), _time_of(event))
        origin = self._origin(str(facts.get("activity_id")), str(facts.get("activity_type")), started)
        return Result(
            origin,
            event.event_id,
            marker.details["result"].payloads,
            self._client.data_converter,
            local=True,
        )

    def _origin(
        self, activity_id: str, activity_type: str, started: _Started, scheduled: datetime | None = None
    ) -> Origin:
        return Origin(
            namespace=self._stream.namespace,
            workflow_id=self._stream.workflow_id,
            workflow_type=self._workflow_type,
            run_id=self._stream.run_id,
            activity_id=activity_id,
            activity_type=activity_type,
            attempt=started.attempt,
            attempt_id="",  # the counts know it
            started_time=started.time,
            scheduled_time=scheduled,
        )


def _time_of(event: HistoryEvent) -> datetime:
    """When an event happened; of a started activity, to the microsecond the time that its attempt has."""
    return event.event_time.ToDatetime(tzinfo=UTC)


def _facts(payloads: Sequence[Payload]) -> dict[str, Any]:
    """What the SDK's core notes of a local activity."""
    try:
        facts = orjson.loads(payloads[0].data)
    except (IndexError, orjson.JSONDecodeError):
        return {}
    return facts if isinstance(facts, dict) else {}
