"""Events as they stand in a frame: each JSON form once, writing beside reading.

A frame states a call's facts once, when the call starts, and refers to it by number from then on. So
reading needs to know the open calls: `unfold` keeps the table up to date. docs/protocol.md has it all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Event,
    Gap,
    Origin,
    ReasoningEvent,
    Record,
    TextCheck,
    TextRun,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.protocol.cursor import Position
from temporal_token_interceptor.protocol.graph_json import AROUND, KIND_AROUND, facts_around, unfold_around
from temporal_token_interceptor.protocol.origin_json import (
    BROKEN,
    call_from_wire,
    call_to_wire,
    number,
    optional,
    typed,
    without_empty,
)
from temporal_token_interceptor.protocol.text_check import HASHED_TOGETHER, TextDigest

Wire = list[Any]
"""One event as it stands in a frame: a JSON array whose first element names its kind."""

MAX_OPEN_CALLS = 10_000
"""Of an attempt. A call that begins beyond these is not read: no agent has as many at work at once."""

# ------------------------------------------------------------------ events, writing


def record_to_wire(record: Record) -> Wire:
    """Return the form of a record."""
    if isinstance(record, TextRun):  # most are: a pattern takes three times as long
        wire = [record.kind, record.call, record.first_index, record.texts]
        if record.block:
            return [*wire, record.count, record.block]
        return wire if record.count == len(record.texts) else [*wire, record.count]
    match record:
        case TextCheck(call, count, digest):
            return ["check", call, count, digest]
        case ToolCallChunk():
            part = ["tool_call", record.call.ordinal, record.index, record.id, record.name, record.args]
            return [*part, True] if record.invalid else part
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
                "more": record.additional_kwargs,
            }
            return ["call_end", record.call.ordinal, without_empty(facts)]
        case AttemptEnded():
            return ["attempt_end", record.outcome, record.will_retry]
        case Gap():
            return ["gap", record.call.ordinal if record.call else None, record.missing, record.reason]
        case _:  # type checkers prove that the rest are those of graph_json.py
            return [KIND_AROUND[type(record)], facts_around(record)]


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
            elif (unfold_one := _UNFOLD.get(typed(str, kind))) is not None:
                events.append(unfold_one(wire, origin, calls, f"{prefix}{position}"))
        except BROKEN:
            events.append(Gap(missing=None, reason="unreadable", origin=origin, cursor=f"{prefix}{position}"))
        position += 1
    if len(digests) > MAX_OPEN_CALLS:
        digests.clear()  # of calls that ended without a check; a check that comes all the same fails
    return events


def skim(
    wires: Iterable[Wire], origin: Origin, calls: dict[int, Call], digests: dict[int, TextDigest]
) -> list[Event]:
    """Keep calls and texts up to date as `unfold` does, and return the ends of attempts alone.

    For what a reader that resumes has been shown already: it costs a third of making the events.
    """
    ends: list[Event] = []
    for wire in wires:
        try:
            kind = wire[0]
            if kind == "text":
                _read_text(wire, origin, calls, digests)
            elif kind == "check":
                digests.pop(_read_check(wire)[0], None)
            elif kind in _KEEPS_CALLS:
                event = _UNFOLD[kind](wire, origin, calls, "")
                if type(event) is AttemptEnded:
                    ends.append(event)
        except BROKEN:
            continue  # its gap has been shown
    if len(digests) > MAX_OPEN_CALLS:
        digests.clear()
    return ends


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
    block = wire[_BLOCK] if len(wire) > _BLOCK and type(wire[_BLOCK]) is int and wire[_BLOCK] > 0 else 0
    if wire[0] == "text":
        call = _read_text(wire, origin, calls, digests)
        index, texts = wire[2], wire[3]
        node, attempt = call.node_name, origin.attempt
        for place, piece in enumerate(texts):
            at = f"{prefix}{position + place}"
            event = TokenEvent(
                piece, node, index + place, attempt=attempt, call=call, block=block, origin=origin, cursor=at
            )
            events.append(event)
        return len(texts)
    _, ordinal, index, texts, *more = wire
    _joined(index, texts)
    number(more[0] if more else 0)
    call = _call(ordinal, origin, calls)
    for place, piece in enumerate(texts):
        at = f"{prefix}{position + place}"
        events.append(
            ReasoningEvent(token=piece, index=index + place, call=call, block=block, origin=origin, cursor=at)
        )
    return len(texts)


_BLOCK = 5  # the place of a block's number in a text form, behind that of its pieces


def _read_text(wire: Wire, origin: Origin, calls: dict[int, Call], digests: dict[int, TextDigest]) -> Call:
    """Check a text form and add its text to what was read of its call, which is returned."""
    _, ordinal, index, texts, *more = wire
    text = _joined(index, texts)
    count = number(more[0]) if more else len(texts)
    call = _call(ordinal, origin, calls)
    if (digest := digests.get(ordinal)) is None:
        digest = digests[ordinal] = TextDigest()
    digest.count += count
    digest.unhashed.append(text)  # not by `add`: once a token
    if len(digest.unhashed) >= HASHED_TOGETHER:
        digest.update()
    return call


def _joined(index: object, texts: list[str]) -> str:
    if type(index) is not int or index < 0 or type(texts) is not list:
        raise TypeError("a text form has an index and a list of texts")
    return "".join(texts)  # fails, at the speed of C, unless all are strings


def _unfold_check(
    wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str, digests: dict[int, TextDigest]
) -> Gap | None:
    """Compare a call's text with what was sent; return None if they are the same."""
    ordinal, count, digest = _read_check(wire)
    missing = count - (read := digests.get(ordinal) or TextDigest()).count
    same = missing == 0 and read.hexdigest() == digest
    call = _call(ordinal, origin, calls)
    digests.pop(ordinal, None)
    if same:
        return None
    return Gap(missing=max(missing, 0) or None, reason="mismatch", call=call, origin=origin, cursor=cursor)


