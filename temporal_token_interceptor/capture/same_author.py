"""Whether streaming a model runs code of the same author as not streaming it.

A call is made to stream only then: a program that redacts, guards, counts or fakes the plain answers of a
model, and leaves its stream as it is, would be bypassed. There are three ways to do that: a subclass, a
subclass of a method that the plain one calls, and a method that was replaced on a class or an object.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from langchain_core.language_models import BaseChatModel, GenericFakeChatModel

_BASE: Final = 1_000_000
_METHODS: Final = ("_generate", "_agenerate", "_stream", "_astream")


def has_own_methods(model: BaseChatModel) -> bool:
    """Whether a method was replaced on the object itself, as a test's fake of a model does it."""
    return not vars(model).keys().isdisjoint(_METHODS)


def streams_as_it_generates(model: type[BaseChatModel], *, is_async: bool) -> bool:
    """Whether streaming a model runs code of the same author as not streaming it.

    Compared is what would really run: `_agenerate` and `_astream` of an async call where they are defined,
    else the sync methods that stand in for them. LangChain's generic fake is excluded: its `_stream` loses
    tool calls and usage.
    """
    # What the methods are now: a class can be changed at any time.
    return _judged(model, is_async, *(getattr(model, name, None) for name in _METHODS))


@lru_cache(maxsize=1_000)
def _judged(model: type[BaseChatModel], is_async: bool, *_methods: object) -> bool:  # noqa: FBT001 - a key
    if issubclass(model, GenericFakeChatModel):
        return False
    plain, stream = "_generate", "_stream"
    if is_async:
        plain = "_agenerate" if _depth(model, "_agenerate") < _BASE else plain
        stream = "_astream" if _depth(model, "_astream") < _BASE else stream
        if inspect.iscoroutinefunction(getattr(model, stream)):
            return False  # LangChain cannot iterate over what it returns
    if not _depth(model, plain) >= _depth(model, stream) < _BASE:
        return False
    return not (_is_replaced(model, plain, stream) or _is_bypassed(model, plain, stream))


def _depth(model: type[BaseChatModel], method: str) -> int:
    """How far from the class itself a method is defined; `_BASE` if only by LangChain's base class."""
    for depth, cls in enumerate(_own_classes(model)):
        if method in vars(cls):
            return depth
    return _BASE


def _own_classes(model: type[BaseChatModel]) -> Iterator[type]:
    for cls in model.__mro__:
        if cls is BaseChatModel:
            return
        yield cls


# ------------------------------------------------------------------ methods that were replaced


def _is_replaced(model: type[BaseChatModel], plain: str, stream: str) -> bool:
    """Whether the plain method is not the one that its class was written with, and the stream is."""
    classes = [*_own_classes(model)]
    if (depth := _depth(model, plain)) >= len(classes):
        return False
    members = vars(classes[depth])
    method, other = members[plain], members.get(stream)
    if hasattr(method, "__wrapped__") and not hasattr(other, "__wrapped__"):
        return True
    file, place = _origin(method)
    if other is None:
        return place not in _written_in(model)
    other_file, other_place = _origin(other)
    return file != other_file or (place != other_place and place not in _written_in(model))


def _origin(method: Any) -> tuple[str | None, str | None]:
    """Return the file that a method comes from, and the class or function that it was written in."""
    code: CodeType | None = getattr(method, "__code__", None)
    place = getattr(method, "__qualname__", None)
    return (
        None if code is None else code.co_filename,
        place.rpartition(".")[0] if isinstance(place, str) else None,
    )


def _written_in(model: type[BaseChatModel]) -> set[str]:
    return {cls.__qualname__ for cls in model.__mro__}


# ------------------------------------------------------------------ methods that the plain one calls


def _is_bypassed(model: type[BaseChatModel], plain: str, stream: str) -> bool:
    """Whether a subclass overrides what only the plain method calls, and nothing that only the stream does.

    Packages of LangChain's that do so are compared with their streams by `make providers`.
    """
    by_plain, by_stream = _called_by(model, plain), _called_by(model, stream)
    depth = min(_depth(model, plain), _depth(model, stream))
    own = {
        name
        for cls in [*_own_classes(model)][:depth]
        if not cls.__module__.startswith("langchain_")
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and name not in _METHODS
    }
    return bool(own & by_plain - by_stream) and not own & by_stream - by_plain


def _called_by(model: type[BaseChatModel], method: str) -> set[str]:
    """Return the names in the code of a method, in all classes that define it."""
    codes = (getattr(vars(cls).get(method), "__code__", None) for cls in _own_classes(model))
    return {name for code in codes if code is not None for name in _names(code)}


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
