"""Events of a subscription as they are, for programs that take back retries themselves: `view=events`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from temporal_token_interceptor.events import (
    ContentBlock,
    CustomEvent,
    Event,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    ReasoningEvent,
    RetrieverEnded,
    RetrieverStarted,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.gateway.pull import Pull
from temporal_token_interceptor.views.changes import Change
from temporal_token_interceptor.views.visible import ShownKind


class RawEvents:
    """The client of one connection whose changes are events.

    Args:
        events: The subscription, from the client's cursor on; closed with this.
        woken: Set when there is something to take.

    Attributes:
        has_ended: Whether nothing more comes.
    """

    def __init__(self, events: AsyncGenerator[Event], woken: asyncio.Event) -> None:
        self._pull = Pull(events, woken)
        self.has_ended = False

    @property
    def error(self) -> Exception | None:
        """Why the subscription ended early; None if it did not."""
        return self._pull.error

    def take(self) -> list[Change]:
        """Return the next event, if it is there."""
        event = self._pull.take()
        self.has_ended = self._pull.has_ended or isinstance(event, StreamEnded)
        return [] if event is None else [as_change(event)]

    async def close(self) -> None:
        """End the subscription."""
        await self._pull.close()


def as_change(event: Event) -> Change:
    """Return the change that carries an event, with what `Visible` decides by."""
    call = getattr(event, "call", None)
    node = str(getattr(event, "node_name", "") if call is None else call.node_name)
    kind = next((kind for types, kind in _KINDS if isinstance(event, types)), "")
    return Change("event", data=event.to_json(), cursor=event.cursor, by={"kind": kind}, node=node)


_KINDS: tuple[tuple[tuple[type[Event], ...], ShownKind], ...] = (
    ((TokenEvent,), "text"),
    ((ReasoningEvent,), "reasoning"),
    ((ToolCallChunk,), "tool_call"),
    ((ContentBlock,), "block"),
    ((ToolStarted, ToolEnded, RetrieverStarted, RetrieverEnded), "tool"),
    ((NodeStarted, NodeEnded), "node"),
    ((CustomEvent,), "custom"),
    ((GraphEvent,), "graph"),
)
"""What can be left out. Attempts, calls, gaps and the end always come, of the nodes that are shown."""