def _read_check(wire: Wire) -> tuple[int, int, str]:
    _, ordinal, count, digest, *_ = wire
    return number(ordinal), number(count), typed(str, digest)


def _unfold_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    call = call_from_wire(wire[1], origin.activity_id)
    _keep(call, calls)
    return CallStarted(call=call, origin=origin, cursor=cursor)


def _unfold_call_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, facts, *_ = wire
    event = CallEnded(
        call=calls.get(number(ordinal)) or _unknown_call(ordinal, origin),
        usage=_usage(facts.get("usage")),
        finish_reason=optional(str, facts.get("finish")),
        error=optional(str, facts.get("error")),
        message_id=optional(str, facts.get("msg")),
        streamed=not optional(bool, facts.get("whole")),
        unfinished=optional(bool, facts.get("open")) or False,
        additional_kwargs=optional(dict, facts.get("more")),
        origin=origin,
        cursor=cursor,
    )
    calls.pop(ordinal, None)
    return event


def _usage(usage: object) -> dict[str, Any] | None:
    """Return what is numbers in LangChain's `usage_metadata`, and in the details within it."""
    if usage is None:
        return None
    found: dict[str, Any] = {}
    for name, count in typed(dict, usage).items():
        if name.endswith("_details"):
            if type(count) is dict:
                found[name] = {part: number for part, number in count.items() if type(number) is int}
        elif type(count) is int:
            found[name] = count
    return found or None


def _unfold_tool_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, index, id_, name, args, *more = wire
    return ToolCallChunk(
        index=index if type(index) is int else optional(str, index),
        id=optional(str, id_),
        name=optional(str, name),
        args=typed(str, args),
        invalid=bool(more) and more[0] is True,
        call=_call(ordinal, origin, calls),
        origin=origin,
        cursor=cursor,
    )


def _unfold_block(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, block, *_ = wire
    content = typed(dict, block)
    return ContentBlock(block=content, call=_call(ordinal, origin, calls), origin=origin, cursor=cursor)


def _unfold_attempt_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, outcome, will_retry, *_ = wire
    word: Any = typed(str, outcome)  # a later release may know more of them
    event = AttemptEnded(outcome=word, will_retry=optional(bool, will_retry), origin=origin, cursor=cursor)
    calls.clear()
    return event


def _unfold_gap(wire: Wire, origin: Origin, calls: dict[int, Call], cursor: str) -> Event:
    _, ordinal, missing, reason, *_ = wire
    word: Any = typed(str, reason)
    count = None if missing is None else number(missing)
    call = None if ordinal is None else _call(ordinal, origin, calls)
    return Gap(missing=count, reason=word, call=call, origin=origin, cursor=cursor)


_UNFOLD = {
    "call": _unfold_call,
    "call_end": _unfold_call_end,
    "tool_call": _unfold_tool_call,
    "block": _unfold_block,
    "attempt_end": _unfold_attempt_end,
    "gap": _unfold_gap,
    **dict.fromkeys(AROUND, unfold_around),
}

_KEEPS_CALLS = frozenset({"call", "call_end", "attempt_end"})


def _call(ordinal: object, origin: Origin, calls: dict[int, Call]) -> Call:
    """Return the open call of a number; raise `TypeError` for what is none: `true` equals 1, and is none."""
    known = calls.get(ordinal) if type(ordinal) is int else None
    return known or _unknown_call(number(ordinal), origin, calls)


def _unknown_call(ordinal: int, origin: Origin, calls: dict[int, Call] | None = None) -> Call:
    """Stand in for a call whose start was lost: a `Gap` has reported that."""
    call = Call(ordinal=ordinal, id=f"{origin.activity_id}:{ordinal}", node_name=origin.activity_type)
    if calls is not None:
        _keep(call, calls)
    return call


def _keep(call: Call, calls: dict[int, Call]) -> None:
    if len(calls) >= MAX_OPEN_CALLS and call.ordinal not in calls:
        raise ValueError("too many open calls")
    calls[call.ordinal] = call
