"""Awaiting the batches of a source in the reader's own task, until something else happens or time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from temporal_token_interceptor.backends.base import Entry
from temporal_token_interceptor.errors import TransportUnavailable

# How long a reader that knows where the stream ends waits to be handed the next entries up to there, before
# it looks whether that end still exists.
_DRAIN_TIMEOUT = 5.0


class Before:
    """Awaits batches in the reader's own task, until a future is done.

    A task for each batch, and `asyncio.wait`, would cost more than all the rest of reading it.
    """

    def __init__(self, closing: asyncio.Future[Any]) -> None:
        self._closing = closing
        self._waiting: asyncio.Timeout | None = None
        closing.add_done_callback(self._interrupt)  # once: with many readers, adding and removing adds up

    async def next(self, source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry] | None:
        """Return the next batch; None, and the source is spent, once the future is done."""
        if self._closing.done():
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await _next(source)
        except TimeoutError:
            if not self._closing.done():
                raise
            return None
        finally:
            self._waiting = None

    def _interrupt(self, closing: asyncio.Future[Any]) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(closing.get_loop().time())


async def in_time(source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry] | None:
    """Return the next batch; None, and the source is spent, if it does not come in time."""
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            return await _next(source)
    except TimeoutError:
        return None


async def _next(source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry]:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise TransportUnavailable(
            "the backend was closed while it was read; resume from the last event's cursor with another"
        ) from None
