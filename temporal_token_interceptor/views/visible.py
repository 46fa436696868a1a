"""What one client may see of the changes that are made for all: by node, by kind, with or without content.

A pure function of a change, so that a client that joins late, or resumes, is shown the same as one that was
there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.views.changes import Change, View

ShownKind = Literal["text", "reasoning", "tool_call", "block", "tool", "node", "custom", "graph"]
"""What can be chosen. Attempts, messages, gaps and the end are always shown."""

SHOWN_KINDS: frozenset[str] = frozenset(get_args(ShownKind))

# Facts that are the user's content, and not about it.
_CONTENT = frozenset({"input", "output", "data", "more", "metadata"})


@dataclass(frozen=True, slots=True)
class Visible:
    """What a client may see; None stands for all.

    Attributes:
        nodes: Nodes of graphs; outside of a graph, activity types. Of other nodes not even a message is
            shown.
        kinds: Some of `SHOWN_KINDS`.
        content: Whether texts, arguments, results and custom data are shown, or only that they are there.

    Raises:
        ConfigurationError: `kinds` names an unknown kind, or one of the two is a single string.
    """

    nodes: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    content: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.nodes, str) or isinstance(self.kinds, str):
            raise ConfigurationError("nodes and kinds are sets of names, not one string")
        if unknown := sorted((self.kinds or frozenset()) - SHOWN_KINDS):
            known = ", ".join(sorted(SHOWN_KINDS))
            raise ConfigurationError(f"kinds can be {known}; not {', '.join(unknown)}")

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.nodes is None and self.kinds is None and self.content

    def narrowed(self, nodes: frozenset[str] | None, kinds: frozenset[str] | None) -> Visible:
        """Return what is visible by both; a client can narrow what it may see, and never widen it."""
        return Visible(_both(self.nodes, nodes), _both(self.kinds, kinds), self.content)

    def of(self, change: Change) -> Change | None:
        """Return the change as the client may see it; None if it may not."""
        if self.is_all:
            return change
        if change.op == "remove":
            shown = [
                (one, node)
                for one, node in zip(change.data, change.node, strict=True)
                if self._shows(kind_of(one), node)
            ]
            if not shown:
                return None
            ids, nodes = zip(*shown, strict=True)
            return change._replace(data=ids, node=nodes)
        if change.op == "event":
            # What an event holds is content in too many places to be taken out.
            return (
                change if self.content and self._shows((change.by or {})["kind"], str(change.node)) else None
            )
        kind = next(iter(change.data)) if change.op == "note" else change.kind
        if not self._shows(kind, str(change.node)):
            return None
        return change if self.content else _without_content(change)

    def view(self, view: View) -> View:
        """Return the state as the client may see it."""
        if self.is_all:
            return view
        seen = View()
        for change in view.reopen():
            if (shown := self.of(change)) is not None:
                seen.fold(shown)
        return seen

    def _shows(self, kind: str, node: str) -> bool:
        if self.kinds is not None and kind in SHOWN_KINDS and kind not in self.kinds:
            return False
        return self.nodes is None or not node or node in self.nodes


def kind_of(id: str) -> str:  # noqa: A002 - as `Change` names it
    """Return an item's kind; its id shows it."""
    kind = _KINDS[id[0]]
    if kind != "message":
        return kind
    part = re.split(r"[.+]", id.partition("/")[2], maxsplit=1)[0]
    return {"": "message", "call": "tool_call"}.get(part, part)


_KINDS = {"a": "attempt", "m": "message", "t": "tool", "n": "node"}


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return other if one is None else one if other is None else one & other


def _without_content(change: Change) -> Change | None:
    if change.op == "grow":
        return None
    data = change.data
    if change.kind == "block":
        data = {"type": data["type"]} if "type" in data else {}
    elif isinstance(data, Mapping):
        data = {name: _bare(value) for name, value in data.items() if name not in _CONTENT}
    return change._replace(data=data)


def _bare(value: Any) -> Any:
    """Leave the content out of a note's member, too."""
    if isinstance(value, Mapping) and not _CONTENT.isdisjoint(value):
        return {name: fact for name, fact in value.items() if name not in _CONTENT}
    return value
