"""What stands in `custom_data`, read again: frames that no transport took, and counts of what one did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import AttemptEnded, Event, Frame, Gap, Origin
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frame_lists import lengthened
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.origin_json import BROKEN, number, time_from_wire, typed

MARK: Final = "token_stream"
"""The only member of an item; its value has `frames`, or counts."""

CUSTOM_DATA: Final = "custom_data"
"""The member of a result that holds the items, in a list."""


def frames_in(result: object) -> Iterator[bytes]:
    """Find the frames in an activity's result, as plain data; each in the form of a stream's entry."""
    for item in _items_in(result):
        yield from _frames_of(item)


def _items_in(result: object) -> Iterator[object]:
    """Find the items in the list that is meant for them, and in no other: what a model wrote stays text."""
    items = result.get(CUSTOM_DATA) if isinstance(result, Mapping) else None
    if isinstance(items, list):
        yield from items


class Counts(NamedTuple):
    """What an item says that a transport took.

    Attributes:
        attempt_id: The attempt.
        started_time: When it began: with its activity, this names the attempt in the history.
        token_count: How many pieces of text it said.
    """

    attempt_id: str
    started_time: datetime
    token_count: int


def counts_in(result: object) -> Iterator[Counts]:
    """Find the counts in an activity's result, as plain data; also of other attempts, if it hands them on."""
    for item in _items_in(result):
        match item.get(MARK) if isinstance(item, Mapping) else None:
            case {"attempt_id": str(name), "started_time": int(time), "token_count": int(count)}:
                with suppress(*BROKEN):
                    yield Counts(name, time_from_wire(typed(int, time)), number(count))


def lacking(origin: Origin, counts: Counts) -> bytes:
    """Return a frame, in the form of a stream's entry, for readers who got nothing of what was counted."""
    said = Gap(missing=counts.token_count or None, reason="transport")
    origin = replace(origin, attempt_id=counts.attempt_id)
    records = (said, AttemptEnded(outcome="completed_provisional"))
    return encode(Frame(origin, 0, records, header=True))


def summary_events(item: object) -> list[Event]:
    """Return what an item of `custom_data` holds, as the events of a subscription.

    For clients that get the items by themselves, such as from the stream buffer of `langgraph-temporal`.
    An item that is not ours, or one that only counts, holds no events.
    """
    events: list[Event] = []
    attempts: Attempts | None = None
    for entry, data in enumerate(_frames_of(item)):
        try:
            packet = decode(data)
        except ProtocolError:
            continue
        if attempts is None:
            attempts = Attempts(packet.origin.run_id if packet.origin else "")
        events += attempts.read(f"{entry:04d}", packet)
    return events


def _frames_of(item: object) -> Iterator[bytes]:
    body = item.get(MARK) if isinstance(item, Mapping) else None
    frames = body.get("frames") if isinstance(body, Mapping) else None
    yield from lengthened(frames)
