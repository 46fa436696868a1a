"""Origins, calls and events as they stand in a frame: each JSON form once, writing beside reading.

A frame tells a call's facts once, when the call starts, and refers to it by number from then on. So
reading needs to know the open calls: `unfold` keeps the table up to date.

`docs/protocol.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporal_token_interceptor.digest import TextCheck, TextDigest
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
    TextRun,
    TokenEvent,
    ToolCallChunk,
)

_T = TypeVar("_T")

Wire = list[Any]
"""One event as it stands in a frame: a JSON array whose first element names its kind."""

BROKEN = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a form can raise if it is not what the specification says."""


def typed(kind: type[_T], value: object) -> _T:
    """Return `value`; raise `TypeError` if JSON had something else there."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


# ------------------------------------------------------------------ origins and calls


def origin_to_wire(origin: Origin) -> dict[str, Any]:
    """Return a frame's `o`; the attempt id stands in `a`."""
    return {
        "ns": origin.namespace,
        "wf": origin.workflow_id,
        "wft": origin.workflow_type,
        "run": origin.run_id,
        "act": origin.activity_id,
        "actt": origin.activity_type,
        "try": origin.attempt,
        "t": (origin.started_time - _EPOCH) // _MICROSECOND,
    }


def origin_from_wire(wire: Mapping[str, Any], attempt_id: str) -> Origin:
    """Read a frame's `o`; raises one of `BROKEN`."""
    return Origin(
        namespace=typed(str, wire["ns"]),
        workflow_id=typed(str, wire["wf"]),
        workflow_type=typed(str, wire["wft"]),
        run_id=typed(str, wire["run"]),
        activity_id=typed(str, wire["act"]),
        activity_type=typed(str, wire["actt"]),
        attempt=typed(int, wire["try"]),
        attempt_id=attempt_id,
        started_time=_EPOCH + typed(int, wire["t"]) * _MICROSECOND,
    )


_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def call_to_wire(call: Call) -> dict[str, Any]:
    """Return a call's facts, without those that it has not."""
    facts = {
        "i": call.ordinal,
        "run": call.run_id,
        "node": call.node_name,
        "path": call.path,
        "step": call.step,
        "agent": call.agent_name,
        "model": call.model,
        "provider": call.provider,
        "tags": call.tags,
    }
    return _without_empty(facts)


def call_from_wire(wire: Mapping[str, Any], activity_id: str) -> Call:
    """Read a call's facts; raises one of `BROKEN`."""
    ordinal = typed(int, wire["i"])
    return Call(
        ordinal=ordinal,
        id=f"{activity_id}:{ordinal}",
        run_id=wire.get("run", ""),
        node_name=wire.get("node", ""),
        path=tuple(wire.get("path", ())),
        step=wire.get("step"),
        agent_name=wire.get("agent"),
        model=wire.get("model"),
        provider=wire.get("provider"),
        tags=tuple(wire.get("tags", ())),
    )


def _without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value or (value == 0 and value is not False)}


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
            return ["call_end", record.call.ordinal, _without_empty(facts)]
        case AttemptEnded():
            return ["attempt_end", record.outcome, record.will_retry]
        case Gap():
            return ["gap", record.call.ordinal if record.call else None, record.missing, record.reason]


# ------------------------------------------------------------------ events, reading


def unfold(
    wires: Iterable[Wire],
    origin: Origin,
    calls: dict[int, Call],
    cursors: Iterator[str],
    heard: dict[int, TextDigest] | None = None,
) -> Iterator[Event]:
    """Yield the events of a packet, in order.

    A form that cannot be read costs only itself, and its place: the reader gets a `Gap` there. A kind
    that is not known yields nothing but takes a place too, so that a cursor means the same to a reader
    that knows the kind.

    Args:
        wires: The packet's events.
        origin: The attempt.
        calls: The open calls of the attempt by ordinal; kept up to date by this function.
        cursors: One cursor an event; must not end.
        heard: The text of the open calls as read so far, by ordinal; kept up to date by this function.
    """
    heard = {} if heard is None else heard
    for wire in wires:
        try:
            kind = typed(list, wire)[0]
            if kind == "text" or kind == "reasoning":  # noqa: PLR1714 - twice as fast as `in`, once a run
                yield from _unfold_text(wire, origin, calls, cursors, heard)
            elif kind == "check":
                yield from _unfold_check(wire, origin, calls, cursors, heard)
            elif (unfold_one := _UNFOLD.get(kind)) is not None:
                yield unfold_one(wire, origin, calls, cursors)
            else:
                next(cursors)
        except BROKEN:
            yield Gap(missing=None, reason="unreadable", origin=origin, cursor=next(cursors))


