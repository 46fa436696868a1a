"""Which of the messages that a node returns a reader has already: the mode `messages` leaves them out.

LangGraph's own stream decides by ids, and gives an id to each message that has none. Nothing of the user's
may change here: such a message gets an id of ours, beside it, for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final
from uuid import UUID
from weakref import ref

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from temporal_token_interceptor.capture.json_values import is_dataclass, stored
from temporal_token_interceptor.capture.names import id_of

_MOST: Final = 100_000
"""Ids that are remembered of an attempt. Later ones are not: their messages may be shown a second time."""


class KnownMessages:
    """The ids of the messages that a reader of one attempt has, or that its graphs were given.

    A reader that leaves out subgraphs has fewer: those of the outermost graphs.
    """

    def __init__(self) -> None:
        self._outermost: set[str] = set()
        self._inner: set[str] = set()
        self._made: dict[int, tuple[ref[BaseMessage], str]] = {}  # by `id()`: a message has no hash

    def add(self, path: tuple[str, ...], message_id: str | None) -> None:
        """Note the id of a message that was streamed in the graph at a path."""
        known = self._inner if path else self._outermost
        if message_id is not None and len(known) < _MOST:
            known.add(message_id)

    def add_input(self, path: tuple[str, ...], state: object) -> None:
        """Note the messages in the input of a node."""
        for value in _values(state):
            for message in _messages_in(value):
                self.add(path, id_of(stored(message, "id")))

    def of_output(self, path: tuple[str, ...], run_id: UUID, output: object) -> dict[str, tuple[str, ...]]:
        """Return what `NodeEnded` says of the messages in a node's output; they are known from then on."""
        ids: list[str] = []
        made: list[str] = []
        for message in returned_by(output):
            known_as = self._made_for(message)
            own = id_of(stored(message, "id"))
            if own is None:
                if known_as is None:
                    known_as = f"{run_id}-{len(made)}"
                    self._remember(message, known_as)
                made.append(known_as)
            elif known_as is not None:  # its graph has given it an id since
                for known in (self._outermost, self._inner):
                    if known_as in known:
                        known.add(own)
            ids.append(own or known_as or "")
        facts = {
            "made_ids": tuple(made),
            "known_ids": tuple(one for one in ids if one in self._outermost),
            "known_inner_ids": tuple(one for one in ids if one in self._inner and one not in self._outermost),
        }
        for one in ids:
            self.add(path, one)
        return facts

    def _made_for(self, message: BaseMessage) -> str | None:
        alive, made = self._made.get(id(message), (None, None))
        return made if alive is not None and alive() is message else None

    def _remember(self, message: BaseMessage, made: str) -> None:
        if len(self._made) < _MOST:
            self._made[id(message)] = (ref(message), made)


def returned_by(output: object) -> list[BaseMessage]:
    """Return the messages in a node's output, where LangGraph looks for them, in its order."""
    if _is_command(output):
        return _found_in(stored(output, "update"))
    parts = _parts(output)
    if any(_is_command(part) for part in parts):
        updates = (stored(part, "update") if _is_command(part) else part for part in parts)
        return [message for update in updates for message in _found_in(update)]
    return _found_in(output)


def _found_in(update: object) -> list[BaseMessage]:
    if messages := _messages_in(update):
        return messages
    return [message for value in _values(update) for message in _messages_in(value)]


def _messages_in(value: object) -> list[BaseMessage]:
    """Return a message, or those of a list."""
    if issubclass(type(value), BaseMessage):
        return [value]  # type: ignore[list-item]  # `isinstance` would ask the value
    return [part for part in _parts(value) if issubclass(type(part), BaseMessage)]


def _parts(value: Any) -> list[Any]:
    for sequence in (list, tuple):
        if issubclass(type(value), sequence):
            return [*sequence.__iter__(value)]
    return []


def _values(state: Any) -> Iterable[object]:
    """Return the values of a state: of a dict, a model or a dataclass; a message is none."""
    kind = type(state)
    if issubclass(kind, dict):
        return [*dict.values(state)]
    if issubclass(kind, BaseModel) and not issubclass(kind, BaseMessage):
        return [stored(state, name) for name in kind.model_fields]
    if is_dataclass(kind):
        return [stored(state, field.name) for field in fields(kind)]
    return []


def _is_command(value: object) -> bool:
    return any(
        kind.__module__ == "langgraph.types" and kind.__name__ == "Command" for kind in type(value).__mro__
    )
