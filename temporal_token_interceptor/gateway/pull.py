"""Takes a subscription's events one by one, each when the one before was taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.events import Event


class Pull:
    """One event ahead of its taker, and no more: a slow client holds up its own subscription.

    Args:
        events: The subscription; closed with this.
        woken: Set when there is something to take, or nothing more comes.

    Attributes:
        error: Why the subscription ended early; None if it did not.
        has_ended: Whether nothing more comes.
    """

    def __init__(self, events: AsyncGenerator[Event], woken: asyncio.Event) -> None:
        self._events = events
        self._woken = woken
        self.error: Exception | None = None
        self.has_ended = False
        self._next = self._ask()

    def take(self) -> Event | None:
        """Return the next event, if it is there."""
        if self.has_ended or not self._next.done():
            return None
        error = self._next.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        event = self._next.result() if error is None else None
        if event is None:
            self.error, self.has_ended = error, True
        else:
            self._next = self._ask()
        return event

    async def close(self) -> None:
        """End the subscription."""
        await joined(self._next)
        await self._events.aclose()

    def _ask(self) -> asyncio.Task[Event | None]:
        asking = started(self._one(), "token-stream pull")
        asking.add_done_callback(lambda _: self._woken.set())
        return asking

    async def _one(self) -> Event | None:
        return await anext(self._events, None)
