"""What a projector keeps of an attempt and of a model call while they stand, and what it shows of them.

For `views.projector` alone. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    NodeEnded,
    NodeStarted,
    Origin,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.views.changes import Change, Item, Kind, Op, View
from temporal_token_interceptor.views.sequence import Sequence


@dataclass(slots=True)
class Attempt:
    """An attempt that stands.

    Attributes:
        origin: The attempt.
        slot: Its activity's place: what `stable` begins with.
        used: How often an id was used, also by items that were taken back since.
        ids: Its items that stand, in their order.
        stables: How often a `stable` was used.
        running: Tools and nodes that run, by kind and run.
    """

    origin: Origin
    slot: str
    used: dict[str, int] = field(default_factory=dict)
    ids: dict[str, None] = field(default_factory=dict)
    stables: dict[str, int] = field(default_factory=dict)
    running: dict[tuple[str, str], Item] = field(default_factory=dict)
    item: Item = field(init=False)

    @property
    def attempt_id(self) -> str:
        """What distinguishes it from other attempts."""
        return self.origin.attempt_id


@dataclass(slots=True)
class ToolCall:
    """A tool call that a model is writing; held back until its name is known."""

    index: int | str | None
    id: str | None = None
    name: str | None = None
    args: list[str] = field(default_factory=list)
    item: Item | None = None
    shown_id: str | None = None

    def add(self, event: ToolCallChunk) -> None:
        """Take in a fragment. Its arguments are kept only until the tool call is shown."""
        self.id = self.id or event.id
        self.name = self.name or event.name
        if self.item is None and event.args:
            self.args.append(event.args)

    def is_continued_by(self, event: ToolCallChunk) -> bool:
        """Whether a fragment belongs to it, by the rules by which LangChain merges fragments.

        The same index, and no other id. Fragments without an index have an id, or come after the one that
        begins the tool call by its name.
        """
        if self.index != event.index or (self.id and event.id and self.id != event.id):
            return False
        return event.index is not None or bool(event.id and event.id == self.id) or not event.name


@dataclass(slots=True)
class Message:
    """A model call that has not ended.

    Attributes:
        attempt: The attempt that made it.
        ordinal: Counts the calls of the attempt.
        item: The message.
        writing: The text or reasoning that grows.
        block: Which block of its kind that is.
        parts: All its parts, in their order.
        tool_calls: Those of its parts, and those that are not shown yet.
    """

    attempt: Attempt
    ordinal: int
    item: Item
    writing: Item | None = None
    block: int = 0
    parts: list[Item] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)

    def tool_call(self, event: ToolCallChunk) -> ToolCall:
        """Return the tool call that a fragment belongs to, after it was taken in."""
        for call in reversed(self.tool_calls):
            if call.is_continued_by(event):
                break
        else:
            call = ToolCall(event.index)
            self.tool_calls.append(call)
        call.add(event)
        return call


class ChangeWriter:
    """Writes changes: numbers them, folds them into the view, and keeps those of one event together."""

    def __init__(self) -> None:
        self.view = View()
        self.sequence = Sequence()
        self._changes: list[Change] = []
        self._notes = 0

    def take(self, cursor: str) -> list[Change]:
        """Return the changes of an event; the last has its cursor."""
        changes, self._changes = self._changes, []
        if changes:
            changes[-1] = changes[-1]._replace(cursor=cursor)
        return changes

    def open(
        self,
        attempt: Attempt,
        kind: Kind,
        name: str,
        stable: str,
        data: Mapping[str, Any],
        *,
        parent: str = "",
        node: str = "",
    ) -> Item:
        """Open an item of an attempt; a name that was used before gets a number."""
        name, stable = _numbered(name, attempt.used), _numbered(stable, attempt.stables)
        self.add(Change("open", name, kind, parent, stable, data, node=node))
        attempt.ids[name] = None
        return self.view.items[name]

    def grow(self, item: Item, text: str) -> None:
        """Add to the text of an item."""
        self._of(item, "grow", text, item.length)

    def close(self, item: Item, facts: Mapping[str, Any]) -> None:
        """Close an item, unless it is closed."""
        if item.open:
            self._of(item, "close", facts)

    def remove(self, attempt: Attempt, ids: list[str], by: Mapping[str, str]) -> None:
        """Take back items of an attempt; all are closed."""
        nodes = tuple(self.view.items[one].node for one in ids)
        for one in ids:
            del attempt.ids[one]
        self.add(Change("remove", data=tuple(ids), by=by, node=nodes))

    def note(self, of: str, data: Mapping[str, Any], node: str = "") -> None:
        """Add a note, which belongs to an item or to none."""
        self.add(Change("note", of, data=data, at=self._notes, node=node))
        self._notes += 1

    def add(self, change: Change) -> None:
        """Add any change."""
        numbered = change._replace(seq=self.sequence.next())
        self.view.fold(numbered)
        self._changes.append(numbered)

    def _of(self, item: Item, op: Op, data: Any, at: int = 0) -> None:
        self.add(Change(op, item.id, item.kind, item.parent, item.stable, data, at, node=item.node))


def facts_of_call(call: Call) -> dict[str, Any]:
    """Return what is known of a model call when it begins."""
    return without_none(
        {
            "node": call.node_name,
            "path": list(call.path) or None,
            "step": call.step,
            "agent": call.agent_name,
            "model": call.model,
            "tool_call_id": call.tool_call_id,
            "metadata": dict(call.metadata) if call.metadata else None,
        }
    )


def end_of_call(event: CallEnded) -> dict[str, Any]:
    """Return what is known of a model call once it has ended."""
    return without_none(
        {
            "error": event.error,
            "unfinished": event.unfinished or None,
            "usage": dict(event.usage) if event.usage else None,
            "finish": event.finish_reason,
            "message_id": event.message_id,
            "more": dict(event.additional_kwargs) if event.additional_kwargs else None,
        }
    )


def facts_around(event: ToolStarted | ToolEnded | NodeStarted | NodeEnded) -> dict[str, Any]:
    """Return what is known of a tool or node when it begins."""
    facts: dict[str, Any] = {"node": event.node_name, "path": list(event.path) or None, "step": event.step}
    if isinstance(event, ToolStarted | ToolEnded):
        facts |= {"name": event.name, "tool_call_id": event.tool_call_id}
    if isinstance(event, ToolStarted):
        facts |= {"input": event.input, "truncated": event.truncated or None}
    return without_none(facts)


def end_around(event: ToolEnded | NodeEnded) -> dict[str, Any]:
    """Return what is known of a tool or node once it has ended."""
    return without_none(
        {
            "error": event.error,
            "output": event.output,
            "truncated": event.truncated or None,
            "unfinished": event.unfinished or None,
            "interrupted": event.interrupted or None,
        }
    )


def run_of(event: ToolStarted | ToolEnded | NodeStarted | NodeEnded) -> tuple[str, str]:
    """Return what a start and an end have in common."""
    if isinstance(event, NodeStarted | NodeEnded):
        return ("node", event.run_id)
    return ("tool", event.run_id or event.tool_call_id or event.name)


def forget(view: View, attempts: dict[str, Attempt], most: int, runs: Collection[str]) -> None:
    """Forget the oldest attempts of other runs than these, until at most so many items are left.

    For a workflow that goes on without end: a state that kept all its runs would grow without end, too.
    """
    for attempt in list(attempts.values()):
        if len(view.items) <= most:
            break
        if attempt.origin.run_id not in runs:
            del attempts[attempt.attempt_id]
            view.fold(Change("remove", data=tuple(attempt.ids)))


def slot_of(origin: Origin, attempts: Iterable[Attempt]) -> str:
    """Return the place of an activity; where a workflow uses an id again, it is numbered."""
    # What is opened again is numbered behind a plus sign: no place must look like it.
    slot = f"{origin.run_id[:8]}.{origin.activity_id.replace('+', '%2B')}"
    taken = {attempt.slot for attempt in attempts}
    numbered = (f"{number}-{slot}" for number in count(1))
    return slot if slot not in taken else next(one for one in numbered if one not in taken)


def without_none(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {name: value for name, value in facts.items() if value is not None}


def _numbered(name: str, used: dict[str, int]) -> str:
    number = used.get(name, 0)
    used[name] = number + 1
    return f"{name}+{number}" if number else name


def is_for_programs(block: Mapping[str, Any]) -> bool:
    """Whether a block only has what a text says beside itself, such as a signature, and no sources."""
    kind = block.get("type")
    return kind in ("text", "reasoning") and not block.get(kind) and not block.get("annotations")
