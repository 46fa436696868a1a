"""A subscription of one client's own: every change, none joined with another, nothing in its place.

For clients that count what they get, and for those that begin elsewhere than with the state. It costs a
subscription each. A slow client holds up its own subscription and nothing else, so nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from temporal_token_interceptor.events import Event
from temporal_token_interceptor.gateway.pull import Pull
from temporal_token_interceptor.gateway.seeking import Seeking
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector


class Replay:
    """Projects the events of a subscription one by one, as fast as its client takes their changes.

    Args:
        events: From the start of a run, or from now on; closed with the replay.
        woken: Set when there is something to take.
        cursor: The changes up to it are left out; empty for none.

    Attributes:
        has_ended: Whether nothing more comes.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event],
        woken: asyncio.Event,
        cursor: str = "",
    ) -> None:
        self._pull = Pull(events, woken)
        self._woken = woken
        self._seeking = Seeking(cursor, lambda: self._read_at, self._give_up) if cursor else None
        self._projector = Projector()
        self._read_at = 0.0
        self._last = ""
        self._is_late = False
        self.has_ended = False

    @property
    def error(self) -> Exception | None:
        """Why the subscription ended early; None if it did not."""
        return self._pull.error

    def take(self) -> tuple[View, str] | list[Change]:
        """Return the changes of the next event, if it is there.

        The state in their place where the cursor was sought and was not found.
        """
        event = self._pull.take()
        changes = self._read(event) if event is not None else []
        self.has_ended = self._pull.has_ended or self._projector.view.status is not None
        if self.has_ended and self._seeking is not None:
            self._give_up()
        if self._is_late:
            self._is_late = False
            return self._projector.view, self._last
        return changes

    async def close(self) -> None:
        """End the subscription."""
        if self._seeking is not None:
            self._seeking.close()
        await self._pull.close()

    def _read(self, event: Event) -> list[Change]:
        """Take in an event, and return its changes unless the cursor is sought."""
        changes = self._projector.read(event)
        self._last = event.cursor if changes else self._last
        self._read_at = asyncio.get_running_loop().time()
        if self._seeking is None:
            return changes
        where = self._seeking.look_at(event.cursor)
        if where == "behind":
            self._give_up()
        elif where == "found":
            self._seeking = None
        return []

    def _give_up(self) -> None:
        """Let the client have the state: its cursor was trimmed away, or is of no run here."""
        if self._seeking is not None:
            self._seeking.close()
            self._seeking = None
        self._is_late = True
        self._woken.set()
