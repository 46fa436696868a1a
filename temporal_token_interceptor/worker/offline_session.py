"""One attempt without a transport: everything stays in its buffer until the activity has ended."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

from temporal_token_interceptor.capture.buffer import Budget, Buffer
from temporal_token_interceptor.events import AttemptEnded, Frame, Origin, Outcome
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY
from temporal_token_interceptor.worker.summary import Tally

# Enough for a summary filled to its last byte. What an attempt says beyond it is counted and let go at once.
_BYTES: Final = 256 * 1024


class Recording:
    """Takes the place of a `Session` where there is no sink: the same to whoever records into it.

    Nothing is sent and nothing waits. The frame is there for `custom_data`, once the attempt has ended.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.tally = Tally()
        self.telemetry = NO_TELEMETRY  # it is about the way to a transport
        self.buffer = Buffer(Budget(_BYTES), _nobody_waits)
        self.undelivered: tuple[Frame, ...] = ()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of everything."""
        self.buffer.close()

    async def finish(self, outcome: Outcome, *, will_retry: bool | None = None) -> None:
        """Put what was said, and how the attempt ended, into a frame; into none if nothing was said."""
        if records := self.buffer.take(sys.maxsize):
            end = AttemptEnded(outcome=outcome, will_retry=will_retry)
            checked = CallChecks().add(records)
            self.undelivered = (Frame(self.origin, 0, (*checked, end), header=True),)

    def __repr__(self) -> str:
        """Tell the state."""
        return f"<Recording {self.origin.attempt_id}, {len(self.buffer)} records waiting>"


def _nobody_waits() -> None:
    pass
