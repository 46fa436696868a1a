"""Events as they stand in a frame: each JSON form once, writing beside reading.

A frame tells a call's facts once, when the call starts, and refers to it by number from then on. So
reading needs to know the open calls: `unfold` keeps the table up to date.

`docs/protocol.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    Record,
    TextCheck,
    TextRun,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Position
from temporal_token_interceptor.protocol.origin_json import (
    BROKEN,
    call_from_wire,
    call_to_wire,
    typed,
    without_empty,
)
from temporal_token_interceptor.protocol.text_check import TextDigest

Wire = list[Any]
"""One event as it stands in a frame: a JSON array whose first element names its kind."""

# ------------------------------------------------------------------ events, writing


def record_to_wire(record: Record) -> Wire:
    """Return the form of a record."""
    match record:
        case TextRun(kind, call, first, texts, count):
            return [kind, call, first, texts] if count == len(texts) else [kind, call, first, texts, count]
        case TextCheck(call, count, digest):
            return ["check", call, count, digest]
        case ToolCallChunk():
            return ["tool_call", record.call.ordinal, record.index, record.id, record.name, record.args]
        case ContentBlock():
            return ["block", record.call.ordinal, record.block]
        case CallStarted():
            return ["call", call_to_wire(record.call)]
        case CallEnded():
            facts = {
                "usage": record.usage,
                "finish": record.finish_reason,
                "error": record.error,
                "msg": record.message_id,
                "whole": not record.streamed,
                "open": record.unfinished,
            }
            return ["call_end", record.call.ordinal, without_empty(facts)]
        case ToolStarted() | ToolEnded() | NodeStarted() | NodeEnded() | CustomEvent() | GraphEvent():
            return [_KIND_AROUND[type(record)], _facts_around(record)]
        case AttemptEnded():
            return ["attempt_end", record.outcome, record.will_retry]
        case Gap():
            return ["gap", record.call.ordinal if record.call else None, record.missing, record.reason]


# ------------------------------------------------------------------ events around the calls

_Around = ToolStarted | ToolEnded | NodeStarted | NodeEnded | CustomEvent | GraphEvent

_AROUND: dict[str, type[_Around]] = {
    "tool": ToolStarted,
    "tool_end": ToolEnded,
    "node": NodeStarted,
    "node_end": NodeEnded,
    "custom": CustomEvent,
    "graph": GraphEvent,
}
_KIND_AROUND = {event: kind for kind, event in _AROUND.items()}

_MEMBERS = {  # of their facts, by the name of the field
    "name": ("name", str),
    "mode": ("mode", str),
    "node_name": ("node", str),
    "path": ("path", list),
    "step": ("step", int),
    "run_id": ("run", str),
    "tool_call_id": ("id", str),
    "error": ("error", str),
    "input": ("in", str),
    "output": ("out", object),
    "data": ("data", object),
    "truncated": ("cut", bool),
    "unfinished": ("open", bool),
}
_FIELDS = {event: [field for field in fields(event) if field.name in _MEMBERS] for event in _AROUND.values()}


def _facts_around(event: _Around) -> dict[str, Any]:
    """Return what differs from the default."""
    values = ((field, getattr(event, field.name)) for field in _FIELDS[type(event)])
    return {_MEMBERS[field.name][0]: value for field, value in values if value != field.default}


def _unfold_around(wire: Wire, origin: Origin, _: dict[int, Call], cursor: str) -> Event:
    event, facts = _AROUND[wire[0]], wire[1]
    values: dict[str, Any] = {}
    for field in _FIELDS[event]:
        member, kind = _MEMBERS[field.name]
        if member in facts:
            value: Any = typed(kind, facts[member])
            values[field.name] = tuple(value) if kind is list else value
    return event(**values, origin=origin, cursor=cursor)


# ------------------------------------------------------------------ events, reading


def unfold(
    wires: Iterable[Wire],
    origin: Origin,
    calls: dict[int, Call],
    prefix: str,
    digests: dict[int, TextDigest] | None = None,
) -> list[Event]:
    """Return the events of a packet, in order, each with its cursor.

    A form that cannot be read costs only itself, and its position: the reader gets a `Gap` there. A kind
    that is not known gives nothing but takes a position too, so that a cursor means the same to a reader
    that knows the kind.

    A list, not a generator: most packets hold one event, and a generator costs more than that.

    Args:
        wires: The packet's events.
        origin: The attempt.
        calls: The open calls of the attempt by ordinal; kept up to date by this function.
        prefix: What cursors begin with, by `Cursor.prefix`; positions count from `Position.FIRST`.
        digests: The text of the open calls as read so far, by ordinal; kept up to date by this function.
    """
    digests = {} if digests is None else digests
    events: list[Event] = []
    position = Position.FIRST
    for wire in wires:
        try:
            if type(wire) is not list:
                raise TypeError("an event is an array")
            kind = wire[0]
            if kind == "text" or kind == "reasoning":  # noqa: PLR1714 - twice as fast as `in`, once a run
                position += _unfold_text(
                    wire, origin, calls, prefix, position, digests=digests, events=events
                )
                continue
            if kind == "check":
                gap = _unfold_check(wire, origin, calls, f"{prefix}{position}", digests)
                if gap is not None:
                    events.append(gap)
            elif (unfold_one := _UNFOLD.get(kind)) is not None:
                events.append(unfold_one(wire, origin, calls, f"{prefix}{position}"))
        except BROKEN:
            events.append(Gap(missing=None, reason="unreadable", origin=origin, cursor=f"{prefix}{position}"))
        position += 1
    return events


# Each of these reads all that can fail before it changes anything: what is broken takes one position.


def _unfold_text(
    wire: Wire,
    origin: Origin,
    calls: dict[int, Call],
    prefix: str,
    position: int,
    *,
    digests: dict[int, TextDigest],
    events: list[Event],
) -> int:
    """Add an event for each piece; return how many there are."""
    kind, ordinal, index, texts, *more = wire
    if type(index) is not int or type(texts) is not list:
        raise TypeError("a text form has an index and a list of texts")
    text = "".join(texts)  # fails, at the speed of C, unless all are strings
    pieces = len(texts)
    count = typed(int, more[0]) if more else pieces
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    if kind == "text":
        if (digest := digests.get(ordinal)) is None:
            digest = digests[ordinal] = TextDigest()
        digest.add(text, count)
        node_name, attempt = call.node_name, origin.attempt
        for place, piece in enumerate(texts):
            events.append(
                TokenEvent(
                    piece,
                    node_name,
                    index + place,
                    attempt=attempt,
                    call=call,
                    origin=origin,
                    cursor=f"{prefix}{position + place}",
                )
            )
    else:
        for place, piece in enumerate(texts):
            cursor = f"{prefix}{position + place}"
            events.append(
                ReasoningEvent(token=piece, index=index + place, call=call, origin=origin, cursor=cursor)
            )
    return pieces


def _unfold_check(
    wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str, digests: dict[int, TextDigest]
) -> Gap | None:
    """Compare a call's text with what was sent; return None if they are the same."""
    _, ordinal, count, digest, *_ = wire
    missing = typed(int, count) - (read := digests.get(ordinal) or TextDigest()).count
    same = missing == 0 and read.hexdigest() == typed(str, digest)
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    digests.pop(ordinal, None)
    if same:
        return None
    missing_count = missing if missing > 0 else None
    return Gap(missing=missing_count, reason="mismatch", call=call, origin=origin, cursor=cursor)


