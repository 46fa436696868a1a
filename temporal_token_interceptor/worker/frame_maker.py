"""Makes the frames of one attempt: numbers them, checks the text of each call, counts what goes out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    Frame,
    Gap,
    Origin,
    Record,
    TextCheck,
    TextRun,
)
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.telemetry.attempt import NoTelemetry

# A reader that comes after the start of a long stream was trimmed can begin at any header.
_HEADER_EVERY = 64


# More calls than fit into an item of a result need not be remembered one by one.
_MOST_CALLS = 64


class Tally:
    """Counts what an attempt reports, as it is sent."""

    def __init__(self) -> None:
        self.token_count = 0
        self.call_count = 0
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Count the records of a frame."""
        for record in records:
            if isinstance(record, TextRun):  # most are: a pattern takes three times as long
                if record.kind == "text":
                    self.token_count += record.count
                    if (facts := self._calls.get(record.call)) is not None:
                        facts["token_count"] += record.count
                continue
            match record:
                case CallStarted(call=call):
                    self.call_count += 1
                    if len(self._calls) < _MOST_CALLS:
                        self._calls[call.ordinal] = {"node": call.node_name, "token_count": 0}
                case TextCheck(call=ordinal) if (facts := self._calls.get(ordinal)) is not None:
                    facts["digest"] = record.digest
                case CallEnded(call=call) if (facts := self._calls.get(call.ordinal)) is not None:
                    ended = {
                        "usage": record.usage,
                        "finish_reason": record.finish_reason,
                        "error": record.error,
                    }
                    facts.update({name: value for name, value in ended.items() if value})

    def calls(self) -> list[dict[str, Any]]:
        """Return what is known of each call: node, tokens, the digest of its text, usage, how it finished."""
        return list(self._calls.values())


class FrameMaker:
    """Turns records into numbered frames. A number is used once, also if its frame is never stored.

    Args:
        origin: The attempt.
        telemetry: Knows the trace of the attempt, and when the oldest record of a frame was captured.
    """

    def __init__(self, origin: Origin, telemetry: NoTelemetry) -> None:
        self.seq = 0
        self.tally = Tally()
        self._origin = origin
        self._telemetry = telemetry
        self._calls = CallChecks()

    @property
    def has_something(self) -> bool:
        """Whether the attempt shows in the stream: it has said something, or takes back what others said."""
        return self.seq > 0 or self._origin.attempt > 1

    def make(self, records: tuple[Record, ...], *, header: bool) -> Frame:
        """Return the next frame.

        Args:
            records: What is in it.
            header: Whether it needs a header; the first has one in any case, and so has every 64th.
        """
        header = header or self.seq % _HEADER_EVERY == 0
        open_calls = self._calls.open if header else ()  # of before these records
        checked = self._calls.add(records)
        frame = Frame(
            self._origin,
            self.seq,
            checked,
            header=header,
            open_calls=open_calls,
            traceparent=self._telemetry.traceparent,
            waiting_since=self._telemetry.taken() if self._telemetry.is_on else None,
        )
        self.seq += 1
        self.tally.add(checked)
        return frame

    def with_header(self, frame: Frame) -> Frame:
        """Return the frame that was made last with a header: a reader can begin there."""
        if frame.header:
            return frame
        began = {record.call.ordinal for record in frame.records if isinstance(record, CallStarted)}
        ended = [record.call for record in frame.records if isinstance(record, CallEnded)]
        calls = {call.ordinal: call for call in (*self._calls.open, *ended) if call.ordinal not in began}
        return replace(frame, header=True, open_calls=tuple(calls[ordinal] for ordinal in sorted(calls)))

    def last_records(self, end: AttemptEnded) -> tuple[Record, ...]:
        """Return the records of the last frame: the ends of calls that are still open, and of the attempt.

        A cancellation that Temporal raised in the thread of a sync activity may have hit the very callback
        that was about to end a call.
        """
        return (*self._calls.unfinished(), end)

    def rest(self, records: tuple[Record, ...], end: AttemptEnded) -> Frame:
        """Return a last frame of records that no transport received; it is not counted as sent."""
        open_calls = self._calls.open
        left = self._calls.add(records)
        checked = (*left, *self._calls.add(self._calls.unfinished()), end)
        return Frame(self._origin, self.seq, checked, header=True, open_calls=open_calls)


class Leftover:
    """What the transport of an attempt did not take, for its result or for redelivery."""

    def __init__(self) -> None:
        self.unstored: Frame | None = None
        """The frame that was given to the transport and is not confirmed."""
        self.end_is_stored = False
        self._records: tuple[Record, ...] = ()
        self._received: int | None = None

    def keep(self, buffer: Buffer) -> int:
        """Take everything out of a buffer, for good; return how many records that were."""
        left = len(buffer)
        self._records += buffer.take(sys.maxsize)
        if self._received is None:
            self._received = buffer.received
        buffer.close()
        return left

    def take(self, maker: FrameMaker, buffer: Buffer, end: AttemptEnded | None) -> tuple[Frame, ...]:
        """Return the frames that are left, each with a header; after that, none.

        Args:
            maker: That of the attempt.
            buffer: That of the attempt: what it received since `keep` is lost, and a gap.
            end: How the attempt ended; None: it did not, and nothing is left of it.
        """
        unstored, self.unstored = self.unstored, None
        records, self._records = self._records, ()
        if end is None or self.end_is_stored or not (records or maker.has_something):
            return ()
        self.end_is_stored = True  # or its frame is handed out now
        # How long a frame waited is not measured by its delivery in a result or later.
        first = () if unstored is None else (replace(maker.with_header(unstored), waiting_since=None),)
        if first and end in first[0].records:
            return first
        is_incomplete = buffer.received != self._received  # after a failure nothing more is kept
        gap = (Gap(missing=None, reason="overflow"),) if is_incomplete else ()
        return (*first, maker.rest((*records, *gap), end))
