"""Values of users as JSON values: within a budget, without their code, and never raising.

What tools, nodes and custom events hold may be anything: cyclic, shared, huge, or an object whose serializer
takes seconds. It is read here, on the thread that captures, which may be the event loop. So no method that a
user can write is called: subclasses are read by the methods of the built-in class, models and dataclasses by
what they store. What is beyond the budget, and what cannot be read so, is named by its type.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import MappingProxyType, MemberDescriptorType
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import BaseModel, RootModel

from temporal_token_interceptor.events.json_numbers import json_integer, json_real

MOST_NODES: Final = 10_000
MOST_CHARACTERS: Final = 256 * 1024

CUT_MARK: Final = "…"
"""Ends a text that was cut."""

# What reading a value can raise that is not a cancellation raised in this thread: Temporal's is neither.
_UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError),
    *(NameError, OSError, RuntimeError, StopIteration, TypeError, ValueError),
)

# Written by the class's own method: a subclass of the user's may have another.
_WRITTEN = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: UUID.__str__,
    Decimal: Decimal.__str__,
    timedelta: timedelta.__str__,
}

# Addresses, which write themselves as text; a subclass of the user's does not.
_ADDRESSES = frozenset(
    {
        *(("ipaddress", f"IPv{n}{kind}") for n in (4, 6) for kind in ("Address", "Interface", "Network")),
        *(("pydantic_core._pydantic_core", kind) for kind in ("Url", "MultiHostUrl")),
    }
)

# Whose time zones are asked for their offset: that of a class of the user's is the user's code.
_TIME_ZONES = frozenset({"datetime", "zoneinfo", "pydantic_core", "pytz", "dateutil", "pendulum"})


class Limit(NamedTuple):
    """How much of a value is read.

    Attributes:
        nodes: Values, those within values included.
        characters: Of all texts together.
        depth: Levels of containers.
        is_exact: Whether numbers stay as they are, also those that many readers of JSON would change.
    """

    nodes: int = MOST_NODES
    characters: int = MOST_CHARACTERS
    depth: int = 32
    is_exact: bool = False


_USUAL: Final = Limit()


def json_values(value: object, limit: Limit = _USUAL) -> Any:
    """Return a value as JSON values: messages, models and dataclasses as objects, enumerations by value.

    What JSON cannot hold, what contains itself, or is beyond the limit becomes `{"unserializable": TYPE}`; a
    text that was cut ends with `CUT_MARK`.
    """
    return bounded_values(value, limit)[0]


def bounded_values(value: object, limit: Limit = _USUAL) -> tuple[Any, bool]:
    """Return a value as JSON values, and whether something of it was beyond the limit."""
    reading = _Reading(limit)
    return reading.read(value, 0), reading.is_cut


class _Reading:
    """One reading of one value."""

    def __init__(self, limit: Limit) -> None:
        self.is_cut = False
        self._nodes, self._characters, self._deepest, self._is_exact = limit
        self._path: set[int] = set()

    def read(self, value: Any, depth: int) -> Any:
        """Return the JSON values of a part."""
        self._nodes -= 1
        if self._nodes < 0 or self._characters < 0:
            self.is_cut = True
            return _named(value)
        if value is None or value is True or value is False:
            return value
        try:
            # `type(value)`, because `isinstance` believes a `__class__` that the user wrote.
            kind = type(value)
            if issubclass(kind, Enum):
                stored = object.__getattribute__(value, "_value_")
                return self.read(stored, depth + 1) if depth < self._deepest else _named(value)
            if issubclass(kind, str):
                return self._text(str.__str__(value))
            if issubclass(kind, int):
                return self._integer(int.__int__(value))
            if issubclass(kind, float):
                return self._real(float.__float__(value))
            if (write := _writer(kind)) is not None:
                return self._text(write(value)) if _has_known_zone(value, kind) else _named(value)
            if depth >= self._deepest or id(value) in self._path:
                return _named(value)
            self._path.add(id(value))
            try:
                return self._container(value, kind, depth + 1)
            finally:
                self._path.discard(id(value))
        except _UNREADABLE:
            return _named(value)  # not the error's text: it may hold content

    def _real(self, value: float) -> float | None:
        return value if self._is_exact else json_real(value)

    def _integer(self, value: int) -> int | str | dict[str, str]:
        """Keep what JSON readers keep; a larger number as text, because most of them would round it."""
        kept = json_integer(value)
        if kept is None:
            return _named(value)
        return value if self._is_exact or not isinstance(kept, str) else self._text(kept)

    def _container(self, value: Any, kind: type[Any], depth: int) -> Any:
        if issubclass(kind, dict):
            return self._object(dict.items(value), depth)
        for sequence in (list, tuple, set, frozenset, deque):
            if issubclass(kind, sequence):
                return self._array(sequence.__iter__(value), depth)
        if kind is MappingProxyType:
            return self._container(dict(value), dict, depth)
        return self._instance(value, kind, depth)

    def _instance(self, value: Any, kind: type[Any], depth: int) -> Any:
        """Read what an object of a known kind stores."""
        if issubclass(kind, RootModel):
            return self.read(stored(value, "root"), depth)
        if issubclass(kind, BaseModel):
            return self._object(_of_model(value, kind), depth)
        if kind.__module__ == "pydantic.networks":
            return self.read(stored(value, "_url"), depth)
        if _is_of_pydantic_v1(kind):
            return self._object(dict.items(object.__getattribute__(value, "__dict__")), depth)
        if is_dataclass(kind):
            return self._object(((field.name, stored(value, field.name)) for field in fields(kind)), depth)
        if kind.__module__ == "langgraph.types" and kind.__name__ == "Send":
            return self._object([(name, stored(value, name)) for name in ("node", "arg")], depth)
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

    def _name(self, name: Any) -> str:
        kind = type(name)
        if issubclass(kind, Enum):
            name = object.__getattribute__(name, "_value_")
            kind = type(name)
        if issubclass(kind, str):
            return self._text(str.__str__(name))
        if name is None or kind is bool or kind is int or kind is float:
            return self._text(str(name))
        write = _writer(kind)
        return kind.__name__ if write is None else self._text(write(name))

    def _text(self, text: str) -> str:
        self._characters -= len(text)
        if self._characters < 0:
            self.is_cut = True
            return text[: max(self._characters + len(text), 0)] + CUT_MARK
        return text


def _writer(kind: type[Any]) -> Any:
    """Return what writes a value of this class as text; None for a class that is not written as one."""
    for known, write in _WRITTEN.items():
        if issubclass(kind, known):
            return write
    if (kind.__module__, kind.__name__) in _ADDRESSES:
        return kind.__str__
    # The standard library's own paths have no other text than this; a subclass may.
    return PurePath.__str__ if issubclass(kind, PurePath) and kind.__module__.startswith("pathlib") else None


def _has_known_zone(value: object, kind: type[Any]) -> bool:
    for dated in (datetime, time):
        if issubclass(kind, dated):
            zone: Any = vars(dated)["tzinfo"].__get__(value)
            return zone is None or type(zone).__module__.partition(".")[0] in _TIME_ZONES
    return True


def is_dataclass(kind: type[Any]) -> bool:
    """As `dataclasses.is_dataclass`, but without asking a metaclass of the user's."""
    return any("__dataclass_fields__" in _dict_of(base) for base in _mro_of(kind))


_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__


def _is_of_pydantic_v1(kind: type[Any]) -> bool:
    names = ((base.__module__, base.__name__) for base in _mro_of(kind))
    return ("pydantic.v1.main", "BaseModel") in names


def _of_model(model: BaseModel, kind: type[BaseModel]) -> Iterable[tuple[str, object]]:
    """Yield the fields of a model, as it stores them: its serializers and properties are the user's code."""
    for name, field in kind.model_fields.items():
        if not field.exclude:
            yield name, stored(model, name)
    extra = object.__getattribute__(model, "__pydantic_extra__")
    yield from dict.items(extra or {})


def stored(value: object, name: str) -> object:
    """Return what an object stores under a name, in its `__dict__` or a slot; None if nothing."""
    try:
        stored = object.__getattribute__(value, "__dict__")
    except AttributeError:
        stored = {}
    if name in stored:
        return stored[name]
    for kind in type(value).__mro__:
        slot = kind.__dict__.get(name)
        if type(slot) is MemberDescriptorType:
            try:
                return slot.__get__(value, type(value))
            except AttributeError:
                return None
    return None


def _named(value: object) -> dict[str, str]:
    return {"unserializable": type(value).__name__}