# Each of these reads all that can fail before it takes a cursor: what is broken takes just one, too.


def _unfold_text(
    wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str], heard: dict[int, TextDigest]
) -> Iterator[TokenEvent | ReasoningEvent]:
    kind, ordinal, first, texts, *more = wire
    index = typed(int, first)
    text = "".join(typed(list, texts))  # fails, at the speed of C, unless all are strings
    count = typed(int, more[0]) if more else len(texts)
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    if kind == "text":
        if (digest := heard.get(ordinal)) is None:
            digest = heard[ordinal] = TextDigest()
        digest.add(text, count)
        node_name, attempt = call.node_name, origin.attempt
        for text in texts:
            yield TokenEvent(
                text, node_name, index, attempt=attempt, call=call, origin=origin, cursor=next(cursors)
            )
            index += 1
    else:
        for text in texts:
            yield ReasoningEvent(token=text, index=index, call=call, origin=origin, cursor=next(cursors))
            index += 1


def _unfold_check(
    wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str], heard: dict[int, TextDigest]
) -> Iterator[Gap]:
    """Compare a call's text with what was sent; yield nothing if they are the same."""
    _, ordinal, count, digest, *_ = wire
    missing = typed(int, count) - (read := heard.get(ordinal) or TextDigest()).count
    same = missing == 0 and read.hexdigest() == typed(str, digest)
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    cursor = next(cursors)
    heard.pop(ordinal, None)
    if not same:
        missing_count = missing if missing > 0 else None
        yield Gap(missing=missing_count, reason="mismatch", call=call, origin=origin, cursor=cursor)


def _unfold_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
    call = call_from_wire(wire[1], origin.activity_id)
    calls[call.ordinal] = call
    return CallStarted(call=call, origin=origin, cursor=next(cursors))


def _unfold_call_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
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
        cursor=next(cursors),
    )


def _unfold_tool_call(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
    _, ordinal, index, id_, name, args, *_ = wire
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return ToolCallChunk(
        index=index, id=id_, name=name, args=typed(str, args), call=call, origin=origin, cursor=next(cursors)
    )


def _unfold_block(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
    _, ordinal, block, *_ = wire
    call = calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return ContentBlock(block=typed(dict, block), call=call, origin=origin, cursor=next(cursors))


def _unfold_attempt_end(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
    _, outcome, will_retry, *_ = wire
    calls.clear()
    return AttemptEnded(outcome=outcome, will_retry=will_retry, origin=origin, cursor=next(cursors))


def _unfold_gap(wire: Wire, origin: Origin, calls: dict[int, Call], cursors: Iterator[str]) -> Event:
    _, ordinal, missing, reason, *_ = wire
    call = None if ordinal is None else calls.get(ordinal) or _unknown_call(ordinal, origin, calls)
    return Gap(missing=missing, reason=reason, call=call, origin=origin, cursor=next(cursors))


_UNFOLD = {
    "call": _unfold_call,
    "call_end": _unfold_call_end,
    "tool_call": _unfold_tool_call,
    "block": _unfold_block,
    "attempt_end": _unfold_attempt_end,
    "gap": _unfold_gap,
}


def _unknown_call(ordinal: int, origin: Origin, calls: dict[int, Call] | None = None) -> Call:
    """Stand in for a call whose start was lost: a reader has been told so by a `Gap`."""
    call = Call(
        ordinal=typed(int, ordinal), id=f"{origin.activity_id}:{ordinal}", node_name=origin.activity_type
    )
    if calls is not None:
        calls[ordinal] = call
    return call
