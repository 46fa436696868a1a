"""What is put into `custom_data`: an item that says what an attempt's models said, in Temporal's own history.

Two kinds of items differ by what is in them. Frames that no transport took travel whole, in the very form
that they have in a stream, so that readers need no second protocol; what was delivered is only counted.
Both keep to a size, and what had to be left out is counted in the item itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Frame,
    Gap,
    GraphEvent,
    Origin,
    Record,
    TextCheck,
    TextRun,
    ToolCallChunk,
)
from temporal_token_interceptor.protocol.frame_lists import shortened
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.origin_json import time_to_wire
from temporal_token_interceptor.protocol.result_items import MARK
from temporal_token_interceptor.worker.frame_maker import Tally

COUNTS_BYTES: Final = 4 * 1024
FRAMES_BYTES: Final = 128 * 1024

# The form of a gap in a frame, generously.
_GAP_BYTES = 64

# What is left out where there is no room; all else names the attempt and its calls, and stays.
_SAID = TextRun | ToolCallChunk | ContentBlock | CustomEvent | GraphEvent

Item = dict[str, Any]


def item_of(undelivered: Sequence[Frame], origin: Origin, tally: Tally, room: int) -> Item | None:
    """Return the item of an attempt: what was not delivered, else counts; None if nothing was said.

    Args:
        undelivered: Frames that no transport took.
        origin: The attempt.
        tally: What was sent.
        room: Bytes that the item may have.
    """
    said = (record for frame in undelivered for record in frame.records)
    is_retry = len({frame.origin.attempt_id for frame in undelivered}) > 1  # and names the attempts before it
    # The end alone, too, after words that were delivered: who has those would miss it.
    if (
        is_retry
        or (tally.call_count and undelivered)
        or any(not isinstance(record, AttemptEnded) for record in said)
    ):
        return enclosed(undelivered, room)
    return counted(origin, tally, room) if tally.call_count else None


# ------------------------------------------------------------------ counts: what was delivered


def counted(origin: Origin, tally: Tally, room: int) -> Item | None:
    """Return an item that counts what a transport took; None if there is no room for it.

    Args:
        origin: The attempt.
        tally: What it said.
        room: Bytes; at most 4 KiB are used. Calls that do not fit are left out, the totals stay exact.
    """
    calls = tally.calls()
    while True:
        body = {
            "attempt": origin.attempt,
            "attempt_id": origin.attempt_id,
            "started_time": time_to_wire(origin.started_time),
            "token_count": tally.token_count,
            "call_count": tally.call_count,
            "calls": calls,
        }
        item = {MARK: orjson.loads(orjson.dumps(body, default=str))}
        if _size(item) <= min(room, COUNTS_BYTES):
            return item
        if not calls:
            return None
        calls = calls[: len(calls) * 7 // 8]  # by eighths: little room is wasted, in few tries


# ------------------------------------------------------------------ frames: what was not


def enclosed(frames: Sequence[Frame], room: int) -> Item | None:
    """Return an item that carries frames; None if not even their outline has room.

    What is too long loses its token boundaries first, and only then its later parts: of each call the
    beginning stays, followed by a `Gap` that counts what was cut.

    Args:
        frames: In order, each with a header.
        room: Bytes; at most 128 KiB are used.
    """
    room = min(room, FRAMES_BYTES)
    ways: tuple[Callable[[], Sequence[Frame]], ...] = (
        lambda: frames,
        lambda: [_joined(frame) for frame in frames],
        lambda: _cut([_joined(frame) for frame in frames], room),
        lambda: [outline(frame) for frame in frames],
    )
    for way in ways:
        item = _item(way())
        if _size(item) <= room and _is_utf8(item):
            return item
    return None


def hollow(frame: Frame) -> Frame:
    """Return a frame without what was said in it: a `Gap` counts the pieces."""
    pieces = sum(_pieces(record) for record in frame.records if not _is_structural(record))
    kept = tuple(filter(_is_structural, _unchecked(frame).records))
    gap = (Gap(missing=pieces, reason="overflow"),) if pieces else ()
    return replace(frame, records=(*gap, *kept))


def _item(frames: Sequence[Frame]) -> Item:
    found: list[Item] = []
    before: Item | None = None
    for frame in frames:
        body = json.loads(encode(frame))
        found.append(body if frame.header else shortened(body, before))
        before = body
    return {MARK: {"frames": found}}


def _size(value: object) -> int:
    """How long a value is as JSON: at most, because some converters escape all but ASCII."""
    return len(json.dumps(value, separators=(",", ":")))


def _is_utf8(item: Item) -> bool:
    """Whether every data converter can write it: not where a provider cut an emoji in two."""
    try:
        orjson.dumps(item)
    except orjson.JSONEncodeError:
        return False
    return True


def _joined(frame: Frame) -> Frame:
    records = (
        replace(record, texts=[_mended("".join(record.texts))]) if isinstance(record, TextRun) else record
        for record in frame.records
    )
    return replace(frame, records=tuple(records))


def _mended(text: str) -> str:
    """Put halves of emojis together; a half that has lost its other becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _cut(frames: Sequence[Frame], room: int) -> list[Frame]:
    """Keep of each call what fits, from its beginning, and its start and end in any case."""
    frames = [_unchecked(frame) for frame in frames]
    hollow = [replace(frame, records=tuple(filter(_is_structural, frame.records))) for frame in frames]
    calls = {_ordinal(record) for frame in frames for record in frame.records}
    spare = room - _size(_item(hollow)) - _GAP_BYTES * len(calls) * len(frames)
    full: set[int | None] = set()
    cut: list[Frame] = []
    for frame in frames:
        kept: list[Record] = []
        missing: dict[int | None, int] = {}
        for record in frame.records:
            ordinal = _ordinal(record)
            if _is_structural(record):
                kept += _gaps(missing, None if isinstance(record, AttemptEnded) else ordinal)
                kept.append(record)
                continue
            whole = 0 if ordinal in full else _cost(frame, record)
            piece = record if 0 < whole <= spare else None
            if piece is None:
                piece = _beginning(frame, record, spare, whole)
                full.add(ordinal)
                missing[ordinal] = missing.get(ordinal, 0) + _pieces(record)
            if piece is not None:
                spare -= _cost(frame, piece)
                kept.append(piece)
        cut.append(replace(frame, records=(*kept, *_gaps(missing, None))))
    return cut


