"""What one activity's result, as the history has it, holds of its run's stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from temporal_token_interceptor.errors import ProtocolError, TransportUnavailable
from temporal_token_interceptor.events.origin import HISTORY, Origin
from temporal_token_interceptor.protocol.attempts import Activity, activity_of
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.result_items import MARK, counts_in, frames_in, lacking
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# How long the end of a stream may be held up by a look at the history, or by the decoding of one result.
# A look takes 3 ms for a short history and 0.2 s for one of 19 MB, on loopback; Temporal ends one at 50 MB.
_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Contents:
    """What the result of an activity holds of the run's stream.

    Attributes:
        frames: Frames that no transport took.
        counted: A frame that says how much a transport took, for readers who did not get it.
    """

    frames: Sequence[Entry] = ()
    counted: Sequence[Entry] = ()


class Result:
    """What one activity returned, as its event in the history has it; decoded once, when a reader asks.

    Attributes:
        activity: The activity.
        attempt: The number of the attempt that completed.
        started_time: When that began; None for a local activity, of which the history does not say.
    """

    def __init__(
        self,
        origin: Origin,
        event_id: int,
        payloads: Sequence[Payload],
        converter: DataConverter,
        *,
        local: bool = False,
    ) -> None:
        self.activity = activity_of(origin)
        self.attempt = origin.attempt
        self.started_time = None if local else origin.started_time
        self.id = f"{HISTORY}{event_id:015d}"
        self._origin = origin
        self._payloads: Sequence[Payload] = payloads if _may_tell(payloads) else ()
        self._converter = converter
        self._turn = asyncio.Lock()
        self._contents: Contents | None = None

    @property
    def named(self) -> tuple[Activity, int, datetime | None]:
        """What names the attempt that completed: its activity, its number, when it began."""
        return self.activity, self.attempt, self.started_time

    async def contents(self) -> Contents:
        """Return what the result holds: mostly nothing.

        Raises:
            TransportUnavailable: the user's codec took too long.
        """
        if self._payloads and self._contents is None:
            async with self._turn:
                if self._contents is None:
                    self._contents = await in_time(self._decoded(), "a result of it could not be decoded")
                    self._payloads = ()
        return self._contents or _NOTHING

    async def _decoded(self) -> Contents:
        try:
            (result,) = await self._converter.decode(self._payloads)
        except Exception as error:  # noqa: BLE001 - the user's codec may raise anything
            logger.warning(
                "skipping the result of activity %r of %r: it cannot be decoded (%s); tokens that only it "
                "has are missing",
                self._origin.activity_id,
                self._origin.workflow_id,
                type(error).__name__,
            )
            return _NOTHING
        attempts: set[str] = set()
        frames = [frame for frame in frames_in(result) if self._is_of_this_attempt(frame, attempts)]
        counted = [
            lacking(self._origin, counts)
            for counts in counts_in(result)
            if self.started_time is not None and counts.started_time == self.started_time
        ]
        return Contents(self._placed(frames), self._placed(counted))

    def _is_of_this_attempt(self, frame: bytes, attempts: set[str]) -> bool:
        """Whether the attempt that returned the result sent the frame: results travel, also into others.

        Args:
            frame: The frame.
            attempts: Of which a frame before had a header that shows it; a frame without one follows that.
        """
        try:
            packet = decode(frame, StreamKey.of(self._origin))
        except ProtocolError as error:
            logger.warning(
                "skipping a frame in the result of activity %r of %r: %s",
                self._origin.activity_id,
                self._origin.workflow_id,
                error,
            )
            return False
        origin = packet.origin
        if origin is None:
            return packet.attempt_id in attempts
        if not packet.events and self._is_before(origin):
            return True  # it only names the attempt
        if origin.activity_id != self._origin.activity_id or self.started_time not in (
            None,
            origin.started_time,
        ):
            return False
        attempts.add(packet.attempt_id)
        return True

    def _is_before(self, origin: Origin) -> bool:
        """Whether an attempt is one of the same activity, before that which returned the result."""
        return (
            self.started_time is not None
            and activity_of(origin) == self.activity
            and origin.started_time < self.started_time
        )

    def _placed(self, frames: Sequence[bytes]) -> Sequence[Entry]:
        return [Entry(f"{self.id}-{place:04d}", frame) for place, frame in enumerate(frames)]


_NOTHING = Contents()


def _may_tell(payloads: Sequence[Payload]) -> bool:
    """Whether a result is worth decoding: JSON that is not sealed shows it."""
    return any(
        payload.metadata.get("encoding") != b"json/plain" or MARK.encode() in payload.data
        for payload in payloads
    )


async def in_time(asking: Awaitable[_T], otherwise: str) -> _T:
    """Return what was asked for.

    Raises:
        TransportUnavailable: it took too long.
    """
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return await asking
    except TimeoutError:
        raise TransportUnavailable(f"{otherwise} within {_LOOK_SECONDS:g} s") from None
