"""One subscription and one state for each workflow, for any number of clients.

A client that falls behind its bound loses what waits for it and gets the state instead: a slow client costs
no more memory than a quick one, and misses nothing. A hub ends some time after its last client has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Literal, NamedTuple

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector

logger = logging.getLogger(__name__)

WAITING = 256
"""Changes that wait for a client, at most."""

REMEMBERED = 4_096
"""Changes that a client can resume within; before them it gets the state."""

Policy = Literal["reset", "hold"]
"""What a hub's clients are shown of attempts that did not stand; see `TokenSubscriber.subscribe`."""


class Key(NamedTuple):
    """What a hub reads. Clients of one workflow that want another policy need another hub.

    Attributes:
        workflow_id: The workflow.
        run_id: The run to begin with; None for the newest.
        on_retry: What to show of attempts that did not stand.
    """

    workflow_id: str
    run_id: str | None = None
    on_retry: Policy = "reset"


class HubClient:
    """One client's place in a hub.

    Attributes:
        is_late: Whether the client has to be given the whole state: at first, and after it fell behind.
    """

    def __init__(self, hub: Hub, tail: list[Change] | None, sought: str = "") -> None:
        self._hub = hub
        self._waiting: deque[Change] = deque(tail or ())
        self._woken = asyncio.Event()
        self._sought = sought  # the cursor that a hub which has just begun has yet to come to
        self.is_late = tail is None and not sought
        if hub.has_ended or self.is_late or self._waiting:
            self._woken.set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self._hub.has_ended

    @property
    def error(self) -> Exception | None:
        """Why the hub's subscription ended early."""
        return self._hub.error

    def put(self, change: Change) -> None:
        """Add a change, unless the client is late anyhow, or has it."""
        if self._sought:
            if change.cursor == self._sought:
                self._sought = ""
            return
        if not self.is_late:
            self._waiting.append(change)
            if len(self._waiting) > WAITING:
                self._waiting.clear()
                self.is_late = True
        self._woken.set()

    def wake(self) -> None:
        """End the wait of the client."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until there is something for the client, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        if self._sought:  # the cursor is not there: it was trimmed away, or is of another run
            self._sought, self.is_late = "", True

    def take(self) -> tuple[View, str] | list[Change]:
        """Return the state and its cursor if the client is late, or what waits for it."""
        if self.is_late:
            self.is_late = False
            self._waiting.clear()
            return self._hub.view, self._hub.cursor
        changes = list(self._waiting)
        self._waiting.clear()
        return changes


class Hub:
    """Reads one workflow, folds it once, and hands changes to its clients.

    Args:
        events: The subscription, from the start of a run; closed by the hub.

    Attributes:
        cursor: Resumes right after the state.
        error: Why the subscription ended early; None if it did not.
    """

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self._projector = Projector()
        self._recent: deque[Change] = deque(maxlen=REMEMBERED)
        self.clients: set[HubClient] = set()
        self.cursor = ""
        self.error: Exception | None = None
        self._reading = started(self._read(events), "token-stream hub")

    @property
    def view(self) -> View:
        """What stands now."""
        return self._projector.view

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self._reading.done() or self.error is not None or self.view.status is not None

    def client(self, cursor: str | None) -> HubClient:
        """Return a new client, which goes on after a cursor, or begins with the state."""
        tail: list[Change] | None = None
        if cursor:
            recent = list(self._recent)
            places = [place for place, change in enumerate(recent, 1) if change.cursor == cursor]
            tail = recent[places[-1] :] if places else None
            if tail is not None and len(tail) > WAITING:
                tail = None
        client = HubClient(self, tail, cursor if cursor and not self.cursor else "")
        self.clients.add(client)
        return client

    async def close(self) -> None:
        """End the subscription."""
        await joined(self._reading)

    async def _read(self, events: AsyncGenerator[Event]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    for change in self._projector.read(event):
                        self._recent.append(change)
                        for client in self.clients:
                            client.put(change)
                    self.cursor = event.cursor
        except Exception as error:
            self.error = error  # its clients come again, to a new hub
            logger.warning("the subscription of a gateway ended early", exc_info=True)
        finally:
            for client in self.clients:
                client.wake()


class Hubs:
    """The hubs of a process, made when a client comes.

    Args:
        subscribe: Returns the subscription of a key.
        linger: How long a hub lives after its last client, in seconds.
    """

    def __init__(self, subscribe: Callable[[Key], AsyncGenerator[Event]], linger: float) -> None:
        self._subscribe = subscribe
        self._linger = linger
        self._hubs: dict[Key, Hub] = {}
        self._ending: dict[Key, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def client(self, key: Key, cursor: str | None) -> AsyncIterator[HubClient]:
        """Yield a client of the key's hub, which is made if there is none, or if it failed."""
        if (timer := self._ending.pop(key, None)) is not None:
            timer.cancel()
        hub = self._hubs.get(key)
        if hub is None or hub.error is not None:
            hub = self._hubs[key] = Hub(self._subscribe(key))
        client = hub.client(cursor)
        try:
            yield client
        finally:
            hub.clients.discard(client)
            if not hub.clients and self._hubs.get(key) is hub:
                loop = asyncio.get_running_loop()
                self._ending[key] = loop.call_later(self._linger, self._forget, key)

    async def close(self) -> None:
        """End all subscriptions."""
        for timer in self._ending.values():
            timer.cancel()
        self._ending.clear()
        hubs, self._hubs = list(self._hubs.values()), {}
        for hub in hubs:
            await hub.close()
        await asyncio.gather(*self._closing)

    def _forget(self, key: Key) -> None:
        del self._ending[key]
        closing = started(self._hubs.pop(key).close(), "token-stream hub closing")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
