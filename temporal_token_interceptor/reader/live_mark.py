"""The frame in a heartbeat that a reader goes on from, where its attempt goes on in a transport."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from temporal_token_interceptor.events.origin import LIVE
from temporal_token_interceptor.protocol.cursor import Position
from temporal_token_interceptor.protocol.frames import Packet

_ID = re.compile(rf"{LIVE}[0-9]{{24}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def live_id(started_time: datetime, seq: int) -> str:
    """Return the id of the entry of a frame that was read in a heartbeat."""
    return f"{LIVE}{(started_time - _EPOCH) // _MICROSECOND:016d}{seq:08d}"


def is_live_id(text: str) -> bool:
    """Whether an id is of a time and a number that an entry from heartbeats can have."""
    return _ID.fullmatch(text) is not None


def started_time_in(live: str) -> datetime:
    """Return when the attempt of an entry from heartbeats began."""
    return _EPOCH + int(live.removeprefix(LIVE)[:16]) * _MICROSECOND


class LiveMark:
    """What was shown of the attempt of a frame.

    Args:
        live: The id of its entry.
        position: The event in it that was shown last.

    Attributes:
        started_time: When the attempt began.
        seq: The number of the frame.
    """

    def __init__(self, live: str, position: int) -> None:
        self.started_time = started_time_in(live)
        self.seq = int(live.removeprefix(LIVE)[16:])
        self._position = position
        self._attempt_id: str | None = None

    @property
    def whole(self) -> str:
        """The id of the newest frame of the attempt that was shown whole; empty for none."""
        seq = self.seq if self._position >= Position.READ else self.seq - 1
        return live_id(self.started_time, seq) if seq >= 0 else ""

    def known(self, packet: Packet) -> int:
        """Return the position in a frame up to which all was shown."""
        if packet.origin is not None and packet.origin.started_time == self.started_time:
            self._attempt_id = packet.attempt_id
        if packet.attempt_id != self._attempt_id or packet.seq > self.seq:
            return Position.BEFORE
        return self._position if packet.seq == self.seq else Position.END
