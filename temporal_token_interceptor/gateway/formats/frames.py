"""What encoders of foreign protocols share: each change becomes frames, and each frame an event of a stream.

An encoder folds what it was given, so it knows what its client has been shown, also where another client of
the same workflow is further ahead. The same changes give the same frames in every process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from temporal_token_interceptor.gateway.encoder import json_text
from temporal_token_interceptor.views.changes import Change, Item, View
from temporal_token_interceptor.views.difference import difference

Frame = dict[str, Any]
"""One event of a protocol, as JSON values."""

PARTS = frozenset({"text", "reasoning", "tool_call"})
"""The kinds of items that every protocol shows."""


class FrameEncoder(ABC):
    """An `Encoder` of server-sent events whose data is JSON, for one client, from where its stream begins.

    Attributes:
        view: What the client has been shown.
    """

    media_type = "text/event-stream"
    name: str

    def __init__(self) -> None:
        self.view = View()

    def begin(self) -> bytes:
        """Return a comment, which a protocol's client skips, and the frames that come before all others."""
        return b": open\n\n" + self._written(self.first())

    def late(self, view: View, cursor: str) -> bytes:
        """Return what leads from what the client has been shown to a later state."""
        return self.encode(difference(self.view, view, cursor))

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return the events of changes."""
        return b"".join(self._written(self.frames(change)) for change in changes)

    def ping(self) -> bytes:
        """Return a comment."""
        return b": ping\n\n"

    def reconnect(self, after: int, reason: str) -> bytes:  # noqa: ARG002 - these protocols have no word for it
        """Return the time to wait, which some clients heed."""
        return f"retry: {after}\n\n".encode()

    def problem(self, status: int, detail: str) -> bytes:
        """Return the frames that end a stream which cannot go on."""
        return self._written(self.failed(status, detail))

    @abstractmethod
    def failed(self, status: int, detail: str) -> Iterable[Frame]:
        """Return the frames that report an error of the stream; `status` is as of HTTP."""

    @abstractmethod
    def first(self) -> Iterable[Frame]:
        """Return the frames that begin a stream."""

    @abstractmethod
    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its frames; the caller takes all of them."""

    def event(self, frame: Frame) -> bytes:
        """Return a frame as an event."""
        return f"data: {json_text(frame)}\n\n".encode("ascii")

    def taken_back(self, change: Change) -> frozenset[str]:
        """Fold a `remove` and return the kinds of what the client loses."""
        gone = frozenset(self.view.items[one].kind for one in change.data if one in self.view.items)
        self.view.fold(change)
        return gone

    def _written(self, frames: Iterable[Frame]) -> bytes:
        return b"".join([self.event(frame) for frame in frames])


class NumberedEncoder(FrameEncoder):
    """A `FrameEncoder` whose events have numbers, and which leaves out those that its client has.

    Args:
        since: The number of the last event that the client has.
        first: The number that the first of all events has.
    """

    def __init__(self, since: int, *, first: int) -> None:
        super().__init__()
        self._since = since
        self._last = first - 1

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return the events of changes, with numbers that are at least theirs."""
        written: list[bytes] = []
        for change in changes:
            self._last = max(self._last, change.seq - 1)
            written.append(super().encode([change]))
        return b"".join(written)

    def next_number(self) -> int | None:
        """Return the number of the next event; None if the client has that event."""
        self._last += 1
        return self._last if self._last > self._since else None


def name_of(call: Item) -> str:
    """Return the name of a tool call; every protocol wants one."""
    name: str = call.data.get("name") or "unknown"
    return name


def tools_of(view: View, call: Item) -> list[Item]:
    """Return the runs of a tool that have ended and that a tool call asked for."""
    return [
        tool
        for tool in view.items.values()
        if tool.kind == "tool" and not tool.open and call_of(view, tool) is call
    ]


def call_of(view: View, tool: Item) -> Item | None:
    """Return the tool call that asked for a run of a tool.

    Providers use ids again, in other attempts and some in one: it is the last of this id that the attempt
    had begun before the run.
    """
    wanted, found = _tool_call_id(tool), None
    if wanted is None:
        return None
    for item in view.items.values():
        if item is tool:
            return found
        if (
            item.kind == "tool_call"
            and _tool_call_id(item) == wanted
            and view.items[item.parent].parent == tool.parent
        ):
            found = item
    return found


def _tool_call_id(item: Item) -> str | None:
    """Return the provider's id; a tool call may get it late."""
    found: str | None = item.facts.get("tool_call_id") or item.data.get("tool_call_id")
    return found
