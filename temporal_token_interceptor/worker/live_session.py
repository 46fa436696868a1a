"""Live streaming through Temporal alone: a session whose frames travel in the activity's own heartbeats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final, Literal

from temporalio import activity

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Frame, Origin, Record, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.heartbeat import Ring
from temporal_token_interceptor.worker.heartbeat import Heartbeat, HeartbeatRecorder
from temporal_token_interceptor.worker.session import Session
from temporal_token_interceptor.worker.summary import hollow

Live = Literal["auto", "off"] | timedelta
"""Whether frames travel in heartbeats where there is no backend; see `TokenStreamingInterceptor`."""

Fallback = Literal["off", "heartbeats"]
"""What carries frames while a transport is away; see `TokenStreamingInterceptor`."""

LIVE_INTERVAL: Final = timedelta(seconds=0.2)
"""Between two heartbeats that carry frames, by default."""

# Of a frame, as the JSON of a heartbeat: several have room in one heartbeat.
_FRAME_BYTES = 16 * 1024

# Of new frames in one heartbeat: a reader that missed it finds them in the next one, too.
_NEW_BYTES = 24 * 1024

# Of memory that is taken out of the buffer at a time; in a heartbeat, short tokens take an eighth of that.
TAKEN_BYTES: Final = 64 * 1024

# Of frames that are kept for the result, as JSON: enough for a full summary.
_KEPT_BYTES = 256 * 1024


def live_interval(live: Live, heartbeat: Heartbeat) -> timedelta | None:
    """Return the time between two heartbeats that carry frames; None where none may."""
    if live == "off" or heartbeat == "off":
        return None
    return LIVE_INTERVAL if live == "auto" else live


def streams_live(info: activity.Info, live: Live, heartbeat: Heartbeat) -> bool:
    """Whether an activity can stream through its heartbeats: local activities have none."""
    return not info.is_local and live_interval(live, heartbeat) is not None


class HeartbeatSink:
    """Puts frames into the heartbeats of one attempt: it is the `TokenSink` of its session.

    Args:
        recorder: Sends the heartbeats.
    """

    def __init__(self, recorder: HeartbeatRecorder) -> None:
        self.keep_interval = timedelta(hours=1)  # nothing expires
        self.new_bytes = 0
        """Of frames that no heartbeat has carried yet."""
        self.before = recorder.before
        """Names the attempts before this one that have streamed so."""
        self._recorder = recorder
        # A retry takes back at once what readers have of the attempts before it.
        self._has_begun = bool(recorder.before)
        self._ring = Ring(before=recorder.before)

    def begin(self) -> None:
        """Send heartbeats from the next frame on: the attempt has called a model. On any thread."""
        self._has_begun = True

    async def write(self, stream: StreamKey, data: bytes) -> None:  # noqa: ARG002 - the attempt has one stream
        """Put a frame behind those that the next heartbeat will carry."""
        if self._ring.put(data):
            self.new_bytes += len(data)

    def beat_if_due(self, buffer: Buffer) -> bool:
        """Send a heartbeat once a buffer holds no more for it, or it is full; return whether one was sent."""
        return (self.new_bytes >= _NEW_BYTES or not len(buffer)) and self.beat()

    def clear(self) -> None:
        """Leave the frames so far out of the heartbeats that follow: readers have them from elsewhere."""
        self.new_bytes = 0
        self._ring = Ring(before=self.before)
        self._recorder.carry(self._ring.detail() if self.before else None)

    def beat(self) -> bool:
        """Send a heartbeat with the newest frames; return False where none may be sent, or nothing is new."""
        if not (self._has_begun and self.new_bytes) or self._recorder.is_crowded:
            return False
        self.new_bytes = 0
        try:
            self._recorder.carry(self._ring.detail())
        except Exception as error:  # noqa: BLE001 - whatever the user's payload converter raises
            raise TokenStreamError(
                f"the payload converter cannot encode heartbeat details ({type(error).__name__}); they come "
                "with the result"
            ) from None
        self._recorder.repeat()
        return True

    def keep(self, stream: StreamKey) -> None:
        """Do nothing: Temporal keeps the run."""

    async def close(self) -> None:
        """Do nothing: the heartbeats end with the attempt."""


class LiveSession(Session):
    """A session that streams through heartbeats, and keeps its frames for the result.

    No reader confirms that it has seen a heartbeat, so for `custom_data` everything counts as undelivered:
    readers drop by their numbers the frames that they have.

    Args:
        origin: The attempt.
        sink: Its heartbeats.
        interval: Between two heartbeats with new frames. Frames count as delivered when this time has
            passed, in which the SDK sends the heartbeat and a reader polls.
        budget: The memory that all sessions of the worker share.
        flush_timeout: How long `finish` may wait for the last heartbeats.
    """

    frame_bytes = TAKEN_BYTES
    has_all_headers = True  # any frame can become the oldest of a heartbeat

    def __init__(
        self,
        origin: Origin,
        sink: HeartbeatSink,
        *,
        interval: timedelta,
        budget: Budget,
        flush_timeout: timedelta,
    ) -> None:
        super().__init__(origin, sink, budget=budget, flush_timeout=flush_timeout)
        self.begin: Callable[[], None] = sink.begin
        self._heartbeats = sink
        self._interval = interval.total_seconds()
        self._kept: list[Frame] = list(sink.before)
        self._kept_bytes = 0

    async def send(self, records: tuple[Record, ...]) -> None:
        """Put records into the heartbeats; beat, and wait for the interval, once no more is to join them."""
        for part in divided(records):
            await super().send(part)
        if self._heartbeats.beat_if_due(self.buffer):
            await asyncio.sleep(self._interval)

    def note_sent(self, frame: Frame) -> None:
        """Keep a frame; of one beyond the bound, all but the text."""
        frame = replace(frame, header=len(self._kept) == len(self._heartbeats.before))
        size = len(encode(frame))
        if self._kept_bytes + size > _KEPT_BYTES:
            frame = hollow(frame)
            size = 0
        self._kept_bytes += size
        self._kept.append(frame)

    def take_undelivered(self) -> tuple[Frame, ...]:
        """Return, once the attempt has ended, all its frames. A second call returns none."""
        kept, self._kept = tuple(self._kept), []
        left = super().take_undelivered()
        return (*kept, *left) if len(kept) > len(self._heartbeats.before) or left else ()


def divided(records: tuple[Record, ...]) -> Iterator[tuple[Record, ...]]:
    """Divide records among frames that have room in a heartbeat, as far as text can be divided."""
    part: list[Record] = []
    size = 0
    for record in records:
        for piece in _pieces(record) if isinstance(record, TextRun) else (record,):
            added = _size(piece) if isinstance(piece, TextRun) else 0
            if part and size + added > _FRAME_BYTES:
                yield tuple(part)
                part, size = [], 0
            part.append(piece)
            size += added
    yield tuple(part)


def _pieces(run: TextRun) -> Iterator[TextRun]:
    """Halve a run until each piece has room in a frame; one chunk is not divided."""
    if _size(run) <= _FRAME_BYTES or run.count < 2:
        yield run
        return
    half = run.count // 2
    if len(run.texts) == run.count:
        first, rest = run.texts[:half], run.texts[half:]
    else:  # joined, while heartbeats were full
        (text,) = run.texts
        first, rest = [text[: len(text) // 2]], [text[len(text) // 2 :]]
    yield from _pieces(replace(run, texts=first, count=half))
    yield from _pieces(replace(run, texts=rest, count=run.count - half, first_index=run.first_index + half))


def _size(run: TextRun) -> int:
    return len(json.dumps(run.texts))
