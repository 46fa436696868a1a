"""Names, tags and ids as they are sent: text within a length, with a mark where something was cut.

They stand in every event of a call, and a user or a provider can make them as long as a document.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from hashlib import sha256
from itertools import islice
from typing import Final

from temporal_token_interceptor.capture.json_values import CUT_MARK

NAME_CHARACTERS: Final = 256
"""Of a name, a tag, a node of a path, a finish reason; what is longer ends with `…` and how much was cut."""

MOST_TAGS: Final = 64
"""Of a call's tags, and of the nodes of its path; a last one of `…` says how many were cut."""

ID_CHARACTERS: Final = 16 * 1024
"""Of an id. Long ones are real: some providers write a signature of the reasoning into a tool call's id."""

_SHOWN_OF_IDS = 256


def name_of(value: object) -> str | None:
    """Return a name as text; None for what is no text."""
    if isinstance(value, Enum):
        value = value.name
    if type(value) is not str:
        if not isinstance(value, str):
            return None
        value = str.__str__(value)
    if len(value) <= NAME_CHARACTERS:
        return value
    return f"{value[:NAME_CHARACTERS]}{CUT_MARK}({len(value) - NAME_CHARACTERS} characters more)"


def names_of(values: Collection[object] | None) -> tuple[str, ...]:
    """Return names, such as tags, in order; what is no text is left out."""
    if not values:
        return ()
    if len(values) <= MOST_TAGS:
        return _names(values)
    return (*_names(islice(values, MOST_TAGS)), f"{CUT_MARK}({len(values) - MOST_TAGS} more)")


def id_of(value: object) -> str | None:
    """Return an id; a longer one cut and followed by its hash, so that different ids stay different."""
    if not isinstance(value, str) or len(value) <= ID_CHARACTERS:
        return value if isinstance(value, str) else None
    digest = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{value[:_SHOWN_OF_IDS]}{CUT_MARK}({digest})"


def _names(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(name for name in map(name_of, values) if name is not None)
