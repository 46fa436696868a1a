"""Puts a summary into an activity's result, where the result has a place for it and nothing can break.

The place is a field `custom_data` that is None or a list, as `langgraph-temporal`'s `NodeActivityOutput` has
it. A workflow decodes a result by the activity's return type; one that cannot be decoded fails its task, and
each retry of it. So the changed result is decoded here first, and the one that the user returned is kept if
it does not come out right, or not within Temporal's limit for a payload.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

from temporalio.converter import PayloadConverter

FIELD: Final = "custom_data"

# Temporal refuses a payload of 2 MiB, after the codec: the rest is for one that writes base64, or signs.
_RESULT_BYTES: Final = 1_400_000

_ABSENT: Final = object()


def has_place(result: object) -> bool:
    """Whether a result has a field for summaries that is free or has items already."""
    value = _value(result)
    return value is None or isinstance(value, list)


def attached(
    result: Any,
    summary: Callable[[int], dict[str, Any] | None],
    *,
    function: Callable[..., Any],
    converter: PayloadConverter,
) -> Any:
    """Return a copy of a result with one more item in its `custom_data`; the result itself if that is unsafe.

    Args:
        result: What the activity returned; never changed.
        summary: Given the bytes that there is room for, returns the item, or None.
        function: The activity; its return type is what a workflow decodes by.
        converter: The activity's.

    Raises:
        Exception: what the converter raises for a changed result that it cannot encode or decode.
    """
    if not has_place(result):
        return result
    value: Any = _value(result)
    (payload,) = converter.to_payloads([result])
    item = summary(_RESULT_BYTES - payload.ByteSize())
    if item is None:
        return result
    items = [*(value or ()), item]
    changed = _with_items(result, items)
    payloads = converter.to_payloads([changed])
    if payloads[0].ByteSize() > _RESULT_BYTES:
        return result
    hint = _return_type(function)
    (decoded,) = converter.from_payloads(payloads, None if hint is None else [hint])
    found = _value(decoded)
    arrives = isinstance(found, list) and len(found) == len(items) and found[-1] == item
    return changed if arrives else result


def _value(result: object) -> object:
    """Return what stands in the field; a mark of its own where there is no such field."""
    if isinstance(result, dict):
        return result.get(FIELD, _ABSENT)
    fields: typing.Iterable[str]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = (field.name for field in dataclasses.fields(result))
    else:
        fields = getattr(type(result), "model_fields", ())  # a pydantic model, without importing pydantic
    return getattr(result, FIELD, _ABSENT) if FIELD in fields else _ABSENT


def _with_items(result: Any, items: list[Any]) -> Any:
    if hasattr(type(result), "model_copy"):
        return result.model_copy(update={FIELD: items})
    # For a dataclass not `replace`: it runs `__init__` again, which may do more than set fields.
    changed = copy.copy(result)
    if isinstance(changed, dict):
        changed[FIELD] = items
    else:
        object.__setattr__(changed, FIELD, items)  # also where it is frozen
    return changed


def _return_type(function: Callable[..., Any]) -> Any:
    """Return the type that a workflow decodes by, as the SDK finds it; None where nothing is said."""
    if not inspect.isroutine(function):
        function = type(function).__call__  # an object whose class defines `__call__`
    return typing.get_type_hints(function).get("return")
