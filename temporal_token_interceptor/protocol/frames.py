"""Frames on the wire: one compact JSON object a frame, stream names, cursors.

`docs/protocol.md` is the specification, enough to write a client in another language; this module,
`wire.py` and the entries in `tests/contract/` have to agree with it.

A reader does not get frames back but packets: the wire says a call's facts once, when it starts, and
refers to it by number from then on. The reader (`attempts.py`) knows the calls and unfolds a packet
into events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

import orjson

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import Call, Frame, Origin
from temporal_token_interceptor.events.json_numbers import json_integer, json_real
from temporal_token_interceptor.protocol.event_json import Wire, record_to_wire
from temporal_token_interceptor.protocol.origin_json import (
    BROKEN,
    call_from_wire,
    call_to_wire,
    origin_from_wire,
    origin_to_wire,
    typed,
)
from temporal_token_interceptor.protocol.stream_key import StreamKey

_Part = TypeVar("_Part")

FRAME_VERSION = 1
"""The version of the wire form that is written; cursors have their own."""

READ_VERSIONS = frozenset({FRAME_VERSION})
"""The versions that can be read: a later release reads what an earlier one has written."""


MAX_BYTES = 16 * 1024 * 1024
"""Of a frame. Ours have at most 256 KiB of text; one with the bytes of media may have more."""

MAX_VALUES = 100_000
"""Of a frame: arrays, objects, and the commas between what is in them. Each may take 300 bytes of memory."""

MAX_DEPTH = 256
"""Of nested arrays and objects. Writers stop before; Python's own comparing and printing fails at 1,000."""

FUTURE = timedelta(minutes=10)
"""How much later than an entry was stored its attempt may have started: clocks differ, by less than that."""

FAR_FUTURE = timedelta(days=1)
"""How much later than now, by the reader's clock: for entries whose ids do not show when they were stored, or
are made up. A reader's own clock may be wrong by hours, and must not hide the truth."""

# Nothing is tried a second way (`*+`): a text of millions of escapes would take forty times its size.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_SHAPE = bytes(set(range(256)) - set(b"[]{},"))
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OPENS = ord("[")


class Packet(NamedTuple):
    """A frame as it was read: its calls still numbers, its events still wire forms.

    A tuple, because one is made for each entry: a frozen dataclass takes three times as long.

    Attributes:
        attempt_id: Which attempt sent it.
        seq: Its number among the attempt's frames.
        origin: The whole origin; None in a frame without a header.
        open_calls: In a header: the calls that started in earlier frames and have not ended.
        events: Wire forms, for `unfold`.
        traceparent: In a header: the attempt's trace, if it is traced.
        waiting_since: When the oldest event was captured, in microseconds since 1970 by the worker's clock;
            None if the worker does not say.
    """

    attempt_id: str
    seq: int
    origin: Origin | None
    open_calls: tuple[Call, ...]
    events: list[Wire]
    traceparent: str | None = None
    waiting_since: int | None = None


def encode(frame: Frame) -> bytes:
    """Return the wire form of a frame. What JSON cannot hold is replaced, visibly; nothing is refused."""
    body: dict[str, Any] = {"v": FRAME_VERSION, "a": frame.origin.attempt_id, "n": frame.seq}
    if frame.header:
        body["o"] = origin_to_wire(frame.origin)
        if frame.open_calls:
            body["c"] = [call_to_wire(call) for call in frame.open_calls]
        if frame.traceparent is not None:
            body["tp"] = frame.traceparent
    if frame.waiting_since is not None:
        body["t"] = frame.waiting_since
    body["e"] = [record_to_wire(record) for record in frame.records]
    try:
        return orjson.dumps(body, default=_stand_in)
    except orjson.JSONEncodeError:
        # Half an emoji (a lone surrogate), which JSON can escape and orjson does not; or, within a
        # content block, what JSON does not know: an integer beyond 64 bits, a key that is no string, a loop.
        return json.dumps(_Plain().of(body), separators=(",", ":")).encode()


def decode(data: bytes, stream: StreamKey | None = None, *, is_opened: bool = False) -> Packet:
    """Read the wire form of a frame.

    Args:
        data: The frame.
        stream: Where it was found: a frame of another stream is none here. None: it may be of any.
        is_opened: Whether it was sealed: then it must name its stream itself, also without a header.

    Raises:
        ProtocolError: not a frame, a broken one, one of another version or of another stream, or one that is
            larger than any writer's. Skip it and count it. The message holds nothing of the content.
    """
    body = _parsed(data)
    try:
        attempt_id, seq, events = body["a"], body["n"], body["e"]
        if type(attempt_id) is not str or type(seq) is not int or seq < 0 or type(events) is not list:
            raise TypeError("a, n and e are a string, a number from 0 and an array")
        header, calls = body.get("o"), body.get("c")
        origin = None if header is None else origin_from_wire(header, attempt_id)
        open_calls = (
            ()
            if origin is None or calls is None
            else tuple(call_from_wire(call, origin.activity_id) for call in typed(list, calls))
        )
    except BROKEN as error:
        raise ProtocolError(f"entry is not a frame: {_why(error)}") from error
    if stream is not None:
        if origin is not None and StreamKey.of(origin) != stream:
            raise ProtocolError("entry is a frame of another stream")
        if is_opened and body.get("s") != stream.name:
            raise ProtocolError("entry was sealed for another stream, or for none")
    trace, time = body.get("tp"), body.get("t")
    # Not an error: no reader shall miss tokens because of what is only for telemetry.
    trace = trace if type(trace) is str else None
    return Packet(attempt_id, seq, origin, open_calls, events, trace, time if type(time) is int else None)


