"""A run's stream as Temporal's history has it: what its activities told when they completed.

Without a transport, or where it was away, an activity's result carries the frames (`summary.py`). They come
once the activity has completed, and only of attempts that did; nothing is lost with a transport's memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.client import Client
from temporalio.converter import ActivitySerializationContext

from temporal_token_interceptor.backends.base import Entry
from temporal_token_interceptor.completion import Completion
from temporal_token_interceptor.origin import HISTORY
from temporal_token_interceptor.protocol import StreamKey, decode
from temporal_token_interceptor.summary import frames_in

logger = logging.getLogger(__name__)

_CLOSED = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)

# The name that the SDK's core gives to the marker of a local activity.
_LOCAL_ACTIVITY = "core_local_activity"


class RunHistory:
    """The stream of one run, read from its history: one long poll in 20 seconds, and each result once.

    It reads like a `TokenSource`; the ids of its entries sort after those of any transport.

    Args:
        client: Its data converter decodes the results.
        completion: Asks Temporal patiently.
    """

    def __init__(self, client: Client, completion: Completion) -> None:
        self._client = client
        self._completion = completion
        self._scheduled: dict[int, ActivityTaskScheduledEventAttributes] = {}
        self._seen = 0  # event ids count from 1
        self._last = ""
        self._closed = False
        self._unreadable = 0

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries, as activities complete. Like a transport's, it does not end by itself.

        Raises:
            TransportUnavailable: Temporal was away for too long.
            StreamNotFound: no such run.
        """
        while not self._closed:
            async with aclosing(self._batches(stream, wait=True)) as batches:
                async for batch in batches:
                    if left := [entry for entry in batch if entry.id > after]:
                        yield left
        await (
            asyncio.get_running_loop().create_future()
        )  # whoever reads is told the end by Temporal, and leaves

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string.

        Raises:
            TransportUnavailable: Temporal was away for too long.
        """
        if self._closed:
            return self._last
        ahead = RunHistory(self._client, self._completion)
        ahead._scheduled, ahead._seen, ahead._last = dict(self._scheduled), self._seen, self._last
        async with aclosing(ahead._batches(stream, wait=False)) as batches:
            async for _ in batches:
                pass
        return ahead._last

    async def _batches(self, stream: StreamKey, *, wait: bool) -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries that this object has not seen, to the end that history has for now."""
        handle = self._client.get_workflow_handle(stream.workflow_id, run_id=stream.run_id)
        pages = handle.fetch_history_events(wait_new_event=wait, skip_archival=True)
        more = True
        while more:
            await self._completion.patiently(pages.fetch_next_page)
            for event in pages.current_page or ():
                if event.event_id <= self._seen:
                    continue
                batch = [
                    Entry(f"{HISTORY}{event.event_id:015d}-{place:04d}", data)
                    for place, data in enumerate(await self._frames(stream, event))
                ]
                self._seen = event.event_id  # only now: decoding may be cut short, and the event is met again
                self._closed = event.event_type in _CLOSED
                if batch:
                    self._last = batch[-1].id
                    yield batch
            more = bool(pages.next_page_token)

    async def _frames(self, stream: StreamKey, event: HistoryEvent) -> list[bytes]:
        """Return the frames that an event holds."""
        payloads: Sequence[Payload] = ()
        converter = self._client.data_converter
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self._scheduled[event.event_id] = event.activity_task_scheduled_event_attributes
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                payloads = completed.result.payloads
                scheduled = self._scheduled[completed.scheduled_event_id]
                converter = converter.with_context(
                    ActivitySerializationContext(
                        namespace=stream.namespace,
                        workflow_id=stream.workflow_id,
                        workflow_type=None,
                        activity_type=scheduled.activity_type.name,
                        activity_id=scheduled.activity_id,
                        activity_task_queue=scheduled.task_queue.name,
                        is_local=False,
                    )
                )
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                marker = event.marker_recorded_event_attributes
                if marker.marker_name == _LOCAL_ACTIVITY:
                    payloads = marker.details["result"].payloads
        if not payloads:
            return []
        try:
            (result,) = await converter.decode(payloads)
            return [frame for frame in frames_in(result) if _is_of(stream, frame)]
        except Exception as error:  # noqa: BLE001 - the user's codec may raise anything
            if not self._unreadable:
                logger.warning("skipping a result of %r: %s (said once)", stream.name, type(error).__name__)
            self._unreadable += 1
            return []


def _is_of(stream: StreamKey, frame: bytes) -> bool:
    """Whether a frame was said in this very run: after a reset, a history begins with another run's."""
    origin = decode(frame).origin
    return origin is not None and origin.run_id == stream.run_id
