"""How many bytes a record holds: its texts in UTF-8, and a fixed charge for each value.

Counted in one place, from the record itself, so that no caller can forget a part. What is counted is what the
capture has read into plain values, within its limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from temporal_token_interceptor.events import Call, CallStarted, Record, TextRun, ToolCallChunk

RECORD_BYTES: Final = 512
"""What a record costs without what it holds, roughly."""

VALUE_BYTES: Final = 64
"""What a value costs in a list or an object, roughly: the object itself and its place."""


def text_bytes(text: str) -> int:
    """Return the bytes of a text in UTF-8, or those that Python needs for it where they are more.

    One emoji makes Python store four bytes for each character of the text around it.
    """
    if text.isascii():
        return len(text)
    return max(len(text.encode("utf-8", "surrogatepass")), text.__sizeof__())


def record_bytes(record: Record) -> int:
    """Return what a record costs in memory. The call that it belongs to is counted with its start."""
    if type(record) is ToolCallChunk:  # the one kind that comes as often as text
        size = RECORD_BYTES + text_bytes(record.args)
        for text in (record.id, record.name):
            if text:
                size += text_bytes(text)
        return size + (text_bytes(record.index) if type(record.index) is str else 0)
    if type(record) is TextRun:
        return RECORD_BYTES + sum(VALUE_BYTES + text_bytes(text) for text in record.texts)
    size = RECORD_BYTES
    kind = type(record)
    for name in _names(kind):
        value = getattr(record, name)
        if type(value) is not Call:
            size += _held(value)
        elif kind is CallStarted:
            size += _held([getattr(value, part) for part in _names(Call)])
    return size


_NAMES: dict[type[Any], tuple[str, ...]] = {}  # of the members of each class of records, once looked up


def _names(kind: type[Any]) -> tuple[str, ...]:
    if (names := _NAMES.get(kind)) is None:
        found = (field.name for field in fields(kind))
        names = _NAMES[kind] = tuple(name for name in found if name not in ("origin", "cursor"))
    return names


def _held(value: object) -> int:
    """Return what a value holds beyond its place in a record."""
    size = 0
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if type(part) is str:
            size += text_bytes(part)
        elif isinstance(part, Mapping):
            size += 2 * VALUE_BYTES * len(part)
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            size += VALUE_BYTES * len(part)
            waiting.extend(part)
    return size
