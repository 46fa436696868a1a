"""A session whose frames go to a transport, and also through heartbeats while that does not take them.

Nothing is decided for good. The frame that the transport does not take within a second goes into the
attempt's heartbeats, with all that follow it, while a task of the session's own offers them to the transport
again, oldest first. Once that has taken them all, frames go there alone again. Readers may get a frame by
both ways: its number says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from temporal_token_interceptor._tasks import cancelled_too_late, joined, started
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Frame, Origin, Record
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, NoTelemetry
from temporal_token_interceptor.transport.base import TokenSink, hurry
from temporal_token_interceptor.worker.live_session import TAKEN_BYTES, HeartbeatSink, divided
from temporal_token_interceptor.worker.session import Session
from temporal_token_interceptor.worker.summary import hollow

logger = logging.getLogger(__name__)

AWAY_SECONDS: Final = 1.0
"""A transport that has not taken a frame by then is away: readers would see the pause."""

# Of frames that the transport has not taken, as JSON: as much as a full summary holds.
_KEPT_BYTES = 256 * 1024


class FallbackSession(Session):
    """A session with two ways out: its transport, and the attempt's heartbeats while that is away.

    Args:
        origin: The attempt.
        sink: The transport.
        heartbeats: Those of the attempt.
        interval: Between two heartbeats with new frames.
        budget: The memory that all sessions of the worker share.
        flush_timeout: How long `finish` may wait.
        codec: Seals what goes to the transport; the client's converter seals the heartbeats.
        telemetry: Receives what is sent.
    """

    def __init__(
        self,
        origin: Origin,
        sink: TokenSink,
        *,
        heartbeats: HeartbeatSink,
        interval: timedelta,
        budget: Budget,
        flush_timeout: timedelta,
        codec: FrameCodec | None = None,
        telemetry: NoTelemetry = NO_TELEMETRY,
    ) -> None:
        super().__init__(
            origin, sink, budget=budget, flush_timeout=flush_timeout, codec=codec, telemetry=telemetry
        )
        self.begin: Callable[[], None] = heartbeats.begin
        self._heartbeats = heartbeats
        self._interval = interval.total_seconds()
        self._waiting: deque[Frame] = deque()  # what the transport has not taken, the oldest first
        self._waiting_bytes = 0
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        """Whether the transport has not taken all frames so far."""
        return bool(self._waiting)

    async def send(self, records: tuple[Record, ...]) -> None:
        """Send records to the transport; while it is away, through the heartbeats, in their rhythm."""
        for part in divided(records) if self.is_away else (records,):
            await super().send(part)
        if self.is_away and self._heartbeats.beat_if_due(self.buffer):
            await asyncio.sleep(self._interval)

    def take_undelivered(self) -> tuple[Frame, ...]:
        """Return, once the attempt has ended, the frames that the transport has not confirmed."""
        waiting, self._waiting = tuple(self._waiting), deque()
        return (*waiting, *super().take_undelivered())

    async def _store(self, frame: Frame, data: bytes) -> None:
        """Have the transport take a frame; where it does not within a second, the heartbeats carry it."""
        if not self.is_away and await self._is_stored(frame, data):
            return
        frame = replace(self._maker.with_header(frame), waiting_since=None)
        data = encode(frame)
        await self._heartbeats.write(self._stream, data)
        if self._waiting_bytes + len(data) > _KEPT_BYTES:
            frame, data = hollow(frame), b""
        self._waiting_bytes += len(data)
        self._waiting.append(frame)

    async def _is_stored(self, frame: Frame, data: bytes) -> bool:
        try:
            async with asyncio.timeout(AWAY_SECONDS):
                await super()._store(frame, data)
        except TimeoutError:
            logger.info("tokens of %s go through heartbeats until the transport is back", self._named())
        except TokenStreamError as error:
            logger.warning("tokens of %s go through heartbeats: %s", self._named(), error)
        else:
            return True
        self.has_all_headers = True  # any frame can become the oldest of a heartbeat
        self.frame_bytes = TAKEN_BYTES
        self._catching_up = started(self._catch_up(), f"token-stream catching up {self.origin.activity_id}")
        return False

    async def _catch_up(self) -> None:
        """Offer the transport what waits, until it has taken all of it."""
        await asyncio.sleep(0)  # the first frame begins to wait right after this task is made
        while self._waiting:
            frame = self._waiting[0]
            data = encode(frame)
            try:
                sealed = data if self.codec is None else await self.codec.seal(data)
                hurry(self._sink, self._stream)  # nothing gathers here
                await super()._store(frame, sealed)
            except Exception as error:  # noqa: BLE001 - the sink's, or the user's codec's
                logger.warning(
                    "the transport takes no more tokens of %s (%s): they go through heartbeats, and into "
                    "its result, where that has room",
                    self._named(),
                    error if isinstance(error, TokenStreamError) else type(error).__name__,
                )
                return
            self._waiting.popleft()
        self._waiting_bytes = 0
        self.has_all_headers, self.frame_bytes = Session.has_all_headers, Session.frame_bytes
        self._heartbeats.clear()

    async def _stop(self) -> None:
        await super()._stop()
        task, self._catching_up = self._catching_up, None
        if task is not None:
            with cancelled_too_late():
                await joined(task)