def _parsed(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a frame, of a version that can be read."""
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"entry of {len(data)} bytes is larger than any frame ({MAX_BYTES} bytes)")
    _check_shape(data)
    try:
        body: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            body = json.loads(data.decode(), parse_constant=_refused)  # lone surrogates, as above
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"entry of {len(data)} bytes is not JSON") from error
    if type(body) is not dict:
        raise ProtocolError(f"entry of {len(data)} bytes is JSON, but no object")
    version = body.get("v")
    if type(version) is not int or version not in READ_VERSIONS:
        known = ", ".join(map(str, sorted(READ_VERSIONS)))
        found = version if type(version) is int else f"({type(version).__name__})"
        raise ProtocolError(f"entry has protocol version {found}, this reader knows {known}")
    return body


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def check_time(packet: Packet, stored: datetime | None, now: datetime) -> None:
    """Refuse a header whose attempt began after it was stored: it would supersede all others, without end.

    Args:
        packet: The frame.
        stored: When it was stored, as its id shows; None where ids show no time.
        now: By the reader's clock.

    Raises:
        ProtocolError: it did, by more than clocks differ.
    """
    if packet.origin is None:
        return
    began = packet.origin.started_time
    if stored is not None and began - stored > FUTURE:
        raise ProtocolError(
            "entry is of an attempt from the future, which began more than "
            f"{FUTURE.total_seconds() / 60:g} minutes later: is the clock of Redis or of Temporal wrong?"
        )
    if began - now > FAR_FUTURE:
        raise ProtocolError(
            "entry is of an attempt from the future, which began more than "
            f"{FAR_FUTURE.total_seconds() / 3600:g} hours after now: is the clock of this reader wrong?"
        )


def bound(frame: bytes, stream: StreamKey) -> bytes:
    """Return a frame that names its stream, as it must before it is sealed."""
    return b'{"s":%b,%b' % (json.dumps(stream.name).encode(), frame.removeprefix(b"{"))


def _check_shape(data: bytes) -> None:
    """Refuse, before it is read, what takes far more memory and time than it has bytes, or is too deep.

    More, where brackets or commas stand in its strings unescaped, which is no JSON.
    """
    brackets = data.count(b"[") + data.count(b"{")
    is_long = len(data) > MAX_VALUES  # shorter ones hold fewer
    # At least one for each string; of an object, the names are strings, too.
    if is_long and data.count(b'"') - data.count(b'\\"') > 4 * MAX_VALUES:
        raise _too_many(data)
    if brackets <= MAX_DEPTH and not (is_long and brackets + data.count(b",") > MAX_VALUES):
        return
    shape = _STRINGS.sub(b"", data).translate(_ALIKE, _NO_SHAPE)
    if shape.count(b"[") + shape.count(b",") > MAX_VALUES:
        raise _too_many(data)
    depth = 0
    for bracket in shape.replace(b",", b""):
        depth += 1 if bracket == _OPENS else -1
        if depth > MAX_DEPTH:
            raise ProtocolError(f"entry of {len(data)} bytes is nested deeper than {MAX_DEPTH} levels")


def _too_many(data: bytes) -> ProtocolError:
    return ProtocolError(f"entry of {len(data)} bytes holds more than {MAX_VALUES} values")


def _why(error: Exception) -> str:
    """Say what is wrong without a word of what was found."""
    match error:
        case KeyError(args=(str(member), *_)):
            return f"it has no {member!r}"
        case TypeError() | ValueError() if type(error) in {TypeError, ValueError}:
            return str(error)
        case _:
            return type(error).__name__


# ------------------------------------------------------------------ JSON

_DEEPEST = 200  # levels of a content block; orjson's own bound is 254
_MOST_VALUES = MAX_VALUES // 2  # values that hold the same ones many times are as many values
_MOST_CHARACTERS = MAX_BYTES


class _Plain:
    """Makes of a value what JSON can hold: the same where possible, else what comes closest.

    What is deeper, or more, than any frame of ours is named by its type; so a value that holds itself ends.
    """

    def __init__(self) -> None:
        self._values = _MOST_VALUES
        self._characters = _MOST_CHARACTERS

    def of(self, value: object, depth: int = 0) -> object:
        """Return the value of a part."""
        self._values -= 1
        match value:
            case None | bool():
                return value
            case str() if self._takes(value):
                return value
            case int() if (kept := json_integer(value)) is not None:
                return kept
            case float():
                return json_real(value)
            case Mapping() if self._values > 0 and depth < _DEEPEST:
                return {
                    self._name(name): self.of(part, depth + 1) for name, part in self._parts(value.items())
                }
            case list() | tuple() if self._values > 0 and depth < _DEEPEST:
                return [self.of(part, depth + 1) for part in self._parts(value)]
            case _:
                return _named(value)

    def _parts(self, parts: Iterable[_Part]) -> Iterator[_Part]:
        return takewhile(lambda _: self._values > 0, parts)

    def _name(self, name: object) -> str:
        text = str(name)
        return text if self._takes(text) else type(name).__name__

    def _takes(self, text: str) -> bool:
        self._characters -= len(text)
        return self._characters >= 0


def _stand_in(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else _named(value)


def _named(value: object) -> object:
    """Stand in for a value that JSON cannot hold: its type."""
    return {"unserializable": type(value).__name__}
