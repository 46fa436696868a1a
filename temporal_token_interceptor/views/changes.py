"""What a screen has to do: seven kinds of change, and the state that they lead to.

A subscription reports events; a screen shows items: attempts, messages, texts, tools. `views.projector` turns
the first into changes of the second, and every format of the gateway is an encoder of these changes.
`View.fold` is the only way to change a state. The same function exists for browsers (`tti.js`), and tests
compare the two.

Folding is idempotent where a client needs it: `at` says how long a text was before it grew, so that a client
that receives the end of a stream a second time, from any earlier place, arrives at the same state. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Op = Literal["open", "grow", "close", "remove", "note", "run", "end", "event"]
"""What a change does. `open`, `grow` and `close` are of one item. `remove` takes items back, with their
children and their notes. `note` adds a gap, a custom event or a graph's own event. `run` names the run that
the workflow is in, `end` how it closed. `event` changes nothing: it carries an event as it is, for readers
that want those (`gateway.raw_events`)."""

Kind = Literal["attempt", "message", "text", "reasoning", "tool_call", "tool", "node", "block"]
"""What an item is. Attempts have messages (one for each model call), tools and nodes; a message has texts,
reasonings, tool calls and other blocks, in the order in which the model began them."""


class Change(NamedTuple):
    """One change of what a screen shows. A tuple, because there is one for each token.

    Attributes:
        op: See `Op`.
        id: The item; of a note, the item that it belongs to, or empty.
        kind: The item's kind; empty where there is no item.
        parent: The item that it is a part of; empty for attempts.
        stable: Names the same thing in every attempt, where `id` is new in each: for a client that wants one
            bubble for each model call.
        data: Of `open`, what is known of the item; of `grow`, the text; of `close`, how it ended; of
            `remove`, the ids; of `note`, one member: `gap`, `custom` or `graph`; of `run`, the run's id; of
            `end`, the status.
        at: Of `grow`, the length of the text before, in UTF-16 units (as JavaScript counts); of `note`, how
            many notes came before.
        seq: Grows with each change and fits into 53 bits; see `views.sequence`.
        cursor: On the last change of an event: resumes right after it. Empty on those before.
        by: Of `remove`: `attempt` (whose items), and `superseded_by` (the attempt that replaces it) or
            `error` (the call failed, and the graph went on without it). Of `event`: its `kind`, for filters.
        node: The graph's node that the item belongs to, for filters; of `remove`, one for each id. Not sent.
    """

    op: Op
    id: str = ""
    kind: Kind | Literal[""] = ""
    parent: str = ""
    stable: str = ""
    data: Any = None
    at: int = 0
    seq: int = 0
    cursor: str = ""
    by: Mapping[str, str] | None = None
    node: str | tuple[str, ...] = ""

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON values, with its `op`; what is empty is left out."""
        value: dict[str, Any] = {"op": self.op}
        if self.id:
            value["id"] = self.id
        match self.op:
            case "open":
                value |= {"kind": self.kind, "stable": self.stable, "data": self.data}
                if self.parent:
                    value["parent"] = self.parent
            case "grow" | "note":
                value |= {"at": self.at, "data": self.data}
            case "remove":
                value |= {"data": list(self.data), "by": dict(self.by or {})}
            case _:
                value["data"] = self.data
        return value


class Item:
    """One thing on the screen. Its text is kept in pieces, so that a long one grows cheaply.

    Attributes:
        id: See `Change`; so `kind`, `parent`, `stable`, `node`.
        data: What was known when it began.
        length: Of the text, in UTF-16 units.
        open: Whether it may grow.
        facts: How it ended; empty while it is open.
    """

    __slots__ = ("_pieces", "data", "facts", "id", "kind", "length", "node", "open", "parent", "stable")

    def __init__(self, change: Change) -> None:
        self.id = change.id
        self.kind: Kind | Literal[""] = change.kind
        self.parent = change.parent
        self.stable = change.stable
        self.node = change.node if isinstance(change.node, str) else ""
        self.data: Mapping[str, Any] = change.data or {}
        self.open = True
        self.facts: Mapping[str, Any] = {}
        self.length = 0
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The text so far. Halves of a character that came apart are joined."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return joined_halves(self._pieces[0]) if self._pieces else ""

    def grow(self, at: int, text: str) -> None:
        """Put a text at its place; what was there before, from that place on, is replaced."""
        if at < self.length:
            self._pieces = [_units(self.text, at)]
        self._pieces.append(text)
        self.length = min(at, self.length) + utf16_length(text)

    def to_json(self) -> dict[str, Any]:
        """Return the item as JSON values."""
        return {
            "id": self.id,
            "kind": self.kind,
            "parent": self.parent,
            "stable": self.stable,
            "data": dict(self.data),
            "text": self.text,
            "open": self.open,
            "facts": dict(self.facts),
        }


