"""A subscription in LangGraph's stream modes: what `graph.astream(stream_mode=...)` yields, item by item.

Graphs that an activity runs by `stream_graph` forward their modes. Of a plain `ainvoke` callbacks show
`messages`, what nodes returned (`updates`, with `capture={"node_output"}`) and what was dispatched
(`custom`).

LangGraph's stream takes nothing back, and misses nothing. Where it puts what stands outside of the state, it
uses keys with underscores (`__interrupt__`); so does this, for what Temporal adds: `__retry__`, `__gap__`
and `__truncated__`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallStarted,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    StreamEnded,
)
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.graph_updates import TRUNCATED, node_update
from temporal_token_interceptor.views.graph_values import update_of, with_messages
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.message_stream import Past, recall_from
from temporal_token_interceptor.views.namespaces import Namespace, Namespaces
from temporal_token_interceptor.views.stream_modes import Choice, Item

_EACH_GRAPH_HAS = frozenset({"values", "updates", "tasks", "debug"})


class Items:
    """Turns events into the items of some modes, one by one; pure.

    Args:
        choice: The modes.
        cursor: Where the events begin.

    Attributes:
        chunks: What the mode `messages` is made of; None without it.
    """

    def __init__(self, choice: Choice, cursor: str = "") -> None:
        self._choice = choice
        self._cursor = cursor
        self._ending = Ending()
        self.chunks = (
            Chunks(subgraphs=choice.subgraphs, cursor=cursor) if "messages" in choice.modes else None
        )
        self._namespaces = Namespaces()
        self._came: set[str] = set()  # the modes of which something came
        self._has_graph = self._has_stream_graph = self._is_complete = False

    def read(self, event: Event) -> list[Item]:
        """Return what an event adds."""
        said = [*self._messages(event), *self._others(event)]
        if not isinstance(event, Gap) or event.call is None or self._misses(event.call):
            self._ending.note(event)
        # Only the last has the event's cursor: a reader that resumes before it gets all of them again.
        items = [
            Item(*each, self._cursor if number < len(said) else event.cursor, event.origin)
            for number, each in enumerate(said, 1)
        ]
        self._cursor = event.cursor or self._cursor
        return items

    def end(self, *, is_whole: bool) -> None:
        """Raise if the stream did not end well, or if it could not have a mode that was asked for.

        Args:
            is_whole: Whether all was read, from the beginning.

        Raises:
            WorkflowNotCompleted: as Temporal says.
            TokensMissing: something did not arrive.
            ConfigurationError: a graph ran, and nothing that the worker sends of it is of this mode.
        """
        self._ending.check()
        if not (is_whole and self._is_complete and self._has_graph):
            return  # what has not come may have come before, or might have come later
        for mode in self._choice.modes:
            if mode in _EACH_GRAPH_HAS:
                is_missing = mode not in self._came
            else:  # a graph may well have none of these
                is_missing = mode == "checkpoints" and not self._has_stream_graph
            if is_missing:
                raise ConfigurationError(_why_missing(mode))

    # ------------------------------------------------------------------ one event

    def _misses(self, call: Call) -> bool:
        """Whether a reader of these modes misses what is missing of a call."""
        return self.chunks is not None and (self._choice.subgraphs or not call.path)

    def _messages(self, event: Event) -> list[_Said]:
        if self.chunks is None:
            return []
        place = event if isinstance(event, NodeEnded) else getattr(event, "call", None)
        namespace = () if place is None else self._namespaces.of(place)
        return [(namespace, "messages", message) for message in self.chunks.read(event)]

    def _others(self, event: Event) -> list[_Said]:
        match event:
            case GraphEvent():
                self._has_graph = self._has_stream_graph = True
                self._came.add(event.mode)
                chunk = TRUNCATED if event.truncated else with_messages(event.data)
                return self._shown(event.path, event.mode, chunk)
            case NodeStarted():
                self._has_graph = True
                self._namespaces.begin(event)
                return []
            case NodeEnded():
                return self._node_ended(event)
            case CustomEvent(forwarded=False):
                data = TRUNCATED if event.truncated else with_messages(event.data)
                return self._shown(self._namespaces.of(event), "custom", {"name": event.name, "data": data})
            case AttemptStarted(supersedes=Origin() as superseded):
                self._namespaces.forget(superseded)
                facts = {
                    "activity_id": event.origin.activity_id,
                    "activity_type": event.origin.activity_type,
                    "attempt": event.origin.attempt,
                }
                return self._beside({"__retry__": facts})
            case AttemptEnded():
                self._namespaces.forget(event.origin)
                return []
            case Gap(call=None):
                return self._beside({"__gap__": {"reason": event.reason, "missing": event.missing}})
            case StreamEnded(status="completed"):
                self._is_complete = True
                return []
            case CallStarted():
                self._has_graph = self._has_graph or event.call.task_id is not None
                return []
            case _:
                return []

    def _node_ended(self, event: NodeEnded) -> list[_Said]:
        namespace = self._namespaces.of(event)
        self._namespaces.end(event)
        if event.interrupted:
            self._came.add("updates")  # who interrupts returns nothing: that shows no want of `capture`
        if (update := node_update(event, update_of)) is None:
            return []
        self._came.add("updates")
        return self._shown(namespace, "updates", update)

    def _shown(self, namespace: Namespace, mode: str, chunk: Any) -> list[_Said]:
        is_shown = mode in self._choice.modes and (self._choice.subgraphs or not namespace)
        return [(namespace, mode, chunk)] if is_shown else []

    def _beside(self, chunk: Any) -> list[_Said]:
        """Return what holds for all modes; in `messages` it has a form of its own."""
        return [((), mode, chunk) for mode in self._choice.modes if mode != "messages"]


_Said = tuple[Namespace, str, Any]


def _why_missing(mode: str) -> str:
    """Say why nothing of a mode came, and what to do."""
    by_hand = f"await stream_graph(graph, input, modes=[{mode!r}]) in the activity, in place of graph.ainvoke"
    if mode == "updates":
        return (
            "no graph of the workflow sends stream_mode 'updates': configure the worker with "
            f"capture={{'node_output'}}, or {by_hand}"
        )
    also = ", of a graph with a checkpointer" if mode == "checkpoints" else ""
    return f"no graph of the workflow sends stream_mode {mode!r}, which callbacks do not see: {by_hand}{also}"


async def graph_items(
    events: AsyncGenerator[Event],
    past: Past,
    choice: Choice,
    *,
    cursor: str | None,
    is_whole: bool,
) -> AsyncGenerator[Item]:
    """Iterate over the items of a subscription.

    Args:
        events: The subscription; not with `on_retry="annotate"`. Closed at the end.
        past: Says again what the run of an attempt said; as for `messages`.
        choice: The modes.
        cursor: Where the subscription began.
        is_whole: Whether it began at the beginning.

    Raises:
        WorkflowNotCompleted: at the end: it failed, was canceled or terminated, or timed out.
        TokensMissing: at the end: the workflow completed, but something that it said did not arrive.
        ConfigurationError: at the end: a mode was asked for that no worker sends.
    """
    items = Items(choice, cursor or "")
    async with aclosing(events):
        async for event in events:
            if (
                items.chunks is not None
                and isinstance(event, AttemptStarted)
                and event.supersedes is not None
            ):
                await recall_from(past, items.chunks, event.supersedes, cursor)
            for item in items.read(event):
                yield item
    items.end(is_whole=is_whole)
