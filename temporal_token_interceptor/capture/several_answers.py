"""Whether a call asks for more than one answer: a stream of them is woven into one, so it is left alone.

Providers have a dozen names for it, and packages pass it on in as many places: as a field of the model, as an
option of the call, or within either, in what goes to the provider as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from numbers import Real
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from pydantic import BaseModel

_DEEPEST: Final = 3
_MOST: Final = 500
"""Members that are looked at, in one option or in all options of a call."""


def asks_for_several(model: BaseChatModel, options: Mapping[str, Any]) -> bool:
    """Whether a call asks for more than one answer.

    Args:
        model: The model; its fields, and those that hold options for the provider, are looked at.
        options: The call's own options, with those that were bound.
    """
    if options and _has_several(options):
        return True
    counts, within = _members_of(type(model))
    return (
        any(_is_several(getattr(model, name, None)) for name in counts)
        or any(_has_several(getattr(model, name, None)) for name in within)
        or (bool(model.model_extra) and _has_several(model.model_extra))
    )


@cache
def _members_of(model: type[BaseChatModel]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the names that matter a class of models may have: to look for all takes 150 us."""
    own = getattr(model, "__getattr__", None) is not getattr(BaseChatModel, "__getattr__", None)
    known = {*model.model_fields, *(name for name in (*_HOW_MANY, *_WITHIN) if own or hasattr(model, name))}
    counts = tuple(sorted(name for name in known if _plain(name) in _COUNTS))
    return counts, tuple(sorted(name for name in known if _may_hold(name)))


def _has_several(place: object) -> bool:
    waiting, left = [(place, _DEEPEST)], _MOST
    while waiting and left > 0:
        place, depth = waiting.pop()
        for name, value in _members(place):
            left -= 1
            if _plain(name) in _COUNTS:
                if _is_several(value):
                    return True
            elif depth and _may_hold(name):
                waiting.append((value, depth - 1))
    return False


def _members(place: object) -> Iterable[tuple[str, object]]:
    if isinstance(place, Mapping):
        return [(name, value) for name, value in islice(place.items(), _MOST) if isinstance(name, str)]
    if place is None or isinstance(place, str | int | float | list | tuple):
        return ()
    names = islice(type(place).model_fields, _MOST) if isinstance(place, BaseModel) else _HOW_MANY
    return [(name, getattr(place, name, None)) for name in names]


def _is_several(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) > 1


@lru_cache(maxsize=1_000)
def _plain(name: str) -> str:
    """Return a name as it is in every spelling."""
    return name.replace("_", "").replace("-", "").lower()


@lru_cache(maxsize=1_000)
def _may_hold(name: str) -> bool:
    return _HOLDS.search(_plain(name)) is not None


# ------------------------------------------------------------------ what is known of providers

_HOW_MANY: Final = (
    "n",
    "best_of",
    "candidate_count",
    "num_return_sequences",
    "num_completions",
    "num_generations",
    "num_results",
    "num_outputs",
    "num_candidates",
    "num_samples",
    "num_choices",
    "sample_count",
)
_WITHIN: Final = ("model_kwargs", "generation_config", "extra_body", "params", "kwargs")
_COUNTS: Final = frozenset(_plain(name) for name in _HOW_MANY)
_HOLDS: Final = re.compile(
    "kwargs|config|body|param|options|fields|settings|query|json|payload|request|sampling|generation"
)
"""How the members are called in which options go on to the provider."""
