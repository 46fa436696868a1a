"""A view of a subscription as an async generator: it ends as the subscription does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from temporal_token_interceptor.reader.workflow_stream import Subscription, cut_error

_T = TypeVar("_T")


class View(AsyncGenerator[_T], Generic[_T]):
    """A view of a subscription, which raises as that does once a cancelled wait has ended both.

    Args:
        events: The subscription.
        view: What is made of it.
    """

    __slots__ = ("_events", "_view")

    def __init__(self, events: AsyncGenerator[Any], view: AsyncGenerator[_T]) -> None:
        self._events = events
        self._view = view

    async def __anext__(self) -> _T:
        """Return the next item.

        Raises:
            TokenStreamError: a wait before was cancelled.
        """
        if isinstance(self._events, Subscription) and self._events.is_cut:
            raise cut_error()
        return await anext(self._view)

    async def asend(self, value: None) -> _T:  # noqa: ARG002 - what is sent goes nowhere
        """Return the next item."""
        return await self.__anext__()

    async def athrow(self, kind: Any, value: Any = None, traceback: Any = None) -> _T:
        """Raise an error where the next item would come."""
        return await self._view.athrow(kind, value, traceback)

    async def aclose(self) -> None:
        """Leave."""
        await self._view.aclose()
