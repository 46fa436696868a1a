"""The calls of models and the tools of one graph of a run: a handle for each, fed until it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakSet

from temporal_token_interceptor.errors import CallNotCompleted, TokensMissing
from temporal_token_interceptor.events import Call, Event, StreamEnded
from temporal_token_interceptor.views.message_events import MessageEvent
from temporal_token_interceptor.views.model_call import ModelCall
from temporal_token_interceptor.views.projection import KEPT, More, Projection
from temporal_token_interceptor.views.tool_call_stream import ToolCallStream
from temporal_token_interceptor.views.transformers import TransformerFactory

Key = tuple[str, int]
"""A call: its attempt's id, and its ordinal. Run ids are the writer's word, and may come twice."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all graphs of a run share.

    Attributes:
        more: Waits until one more event was read.
        feed: The same for a call; whether there may be more.
        factories: Make the reader's own transformers.
        number: Gives the next number of the raw events.
        flat: Whether the outermost graph shows what its subgraphs say, too.
        stamp: Gives each item its place among all.
        reported: Calls that a retry would have to mark, by attempt id: of this run of the workflow and of the
            one before.
    """

    more: More
    feed: Callable[[], Awaitable[bool]]
    factories: Sequence[TransformerFactory]
    number: Callable[[], int]
    flat: bool = False
    stamp: Callable[[], int] = field(default_factory=lambda: count().__next__)
    reported: list[dict[str, WeakSet[ModelCall]]] = field(default_factory=lambda: [{}])

    def projection(self, kept: int = KEPT) -> Projection[Any]:
        """Return a projection of the run."""
        return Projection(self.more, self.stamp, kept=kept)


class RunCalls:
    """Makes and feeds the handles.

    Args:
        shared: What all graphs of the run share.
        messages: Where handles of models go.
        tool_calls: Where handles of tools go.
    """

    def __init__(
        self, shared: Shared, messages: Projection[ModelCall], tool_calls: Projection[ToolCallStream]
    ) -> None:
        self._shared = shared
        self._messages = messages
        self._tool_calls = tool_calls
        self._live: dict[Key, ModelCall] = {}
        self._tools: dict[tuple[str, str], ToolCallStream] = {}

    def message(self, said: MessageEvent, key: Key, event: Event) -> None:
        """Take in an event of a message.

        Args:
            said: The event.
            key: Which call.
            event: What it was made of.
        """
        if said["event"] == "message-start":
            call: Call | None = getattr(event, "call", None)
            if call is None or event.origin is None:
                return
            stream = self._live[key] = ModelCall(event.origin, call)
            stream.set_arequest_more(self._shared.feed)
            calls = self._shared.reported[-1].setdefault(event.origin.attempt_id, WeakSet())
            calls.add(stream)
            stream.dispatch(said)
            self._messages.push(stream)
            return
        if (known := self._live.get(key)) is None:
            return
        if said["event"] != "error":
            known.dispatch(said)
            if said["event"] != "message-finish":
                return
        elif isinstance(event, StreamEnded):
            return  # it ends as the run does
        elif said["code"] == "missing":
            known.fail(TokensMissing((said["message"],), event.cursor))
        else:
            known.fail(CallNotCompleted(said["message"]))
        del self._live[key]

    def tool(self, data: Mapping[str, Any], attempt_id: str) -> None:
        """Take in an event of a tool of an attempt."""
        id_, key = data["tool_call_id"], (attempt_id, data["tool_call_id"])
        match data["event"]:
            case "tool-started":
                tool = ToolCallStream(id_, data["tool_name"], data.get("input"), self._shared.projection())
                if key in self._tools:  # a provider uses ids again
                    self._tools[key].end(error="unfinished")
                self._tools[key] = tool
                self._tool_calls.push(tool)
            case "tool-finished" if key in self._tools:
                self._tools.pop(key).end(output=data["output"])
            case "tool-error" if key in self._tools:
                self._tools.pop(key).end(error=data["message"])
            case _:
                pass

    def end(self, error: Exception | None) -> None:
        """End what is open."""
        for call in self._live.values():
            call.fail(error or CallNotCompleted("unfinished"))
        for tool in self._tools.values():
            tool.end(error="unfinished")
        self._live.clear()
        self._tools.clear()
