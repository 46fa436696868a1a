"""A run's tokens as they come, without a transport: from the heartbeat details of its running activities.

One poll for each run and process asks Temporal for the run's description: quickly while tokens come, slowly
while not. A poll that missed a heartbeat finds its frames in the next; what has left the ring by then
is a jump in the numbers, and so a `Gap`.

The details of an activity are gone once it has completed. So the poll must not be slower than the 0.4 s that
a worker waits at the end of an activity that has streamed, from the moment that the activity is scheduled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.converter import ActivitySerializationContext

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.errors import ProtocolError, TokenStreamError
from temporal_token_interceptor.events.origin import LIVE
from temporal_token_interceptor.protocol.frames import check_time, decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.live_mark import is_live_id, live_id
from temporal_token_interceptor.reader.temporal.workflow_end import Completion
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.heartbeat import frames_in

logger = logging.getLogger(__name__)

BEHIND_LIVE = f"{LIVE}~"
"""Behind all of them."""

# Seconds between two polls.
_QUICK = 0.1  # while tokens come, and once an activity was scheduled
_WATCHFUL = 0.2  # at most, while an activity runs that is new or has streamed
_SLOW = 1.0  # at most
_SLOWER = 1.25  # by this much longer is each pause than the one before, while no tokens come

# Seconds for which an attempt is new: one that has called no model by then may be a long one without models.
_NEW = 30.0


@dataclass(frozen=True, slots=True)
class _Details:
    """What the heartbeats of one activity attempt held last."""

    entries: Sequence[Entry] = ()
    last_seq: int = -1


class Inbox:
    """Batches that wait for one reader; none is lost where the reader is cancelled."""

    def __init__(self) -> None:
        self.batches: deque[Sequence[Entry]] = deque()
        self.changed = asyncio.Event()

    def put(self, batch: Sequence[Entry]) -> None:
        """Add a batch, and wake the reader."""
        self.batches.append(batch)
        self.changed.set()


_shared: WeakValueDictionary[tuple[object, ...], RunHeartbeats] = WeakValueDictionary()


def shared_heartbeats(client: Client, completion: Completion, stream: StreamKey) -> RunHeartbeats:
    """Return the heartbeats of a run: the same for all readers of the process that may share them.

    Those on one event loop, over one connection (others may have other rights) and with one data converter
    (others may have other keys).
    """
    loop, patience = asyncio.get_running_loop(), completion.patience
    # The heartbeats keep their client, and so both objects, alive: nothing else can get their ids.
    key = (loop, id(client.service_client), id(client.data_converter), patience, stream)
    found = _shared.get(key)
    if found is None:
        found = _shared[key] = RunHeartbeats(client, completion, stream)
    return found


class RunHeartbeats:
    """The heartbeats of one run, for all its readers of the process: they share one poll.

    Args:
        client: Its data converter opens the details.
        completion: Asks Temporal.
        stream: The run.

    Attributes:
        polls: How often Temporal was asked.
    """

    def __init__(self, client: Client, completion: Completion, stream: StreamKey) -> None:
        self.polls = 0
        self._client = client
        self._completion = completion
        self._stream = stream
        self._handle = client.get_workflow_handle(stream.workflow_id, run_id=stream.run_id)
        self._readers: list[Inbox] = []
        self._attempts: dict[str, _Details] = {}  # of activities that run now, by attempt
        self._raw: dict[str, bytes] = {}  # the payload that was opened last, by activity
        self._turn = asyncio.Lock()  # of two looks at once, the later answer may be the older one
        self._hurried = asyncio.Event()
        self._scheduled = 0  # the event that hurried it last
        self._running: frozenset[bytes] = frozenset()  # the attempts that ran at the last look
        self._new_until = 0.0  # by the loop's clock
        self._task: asyncio.Task[None] | None = None

    @property
    def hold_frames(self) -> bool:
        """Whether the last look has found frames."""
        return bool(self._attempts)

    @contextmanager
    def listening(self, inbox: Inbox) -> Iterator[None]:
        """Put new entries into an inbox within the context, first those that the last poll has found."""
        for details in self._attempts.values():
            if details.entries:
                inbox.put(details.entries)
        self._readers.append(inbox)
        if self._task is None or self._task.done():
            self._task = started(self._poll(), f"token-stream heartbeats of {self._stream.workflow_id}")
        try:
            yield
        finally:
            self._readers.remove(inbox)

    def activity_scheduled(self, event_id: int) -> None:
        """Poll now, and quickly from now on; a second reader of the same event changes nothing."""
        if event_id > self._scheduled:
            self._scheduled = event_id
            self._hurried.set()

    async def leave(self) -> None:
        """Stop the poll if no reader is left."""
        if not self._readers and (task := self._task) is not None:
            self._task = None
            await joined(task)

    async def now(self) -> list[Entry]:
        """Return what the heartbeats hold now; empty where Temporal does not say."""
        try:
            await self._look()
        except TokenStreamError as error:
            self._warn(error)
        return [entry for details in self._attempts.values() for entry in details.entries]

    async def _poll(self) -> None:
        pause = _QUICK
        try:
            while True:
                has_news, is_running = await self._look()
                if not is_running:
                    return
                is_watchful = self._attempts or asyncio.get_running_loop().time() < self._new_until
                longest = _WATCHFUL if is_watchful else _SLOW
                pause = _QUICK if has_news else min(pause * _SLOWER, longest)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._hurried.wait()
                    self._hurried.clear()
                    pause = _QUICK
        except TokenStreamError as error:
            self._warn(error)
        except Exception:  # ours: a reader has the history all the same
            logger.exception("tokens of %r come only from its history", self._stream.name)

    async def _look(self) -> tuple[bool, bool]:
        """Ask Temporal, and hand what is new to all readers.

        Returns:
            Whether there was something new, and whether the run goes on.
        """
        async with self._turn:
            self.polls += 1
            description = (await self._completion.call(self._handle.describe)).raw_description
            found = await self._new(description.pending_activities)
            for batch in found:
                for inbox in self._readers:
                    inbox.put(batch)
        return bool(found), not description.workflow_execution_info.HasField("close_time")

    async def _new(self, activities: Sequence[PendingActivityInfo]) -> list[Sequence[Entry]]:
        """Return the entries that no look before has found, by attempt."""
        found: list[Sequence[Entry]] = []
        present: dict[str, _Details] = {}
        raw: dict[str, bytes] = {}
        for pending in activities:
            if not pending.heartbeat_details.payloads:
                continue
            last = pending.heartbeat_details.payloads[-1].SerializeToString()
            raw[pending.activity_id] = last
            if self._raw.get(pending.activity_id) == last:
                front = _prefix(pending)
                known = {name: one for name, one in self._attempts.items() if name.startswith(front)}
                present.update(known)
                continue
            for name, entries in (await self._entries(pending)).items():
                former = self._attempts.get(name, _Details())
                new = [entry for seq, entry in entries if seq > former.last_seq]
                last_seq = max(entries[-1][0], former.last_seq)
                present[name] = _Details([entry for _, entry in entries], last_seq)
                if new:
                    found.append(new)
        self._attempts, self._raw = present, raw
        running = frozenset(map(_attempt_of, activities))
        if running - self._running:
            self._new_until = asyncio.get_running_loop().time() + _NEW
        self._running = running
        return found

    async def _entries(self, pending: PendingActivityInfo) -> dict[str, list[tuple[int, Entry]]]:
        """Return the frames in an activity's details with their numbers, by attempt."""
        entries: dict[str, list[tuple[int, Entry]]] = {}
        begun: dict[str, datetime] = {}
        for frame in frames_in(await self._opened(pending)):
            try:
                packet = decode(frame, self._stream)
                check_time(packet, None, datetime.now(UTC))
            except ProtocolError as error:
                logger.warning(
                    "skipping a frame in the heartbeats of activity %r of %r: %s",
                    pending.activity_id,
                    self._stream.workflow_id,
                    error,
                )
                continue
            if packet.origin is not None and packet.origin.activity_id == pending.activity_id:
                begun[packet.attempt_id] = packet.origin.started_time
            if packet.attempt_id in begun:
                name = f"{_prefix(pending)}{packet.attempt_id}"
                place = live_id(begun[packet.attempt_id], packet.seq)
                if is_live_id(place):  # not, of a time or a number that no worker has
                    entries.setdefault(name, []).append((packet.seq, Entry(place, frame)))
        return entries

    async def _opened(self, pending: PendingActivityInfo) -> Any:
        """Return the last detail of an activity; None where it cannot be opened."""
        scheduled = pending.activity_type.name
        context = ActivitySerializationContext(
            namespace=self._stream.namespace,
            workflow_id=self._stream.workflow_id,
            workflow_type=None,
            activity_type=scheduled,
            activity_id=pending.activity_id,
            activity_task_queue=None,
            is_local=False,
        )
        converter = self._client.data_converter.with_context(context)
        try:
            # As a whole: a codec may make one payload of many. The user's details need types that only the
            # worker has, so they are not converted.
            payloads = list(pending.heartbeat_details.payloads)
            if converter.payload_codec is not None:
                payloads = await converter.payload_codec.decode(payloads)
            return converter.payload_converter.from_payload(payloads[-1])
        except Exception as error:  # noqa: BLE001 - the user's codec or converter may raise anything
            logger.debug("a heartbeat of activity %r cannot be opened: %s", scheduled, type(error).__name__)
            return None

    def _warn(self, error: TokenStreamError) -> None:
        logger.warning("tokens of %r come only from its history: %s", self._stream.name, error)


def _prefix(pending: PendingActivityInfo) -> str:
    return f"{pending.activity_id}\0"


def _attempt_of(pending: PendingActivityInfo) -> bytes:
    """Return what names an attempt that is scheduled or runs, by the server's clock."""
    return (
        f"{pending.activity_id}\0{pending.attempt}\0".encode() + pending.last_started_time.SerializeToString()
    )
