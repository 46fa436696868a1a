"""One attempt without a transport: everything stays in its buffer until the activity has ended."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.events import AttemptEnded, Frame, Origin, Outcome
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY
from temporal_token_interceptor.worker.frame_maker import Tally

# Enough for a full summary. What an attempt produces beyond that is counted and dropped at once.
_BYTES: Final = 256 * 1024


class OfflineSession:
    """Takes the place of a `Session` where nothing is sent: it has the same buffer and methods.

    Once the attempt has ended, its one frame can go into `custom_data`.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.tally = Tally()
        self.telemetry = NO_TELEMETRY  # it is about sending to a transport
        self.buffer = Buffer(Budget(_BYTES), _nothing_waits)
        self._frames: tuple[Frame, ...] = ()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the memory."""
        self.buffer.close()

    async def finish(self, outcome: Outcome, *, will_retry: bool | None = None) -> None:
        """Put all records, and how the attempt ended, into a frame; into none if there are no records."""
        if records := self.buffer.take(sys.maxsize):
            end = AttemptEnded(outcome=outcome, will_retry=will_retry)
            checked = CallChecks().add(records)
            self._frames = (Frame(self.origin, 0, (*checked, end), header=True),)

    def take_undelivered(self) -> tuple[Frame, ...]:
        """Return the attempt's frame, once: a second call returns none."""
        frames, self._frames = self._frames, ()
        return frames

    def __repr__(self) -> str:
        """Describe the state."""
        return f"<OfflineSession {self.origin.attempt_id}, {len(self.buffer)} records waiting>"


def _nothing_waits() -> None:
    pass
