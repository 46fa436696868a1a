"""The calls of models and the tools of one graph of a run: a handle for each, fed until it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol
from weakref import WeakSet

from temporal_token_interceptor.errors import CallNotCompleted, TokensMissing
from temporal_token_interceptor.events import Call, Event, NodeEnded, StreamEnded
from temporal_token_interceptor.views.call_metadata import Source
from temporal_token_interceptor.views.message_events import MessageEvent
from temporal_token_interceptor.views.model_call import ModelCall
from temporal_token_interceptor.views.projection import KEPT, More, Projection
from temporal_token_interceptor.views.replayed_message import replayed
from temporal_token_interceptor.views.tool_call_stream import ToolCallStream
from temporal_token_interceptor.views.transformers import TransformerFactory

_ALL = 2**62  # a handle keeps all of its message, too

Key = tuple[str, int]
"""A call: its attempt's id, and its ordinal. Run ids are the writer's word, and may come twice."""


class FedCall(Protocol):
    """A handle of a message, as it is fed."""

    superseded: bool

    def dispatch(self, event: Mapping[str, Any]) -> None:
        """Take in an event of LangChain's protocol."""
        ...

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        ...


def model_call(source: Source, shared: Shared) -> ModelCall:
    """Return a handle for asynchronous loops."""
    made = ModelCall(source)
    made.set_arequest_more(shared.feed)
    return made


@dataclass(slots=True)
class Shared:
    """What all graphs of a run share.

    Attributes:
        more: Waits until one more event was read.
        feed: The same for a call; whether there may be more.
        factories: Make the reader's own transformers.
        number: Gives the next number of the raw events.
        flat: Whether the outermost graph shows what its subgraphs say, too.
        stamp: Gives each item its place among all.
        make_call: Makes the handle of a message.
        reported: Messages that a retry would have to mark, by attempt id: of this run of the workflow and of
            the one before.
    """

    more: More
    feed: Callable[[], Awaitable[bool]]
    factories: Sequence[TransformerFactory]
    number: Callable[[], int]
    flat: bool = False
    stamp: Callable[[], int] = field(default_factory=lambda: count().__next__)
    make_call: Callable[[Source, Shared], FedCall] = model_call
    reported: list[dict[str, WeakSet[FedCall]]] = field(default_factory=lambda: [{}])

    def projection(self, kept: int = KEPT) -> Projection[Any]:
        """Return a projection of the run."""
        return Projection(self.more, self.stamp, kept=kept)


class QueuedCall:
    """A message whose events wait for a thread that feeds a handle of its own with them.

    Attributes:
        source: Where the message comes from.
        events: LangChain's events of the message, to its end; as many as the message has.
    """

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source = source
        self.superseded = False
        self.events: Projection[Mapping[str, Any]] = shared.projection(_ALL)

    def dispatch(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        self.events.push(event)
        if event["event"] == "message-finish":
            self.events.end(None)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.events.end(error if isinstance(error, Exception) else CallNotCompleted(str(error)))


class RunCalls:
    """Makes and feeds the handles.

    Args:
        shared: What all graphs of the run share.
        messages: Where handles of models go.
        tool_calls: Where handles of tools go.
    """

    def __init__(
        self, shared: Shared, messages: Projection[Any], tool_calls: Projection[ToolCallStream]
    ) -> None:
        self._shared = shared
        self._messages = messages
        self._tool_calls = tool_calls
        self._live: dict[Key, FedCall] = {}
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
            stream = self._live[key] = self._begun(Source.of_call(event.origin, call))
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

    def whole(self, message: object, event: Event) -> None:
        """Show a message that a node returned whole, as LangGraph does: of no tool, and no piece of a stream.

        Args:
            message: The message.
            event: The end of the node.
        """
        if not isinstance(event, NodeEnded) or (events := replayed(message)) is None:
            return
        stream = self._begun(Source.of_node(event, events[0]["id"]))
        self._messages.push(stream)
        try:
            for said in events:
                stream.dispatch(said)
        except Exception as refused:  # noqa: BLE001 - of a block of the user's that LangChain does not take
            stream.fail(CallNotCompleted(type(refused).__name__))

    def _begun(self, source: Source) -> FedCall:
        """Return the handle of a message, which a retry marks."""
        stream = self._shared.make_call(source, self._shared)
        self._shared.reported[-1].setdefault(source.origin.attempt_id, WeakSet()).add(stream)
        return stream

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