class Note(NamedTuple):
    """Something that was reported beside the items: a gap, a custom event, a graph's own event.

    Attributes:
        at: How many notes came before it.
        id: The item that it belongs to, with which it is taken back; empty for none.
        data: One member, named for what it is.
        node: As of `Change`.
    """

    at: int
    id: str
    data: Mapping[str, Any]
    node: str


class View:
    """What stands: the state of a screen. `fold` is the only way to change it.

    Attributes:
        items: By id, in the order in which they were opened; a child comes after its parent.
        notes: In their order.
        status: How the workflow closed; None while it has not.
        run: The run that the workflow is in; empty before the first event.
    """

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.notes: list[Note] = []
        self.status: str | None = None
        self.run = ""

    def fold(self, change: Change) -> None:
        """Take in one change. One that is known already changes nothing."""
        match change.op:
            case "open" | "grow" | "close":
                self._fold_item(change)
            case "remove":
                self._remove(change.data)
            case "note":
                self.notes = [note for note in self.notes if note.at < change.at]
                self.notes.append(Note(change.at, change.id, change.data, str(change.node)))
            case "run":
                self.run = change.data
            case "end":
                self.status = change.data

    def reopen(self, cursor: str = "") -> list[Change]:
        """Return the changes that lead from an empty view to this one: what a late client gets first.

        Args:
            cursor: What the last of them carries.
        """
        changes = [Change("run", data=self.run)] if self.run else []
        for item in self.items.values():
            changes.append(change_of(item, "open", item.data))
            if item.length:
                changes.append(change_of(item, "grow", item.text))
        changes += [
            change_of(item, "close", item.facts) for item in reversed(self.items.values()) if not item.open
        ]
        changes += [
            Change("note", note.id, data=note.data, at=note.at, node=note.node) for note in self.notes
        ]
        if self.status is not None:
            changes.append(Change("end", data=self.status))
        if changes:
            changes[-1] = changes[-1]._replace(cursor=cursor)
        return changes

    def to_json(self) -> dict[str, Any]:
        """Return the whole state as JSON values: what an event `snapshot` carries."""
        return {
            "run": self.run,
            "items": [item.to_json() for item in self.items.values()],
            "notes": [{"at": note.at, "id": note.id, "data": dict(note.data)} for note in self.notes],
            "status": self.status,
        }

    def _fold_item(self, change: Change) -> None:
        item = self.items.get(change.id)
        if item is None:
            # A parent that is missing was taken back since: an old change comes again.
            if change.op == "open" and (not change.parent or change.parent in self.items):
                self.items[change.id] = Item(change)
        elif change.op == "grow":
            item.grow(change.at, change.data)
        else:
            item.open = change.op == "open"
            item.facts = {} if item.open else change.data or {}

    def _remove(self, ids: Sequence[str]) -> None:
        for one in ids:
            self.items.pop(one, None)
        if self.notes:
            gone = set(ids)
            self.notes = [note for note in self.notes if note.id not in gone]


def coalesced(changes: Iterable[Change]) -> list[Change]:
    """Join neighbouring growths of one item: what waits for a slow client becomes few changes."""
    joined: list[Change] = []
    pieces: list[str] = []  # of the last change, if it is a growth
    for change in changes:
        last = joined[-1] if joined else None
        if last is not None and pieces and change.op == "grow" and change.id == last.id:
            pieces.append(change.data)
            joined[-1] = last._replace(seq=change.seq, cursor=change.cursor or last.cursor)
            continue
        if len(pieces) > 1 and last is not None:
            joined[-1] = last._replace(data="".join(pieces))
        pieces = [change.data] if change.op == "grow" else []
        joined.append(change)
    if len(pieces) > 1:
        joined[-1] = joined[-1]._replace(data="".join(pieces))
    return joined


def utf16_length(text: str) -> int:
    """Return how long JavaScript finds a text; half a character counts one, a whole one beyond U+FFFF two."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def joined_halves(text: str) -> str:
    """Join the halves of characters that came apart; half a character alone stays what it is."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def whole_characters(text: str) -> str:
    """Join the halves of characters that came apart; half a character alone becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _units(text: str, length: int) -> str:
    """Return the beginning of a text, so many UTF-16 units long."""
    if text.isascii():
        return text[:length]
    return text.encode("utf-16-le", "surrogatepass")[: 2 * length].decode("utf-16-le", "surrogatepass")


def after_units(text: str, length: int) -> str:
    """Return the rest of a text, from a place that is counted in UTF-16 units."""
    if text.isascii():
        return text[length:]
    return text.encode("utf-16-le", "surrogatepass")[2 * length :].decode("utf-16-le", "surrogatepass")


def change_of(item: Item, op: Op, data: Any) -> Change:
    """Return a change of an item."""
    return Change(op, item.id, item.kind, item.parent, item.stable, data, node=item.node)
