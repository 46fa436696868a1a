"""A subscription of one client's own: every change, none joined with another, nothing in its place.

For clients that count what they get, and for those that begin elsewhere than with the state. It costs a
subscription each. A slow client holds up its own subscription and nothing else, so nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector


class Replay:
    """Reads events one by one, as fast as its client takes their changes.

    Args:
        events: From the start of a run, or from now on; closed with the replay.
        cursor: The changes up to it are left out; empty for none.

    Attributes:
        error: Why the subscription ended early; None if it did not.
        has_ended: Whether nothing more comes.
    """

    def __init__(self, events: AsyncGenerator[Event], cursor: str = "") -> None:
        self._events = events
        self._sought = cursor
        self._projector = Projector()
        self._woken = asyncio.Event()
        self._next: asyncio.Task[Event | None] | None = None
        self._last = ""
        self.error: Exception | None = None
        self.has_ended = False

    def wake(self) -> None:
        """End the wait of the client."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until there is something for the client, or for so long."""
        if self._next is None:
            self._next = started(anext(self._events, None), "token-stream replay")
            self._next.add_done_callback(lambda _: self._woken.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    def take(self) -> tuple[View, str] | list[Change]:
        """Return the changes of the next event, if it is there.

        The state in their place where the cursor was sought and was not found.
        """
        if self._next is None or not self._next.done():
            return []
        task, self._next = self._next, None
        if (error := task.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            self.error, self.has_ended = error, True
            return []
        event = task.result()
        if event is None:
            self.has_ended = True
        else:
            changes = self._projector.read(event)
            self._last = event.cursor
            self.has_ended = self._projector.view.status is not None
            if not self._sought:
                return changes
            if event.cursor == self._sought:
                self._sought = ""
        if self.has_ended and self._sought:
            self._sought = ""
            return self._projector.view, self._last
        return []

    async def close(self) -> None:
        """End the subscription."""
        if self._next is not None:
            await joined(self._next)
        await self._events.aclose()
