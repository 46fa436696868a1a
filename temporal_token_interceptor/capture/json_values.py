"""Values of users as JSON values: within a budget, without their code, and never raising.

What tools, nodes and custom events hold may be anything: cyclic, shared, huge, or an object whose serializer
takes seconds. It is read here, on the thread that captures, so it is read by its fields alone and up to a
number of nodes and characters; what is beyond is named by its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel

MOST_NODES = 10_000
MOST_CHARACTERS = 256 * 1024
_DEEPEST = 32
_MOST_BITS = 10_000  # of an integer that is written out

_SCALARS = (str, int, float, datetime, date, time, UUID, Decimal, PurePath, timedelta)


def json_values(value: object) -> Any:
    """Return a value as JSON values: messages, models and dataclasses as objects, enumerations by value.

    What JSON cannot hold, what contains itself, or is beyond the budget becomes `{"unserializable": TYPE}`.
    """
    return bounded_values(value)[0]


def bounded_values(value: object) -> tuple[Any, bool]:
    """Return a value as JSON values, and whether something of it was beyond the budget."""
    reading = _Reading()
    return reading.read(value, 0), reading.is_cut


class _Reading:
    """One reading of one value."""

    def __init__(self) -> None:
        self.is_cut = False
        self._nodes = MOST_NODES
        self._characters = MOST_CHARACTERS
        self._path: set[int] = set()

    def read(self, value: object, depth: int) -> Any:
        """Return the JSON values of a part."""
        self._nodes -= 1
        if self._nodes < 0 or self._characters < 0:
            self.is_cut = True
            return _named(value)
        if isinstance(value, Enum):
            return self.read(value.value, depth + 1) if depth < _DEEPEST else _named(value)
        if value is None or isinstance(value, _SCALARS):
            return self._scalar(value)
        if depth >= _DEEPEST or id(value) in self._path:
            return _named(value)
        self._path.add(id(value))
        try:
            return self._container(value, depth + 1)
        except Exception:  # noqa: BLE001 - an object of the user's raised while it was read; its text is content
            return _named(value)
        finally:
            self._path.discard(id(value))

    def _scalar(self, value: object) -> Any:
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value)
            case int():
                return self._integer(value)
            case float():
                return value if isfinite(value) else None
            case datetime() | date() | time():
                return value.isoformat()
            case _:
                return str(value)

    def _integer(self, value: int) -> int | str | dict[str, str]:
        """Keep what JSON readers keep; a larger number as text, because most of them would round it."""
        if -(2**63) <= value < 2**64:
            return int(value)
        return self._text(str(int(value))) if value.bit_length() < _MOST_BITS else _named(value)

    def _container(self, value: object, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._object(value.items(), depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._array(value, depth)
        if isinstance(value, BaseModel):
            return self._object(_of_model(value), depth)
        if is_dataclass(value) and not isinstance(value, type):
            return self._object(((field.name, getattr(value, field.name)) for field in fields(value)), depth)
        if type(value).__module__ == "langgraph.types" and type(value).__name__ == "Send":
            return self._object([(name, getattr(value, name)) for name in ("node", "arg")], depth)
        return _named(value)

    def _object(self, items: Iterable[tuple[object, object]], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, part in items:
            found[self._name(name)] = self.read(part, depth)
            if self.is_cut:
                break
        return found

    def _array(self, parts: Iterable[object], depth: int) -> list[Any]:
        found = []
        for part in parts:
            found.append(self.read(part, depth))
            if self.is_cut:
                break
        return found

    def _name(self, name: object) -> str:
        if isinstance(name, Enum):
            name = name.value
        if name is None or isinstance(name, str | int | float | UUID | date):
            return self._text(str(name))
        return type(name).__name__

    def _text(self, text: str) -> str:
        self._characters -= len(text)
        if self._characters < 0:
            self.is_cut = True
            return text[: max(self._characters + len(text), 0)]
        return text


def _of_model(model: BaseModel) -> Iterable[tuple[str, object]]:
    """Yield the fields of a model, as they are: its serializers are the user's code."""
    for name, field in type(model).model_fields.items():
        if not field.exclude:
            yield name, getattr(model, name, None)
    yield from (model.__pydantic_extra__ or {}).items()


def _named(value: object) -> dict[str, str]:
    return {"unserializable": type(value).__name__}