def _unchecked(frame: Frame) -> Frame:
    """Leave out what the text adds up to: a reader gets a gap for the cut, and needs no second one."""
    return replace(frame, records=tuple(r for r in frame.records if not isinstance(r, TextCheck)))


def _gaps(missing: dict[int | None, int], ordinal: int | None) -> list[Record]:
    """Take out what is missing of a call, or, without one, of all calls."""
    calls = list(missing) if ordinal is None else [ordinal] if ordinal in missing else []
    return [
        Gap(
            missing=missing.pop(call),
            reason="overflow",
            call=None if call is None else Call(ordinal=call, node_name=""),  # a frame has but the number
        )
        for call in calls
    ]


def outline(frame: Frame) -> Frame:
    """Say only how much there was, and how it ended."""
    ends = tuple(record for record in frame.records if isinstance(record, AttemptEnded))
    is_countable = not any(isinstance(record, Gap) and record.missing is None for record in frame.records)
    pieces = sum(map(_pieces, frame.records)) if is_countable else 0
    gap = (Gap(missing=pieces or None, reason="overflow"),) if len(frame.records) > len(ends) else ()
    return replace(frame, records=(*gap, *ends), open_calls=())


def _beginning(frame: Frame, record: Record, spare: int, cost: int) -> Record | None:
    """Return the beginning of a text that came in one piece, such as that of a model that cannot stream."""
    if not cost or not isinstance(record, TextRun) or record.count > 1:
        return None
    (text,) = record.texts
    length = len(text) * max(0, spare) // cost
    while length:
        piece = replace(record, texts=[text[:length]])
        if _cost(frame, piece) <= spare:
            return piece
        length = length * 3 // 4
    return None


def _cost(frame: Frame, record: Record) -> int:
    alone = replace(frame, records=(record,), header=False)
    return _size(json.loads(encode(alone))["e"])


def _is_structural(record: Record) -> bool:
    return not isinstance(record, _SAID)


def _ordinal(record: Record) -> int | None:
    match record:
        case TextRun():
            return record.call
        case ToolCallChunk() | ContentBlock() | CallStarted() | CallEnded():
            return record.call.ordinal
        case Gap(call=call) if call is not None:
            return call.ordinal
        case _:
            return None


def _pieces(record: Record) -> int:
    match record:
        case TextRun():
            return record.count
        case ToolCallChunk() | ContentBlock() | CustomEvent() | GraphEvent():
            return 1
        case Gap(missing=int(missing)):
            return missing
        case _:
            return 0