def _unfold_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    call = call_from_wire(wire[1], origin.activity_id)
    calls[call.ordinal] = call
    return CallStarted(call=call, origin=origin, cursor=cursor)


def _unfold_call_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, facts, *_ = wire
    call = calls.pop(ordinal, None) or _unknown_call(ordinal, origin)
    return CallEnded(
        call=call,
        usage=facts.get("usage"),
        finish_reason=facts.get("finish"),
        error=facts.get("error"),
        message_id=facts.get("msg"),
        streamed=not facts.get("whole", False),
        unfinished=facts.get("open", False),
        origin=origin,
        cursor=cursor,
    )


def _unfold_tool_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, index, id_, name, args, *_ = wire
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return ToolCallChunk(
        index=index, id=id_, name=name, args=typed(str, args), call=call, origin=origin, cursor=cursor
    )


def _unfold_block(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, block, *_ = wire
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return ContentBlock(block=typed(dict, block), call=call, origin=origin, cursor=cursor)


def _unfold_attempt_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, outcome, will_retry, *_ = wire
    calls.clear()
    return AttemptEnded(outcome=outcome, will_retry=will_retry, origin=origin, cursor=cursor)


def _unfold_gap(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, missing, reason, *_ = wire
    call = None if ordinal is None else calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return Gap(missing=missing, reason=reason, call=call, origin=origin, cursor=cursor)


_UNFOLD = {
    "call": _unfold_call,
    "call_end": _unfold_call_end,
    "tool_call": _unfold_tool_call,
    "block": _unfold_block,
    "attempt_end": _unfold_attempt_end,
    "gap": _unfold_gap,
    **dict.fromkeys(_AROUND, _unfold_around),
}


def _unknown_call(ordinal: int, origin: Origin, calls: dict[int, Call] | None = None) -> Call:
    """Stand in for a call whose start was lost: a reader has been told so by a `Gap`."""
    call = Call(
        ordinal=typed(int, ordinal), id=f"{origin.activity_id}:{ordinal}", node_name=origin.activity_type
    )
    if calls is not None:
        calls[ordinal] = call
    return call
