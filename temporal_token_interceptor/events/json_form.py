"""Events as JSON for users' own wires: browsers, queues, logs. `EventBase.to_json` writes this form.

It is not the form of frames (`protocol.event_json`), which states a call's facts once and counts on a reader
that keeps them: here every event stands alone, with its whole origin and call, so that a screen can draw it
whatever it missed before. `docs/events.schema.json` is generated from the same classes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import Call, Event, Origin
from temporal_token_interceptor.events.origin import JSON_VERSION, json_type

_Record = Any  # a class of records; not `type[Any]`, which mypy takes for unhashable
_Reader = Callable[[Any, str], Any]


def event_from_json(value: Mapping[str, Any]) -> Event:
    """Return the event that `to_json` was called on, equal to it.

    Members that this version does not know are ignored, so that a newer writer can be read.

    Args:
        value: What `to_json` returned, after any JSON encoder and decoder.

    Raises:
        ProtocolError: `value` is not the JSON form of an event, or has another version, or a type of event
            that this version does not know. The message names the member.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(f"an event in JSON is an object, not a {type(value).__name__}")
    if value.get("v") != JSON_VERSION:
        raise ProtocolError(
            f"the event is in version {_shown(value.get('v'))} of the JSON form; this release reads "
            f"{JSON_VERSION}: use the release that wrote it, or write it again"
        )
    kind = event_types().get(_name_of(value))
    if kind is None:
        raise ProtocolError(f"event type {_shown(value.get('type'))} is unknown: a newer release may know it")
    event: Event = _read_record(kind, value, value["type"])
    return event


@cache
def event_types() -> Mapping[str, type[Event]]:
    """Return the class of each `type` of the JSON form."""
    return types.MappingProxyType({json_type(kind): kind for kind in get_args(Event)})


def events_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `to_json`: one definition for each type of event."""
    names = event_types()
    definitions = {name: _schema_of_record(kind, name) for name, kind in names.items()}
    for record in (Origin, Call):
        definitions[record.__name__] = _schema_of_record(record, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "description": f"An event of a subscription, version {JSON_VERSION} of its JSON form.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": definitions,
    }


# ------------------------------------------------------------------ reading


def _read_record(kind: _Record, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(place, "an object", value)
    found = {
        field.name: read(value[field.name], f"{place}.{field.name}")
        for field, read in _readers(kind)
        if field.name in value
    }
    absent = [field.name for field, _ in _readers(kind) if field.name not in found and _is_required(field)]
    if absent:
        raise ProtocolError(f"{place}.{absent[0]} is missing from the event")
    return kind(**found)


@cache
def _readers(kind: _Record) -> tuple[tuple[Field[Any], _Reader], ...]:
    hints = get_type_hints(kind)
    return tuple((field, _reader(hints[field.name])) for field in fields(kind) if field.init)


def _reader(hint: Any) -> _Reader:
    """Return a function that checks a member's type at the border and returns the member."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value, _: value
    if hint in (Origin, Call):
        return lambda value, place: _read_record(hint, value, place)
    if hint is datetime:
        return _read_time
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value, place: tuple(
            item(part, f"{place}[{index}]") for index, part in enumerate(_typed(list, value, place))
        )
    if origin is Literal:
        return lambda value, place: _one_of(arguments, value, place)
    return lambda value, place: _typed(origin or hint, value, place)


def _union_reader(arguments: tuple[Any, ...]) -> _Reader:
    optional = type(None) in arguments
    readers = [_reader(argument) for argument in arguments if argument is not type(None)]

    def read(value: Any, place: str) -> Any:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, place)
            except ProtocolError:
                continue
        return readers[-1](value, place)

    return read


def _read_time(value: object, place: str) -> datetime:
    try:
        time = datetime.fromisoformat(_typed(str, value, place))
    except ValueError as error:
        raise _wrong(place, "an ISO 8601 time", value) from error
    if time.tzinfo is None:
        raise _wrong(place, "a time with its offset from UTC", value)
    return time


def _typed(kind: type[Any], value: Any, place: str) -> Any:
    is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not is_right:
        raise _wrong(place, _JSON_NAMES.get(kind, kind.__name__), value)
    return value


def _one_of(words: tuple[str, ...], value: Any, place: str) -> str:
    if value not in words:
        raise _wrong(place, f"one of {', '.join(words)}", value)
    word: str = value
    return word


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _name_of(value: Mapping[str, Any]) -> str:
    name = value.get("type")
    return name if isinstance(name, str) else ""


def _wrong(place: str, expected: str, found: object) -> ProtocolError:
    return ProtocolError(f"{place} of the event must be {expected}, not a {type(found).__name__}")


def _shown(value: object) -> str:
    """Show a foreign value in a message: short, and never its content unless it is a short name."""
    return (
        repr(value[:40])
        if isinstance(value, str)
        else repr(value)
        if isinstance(value, int)
        else "of no name"
    )


_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "an array",
    Mapping: "an object",
}

# ------------------------------------------------------------------ schema


def _schema_of_record(kind: _Record, name: str | None) -> dict[str, Any]:
    hints = get_type_hints(kind)
    members: dict[str, Any] = {}
    if name is not None:
        members = {"v": {"const": JSON_VERSION}, "type": {"const": name}}
    members |= {field.name: _schema(hints[field.name]) for field in fields(kind)}
    return {
        "title": kind.__name__,
        "description": (kind.__doc__ or "").split("\n\n")[0].strip().replace("\n    ", " "),
        "type": "object",
        "properties": members,
        "required": list(members),
    }


def _schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in (Origin, Call):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if hint is datetime:
        return {"type": "string", "format": "date-time"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument) for argument in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is Literal:
        return {"enum": list(arguments)}
    return {"type": _SCHEMA_TYPES[origin or hint]}


_SCHEMA_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    Mapping: "object",
}
