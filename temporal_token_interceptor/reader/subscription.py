"""The door of a subscription: lists of events come in, single events leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.reader.run_stream import Batches


class Subscription(AsyncGenerator[Event]):
    """The door: what comes here in lists leaves as single events, one for each step of the user's loop.

    A wait for the next event may be cancelled, as `asyncio.wait_for(anext(events), 15)` does. That ends the
    generators beneath, and the loop around would end as if the stream had: here it is an error (`is_cut`).

    Args:
        batches: The lists; none is empty.
    """

    __slots__ = ("_batches", "_coming", "is_cut")

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._coming: Iterator[Event] = iter(())
        self.is_cut = False

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            TokenStreamError: a wait before was cancelled.
        """
        for event in self._coming:
            return event
        if self.is_cut:
            raise cut_error()
        try:
            batch = await anext(self._batches)
        except asyncio.CancelledError:
            self.is_cut = True
            raise
        self._coming = iter(batch)
        return next(self._coming)

    async def asend(self, value: None) -> Event:  # noqa: ARG002 - what is sent goes nowhere, as in the batches
        """Return the next event."""
        return await self.__anext__()

    async def athrow(self, kind: Any, value: Any = None, traceback: Any = None) -> Event:
        """Raise an error where the next list would come."""
        self._coming = iter(await self._batches.athrow(kind, value, traceback))
        return next(self._coming)

    async def aclose(self) -> None:
        """Leave."""
        self._coming = iter(())
        await self._batches.aclose()


def cut_error() -> TokenStreamError:
    """Return the error of who goes on where a cancelled wait has ended the subscription."""
    return TokenStreamError(
        "the subscription has ended: a wait for its next event was cancelled, as by asyncio.wait_for or "
        "asyncio.timeout. Keep one task of anext(events) and wait for that by asyncio.wait, or subscribe "
        "again with the cursor of the last event"
    )
