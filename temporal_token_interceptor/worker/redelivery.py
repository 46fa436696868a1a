"""Frames that an attempt could not deliver in time and no result holds: sent once the transport is back.

A failed attempt has no result, and many results have no `custom_data`. The activity has ended and waits for
nothing; its frames are kept here, within a bound, and sent late: whole where they are short, else as a count
of what was in them. They keep their numbers, so readers judge them like any others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import Frame
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.attempt import count_dropped
from temporal_token_interceptor.transport.base import TokenSink, hurry
from temporal_token_interceptor.worker.summary import outline

logger = logging.getLogger(__name__)

_WHOLE_BYTES: Final = 64 * 1024
"""Of a longer frame only the count of what was in it is kept."""

_KEPT_BYTES: Final = 4 * 1024 * 1024
"""What is kept of all attempts of a worker together."""

PATIENCE: Final = timedelta(minutes=10)
"""How long a frame is kept for a transport that is away."""


@dataclass(frozen=True, slots=True)
class _Late:
    stream: StreamKey
    data: bytes
    codec: FrameCodec | None
    until: float


class LateFrames:
    """Sends undelivered frames, one after the other; it has a task only while there is one to send.

    `close` joins the task. Where nothing calls that (an interceptor without a plugin), the task ends with the
    sink: a closed one refuses all that is left.

    Args:
        sink: Where the frames go.
    """

    def __init__(self, sink: TokenSink) -> None:
        self.dropped = 0
        """Frames that were lost: no room, refused, or kept for too long. Also a metric, `frames.dropped`."""
        self._is_logged = False  # since a frame was last delivered
        self._sink = sink
        self._left: deque[_Late] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None

    def leave(self, frames: Sequence[Frame], codec: FrameCodec | None) -> None:
        """Take over frames that a transport did not take in time. Does not wait.

        Args:
            frames: In order, each with a header.
            codec: Seals them; None for plain ones.
        """
        loop, dropped = asyncio.get_running_loop(), 0
        for frame in frames:
            data = encode(frame)
            if len(data) > _WHOLE_BYTES or self._bytes + len(data) > _KEPT_BYTES:
                data = encode(outline(frame))
            if self._bytes + len(data) > _KEPT_BYTES:
                dropped += 1
                continue
            self._bytes += len(data)
            until = loop.time() + PATIENCE.total_seconds()
            self._left.append(_Late(StreamKey.of(frame.origin), data, codec, until))
        if dropped:
            self._drop(dropped, "its memory is full")
        if self._left and (self._task is None or self._task.done()):
            self._task = started(self._run(), "token-stream late frames")

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - how long to try
        """Send what is left within so many seconds, and join the task; log and count the rest as lost."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            await joined(task)
            left = len(self._left)
            self._left.clear()
            self._bytes = 0
            if left:
                self._drop(left, "the worker stopped")

    async def _run(self) -> None:
        while self._left:
            late = self._left[0]
            try:
                async with asyncio.timeout_at(late.until):
                    data = late.data if late.codec is None else await late.codec.seal(late.data)
                    hurry(self._sink, late.stream)
                    await self._sink.write(late.stream, data)
                self._is_logged = False
            except Exception as error:  # noqa: BLE001 - the sink's, or the user's codec's: the next may do
                self._drop(1, type(error).__name__)
            self._left.popleft()
            self._bytes -= len(late.data)

    def _drop(self, frames: int, reason: str) -> None:
        self.dropped += frames
        count_dropped(frames)
        if not self._is_logged:
            self._is_logged = True
            logger.warning(
                "undelivered frames of ended activities are lost (%s): %d so far; their readers see a "
                "gap, or no text of these attempts; the results are in Temporal (logged once an outage)",
                reason,
                self.dropped,
            )

    def __repr__(self) -> str:
        """Describe the state."""
        return f"<LateFrames {len(self._left)} waiting, {self._bytes} bytes, {self.dropped} dropped>"
