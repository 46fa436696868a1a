"""What an attempt could not deliver in time and no result holds: sent once the transport takes it again.

A failed attempt has no result, and many results have no `custom_data`. The activity has ended and waits for
nothing; what is left of it is kept here, within a bound, and told late: whole where it is short, else how
much there was. Its frames keep their numbers, so readers judge them like any others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import Frame
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.summary import outline

logger = logging.getLogger(__name__)

_WHOLE_BYTES: Final = 64 * 1024
"""A longer frame is not kept: only how much was in it."""

_KEPT_BYTES: Final = 4 * 1024 * 1024
"""What all attempts of a worker may leave together."""

PATIENCE: Final = timedelta(minutes=10)
"""How long what was left is kept for a transport that is away."""


@dataclass(frozen=True, slots=True)
class _Late:
    stream: StreamKey
    data: bytes
    codec: FrameCodec | None
    until: float


class LateFrames:
    """Sends what attempts left, one frame after the other; it has a task only while there is something.

    The task ends with the sink: a closed one takes nothing more.

    Args:
        sink: Where the frames go.
    """

    def __init__(self, sink: TokenSink) -> None:
        self.dropped = 0
        """Frames that there was no room for, or that were refused, or kept for too long."""
        self._sink = sink
        self._left: deque[_Late] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None

    def leave(self, frames: Sequence[Frame], codec: FrameCodec | None) -> None:
        """Take frames that a transport did not take in time. No waiting.

        Args:
            frames: In order, each with a header.
            codec: Seals them; None for plain ones.
        """
        loop = asyncio.get_running_loop()
        for frame in frames:
            data = encode(frame)
            if len(data) > _WHOLE_BYTES or self._bytes + len(data) > _KEPT_BYTES:
                data = encode(outline(frame))
            if self._bytes + len(data) > _KEPT_BYTES:
                self.dropped += 1
                continue
            self._bytes += len(data)
            until = loop.time() + PATIENCE.total_seconds()
            self._left.append(_Late(StreamKey.of(frame.origin), data, codec, until))
        if self._left and (self._task is None or self._task.done()):
            self._task = loop.create_task(self._run(), name="token-stream late frames")

    async def _run(self) -> None:
        while self._left:
            late = self._left[0]
            try:
                async with asyncio.timeout_at(late.until):
                    data = late.data if late.codec is None else await late.codec.seal(late.data)
                    await self._sink.write(late.stream, data)
            except Exception as error:  # noqa: BLE001 - the sink's, or the user's codec's: the next may do
                self.dropped += 1
                logger.info("what was left of %r is not told: %s", late.stream.name, type(error).__name__)
            self._left.popleft()
            self._bytes -= len(late.data)

    def __repr__(self) -> str:
        """Tell the state."""
        return f"<LateFrames {len(self._left)} waiting, {self._bytes} bytes, {self.dropped} dropped>"
