"""What `astream` returns: the items of LangGraph's stream modes, and the place that they have come to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.reader.view import View
from temporal_token_interceptor.views.stream_modes import Choice, Item


class GraphStream(View[Any]):
    """Items as `graph.astream` yields them, for `async for`; made by `TokenSubscriber.astream`.

    An item has no room for where it stands, so the stream itself says it.

    Attributes:
        cursor: Resumes right after the last item; before the first, the cursor that the stream began at.
        origin: The attempt of an activity that said the last item; None before the first.
    """

    __slots__ = ("cursor", "origin")

    def __init__(
        self, events: AsyncGenerator[Any], items: AsyncGenerator[Item], choice: Choice, cursor: str
    ) -> None:
        super().__init__(events, self._shaped(items, choice))
        self.cursor: str = cursor
        self.origin: Origin | None = None

    async def _shaped(self, items: AsyncGenerator[Item], choice: Choice) -> AsyncGenerator[Any]:
        async with aclosing(items):
            async for item in items:
                self.cursor, self.origin = item.cursor, item.origin
                yield choice.shaped(item)
