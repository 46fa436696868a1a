"""One subscription and one state for each workflow, for any number of clients.

A client that falls behind its bound loses what waits for it and gets the state instead: a slow client costs
no more memory than a quick one, and misses nothing. A hub ends some time after its last client has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import NamedTuple

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Event, RunContinued
from temporal_token_interceptor.gateway.recent_changes import RecentChanges
from temporal_token_interceptor.gateway.seeking import Seeking
from temporal_token_interceptor.gateway.shared_writes import SharedWrites
from temporal_token_interceptor.gateway.turns import Turns
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector

logger = logging.getLogger(__name__)

WAITING = 4_096
"""Changes that a client may be behind, or resume within; one that is further behind gets the state."""

WAITING_BYTES = 256 << 10
"""About as many bytes of them: more would take a write too long."""

REMEMBERED_BYTES = 8 << 20
"""About as many bytes are kept for all clients, at most."""

KEPT_ITEMS = 20_000
"""Items that a state keeps when its workflow goes on in another run, at most; the oldest are forgotten."""


Subscribe = Callable[[Callable[[], None]], AsyncGenerator[list[Event]]]
"""Returns the events of a workflow, in lists; given what to call once all that is stored has been read."""


class Key(NamedTuple):
    """What a hub reads. Clients of one workflow that want another policy need another hub.

    Attributes:
        workflow_id: The workflow.
        run_id: The run to begin with; None for the newest.
        on_retry: What to show of attempts that did not stand.
    """

    workflow_id: str
    run_id: str | None = None
    on_retry: OnRetry = "reset"


class HubClient:
    """One client's place in a hub: how far it has come. What waits for it is kept once, by the hub.

    Args:
        hub: The hub.
        at: How many changes of the hub the client has; None: it has to be given the state first.
        woken: Set when there is something to take.
        sought: The cursor that a hub which has just begun to read has yet to come to; empty for none.

    Attributes:
        hub: The hub.
        woken: As passed.
    """

    def __init__(self, hub: Hub, at: int | None, woken: asyncio.Event, sought: str = "") -> None:
        self.hub = hub
        self.woken = woken
        self._at = at
        self._seeking = Seeking(sought, lambda: hub.read_at, self._give_up) if sought else None
        if hub.has_ended or (not sought and hub.end != at):
            woken.set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.hub.has_ended

    @property
    def error(self) -> Exception | None:
        """Why the hub's subscription ended early."""
        return self.hub.error

    @property
    def is_seeking(self) -> bool:
        """Whether the hub has yet to come to the client's cursor."""
        return self._seeking is not None

    @property
    def is_late(self) -> bool:
        """Whether the client has to be given the whole state: at first, and after it fell behind."""
        return self._seeking is None and (self._at is None or self.hub.since(self._at) is None)

    def wake(self) -> None:
        """Let the client look what there is; not, where it has to wait for the state."""
        if self._seeking is None and (self._at is not None or self.hub.is_current):
            self.woken.set()

    def look_at(self, change: Change, end: int) -> None:
        """Look whether a change is the one that is sought; `end` is how many there are with it."""
        if self._seeking is None:
            return
        match self._seeking.look_at(change.cursor):
            case "found":
                self._seeking, self._at = None, end
            case "behind":
                self._give_up()
            case "before":
                pass

    def finish(self) -> None:
        """Let the client see that nothing more comes."""
        self._give_up()

    def take(self) -> tuple[View, str] | list[Change]:
        """Return the state and its cursor if the client is late, or what waits for it.

        Nothing while it is late and the hub still reads what is stored: it would be shown what stood once.
        """
        if self._seeking is not None:
            return []
        hub, at = self.hub, self._at
        taken = None if at is None else hub.since(at)
        if taken is None and not hub.is_current:
            return []
        self._at = hub.end
        return (hub.view, hub.cursor) if taken is None else taken

    def close(self) -> None:
        """Seek no more."""
        if self._seeking is not None:
            self._seeking.close()
            self._seeking = None

    def _give_up(self) -> None:
        self.close()
        self.woken.set()


class Hub:
    """Reads one workflow, folds it once, and hands changes to its clients.

    Args:
        subscribe: Returns the subscription's events in lists, from the start of a run; given what to call
            once all that is stored has been read. Closed by the hub.

    Attributes:
        clients: Those that are served.
        written: What was written to its clients.
        cursor: Resumes right after the state.
        read_at: When the last event came, by the loop's clock.
        error: Why the subscription ended early; None if it did not.
        has_ended: Whether nothing more comes.
    """

    def __init__(self, subscribe: Subscribe) -> None:
        self._projector = Projector()
        self._recent = RecentChanges(WAITING, REMEMBERED_BYTES)
        self.clients: Turns[HubClient] = Turns()
        self._seekers: list[HubClient] = []
        self.written = SharedWrites()
        self.cursor = ""
        self.read_at = 0.0
        self.error: Exception | None = None
        self.has_ended = False
        self._has_caught_up = False
        self._reading = started(self._read(subscribe(self._catch_up)), "token-stream hub")

    @property
    def view(self) -> View:
        """What stands now."""
        return self._projector.view

    @property
    def is_current(self) -> bool:
        """Whether what stands now is all that is known, and not what stood while that was written."""
        return self._has_caught_up or self.has_ended

    @property
    def end(self) -> int:
        """How many changes there have been."""
        return self._recent.end

    def since(self, at: int) -> list[Change] | None:
        """Return the changes after so many; None if they are beyond the bounds of one write."""
        return self._recent.since(at, WAITING, WAITING_BYTES)

    def client(self, cursor: str | None, woken: asyncio.Event) -> HubClient:
        """Return a new client, which goes on after a cursor, or begins with the state.

        Args:
            cursor: What the client has; None or empty for nothing.
            woken: Set whenever there is something for the client.
        """
        at = self._recent.after(cursor) if cursor else None
        may_come = not (self.read_at and self.is_current)
        client = HubClient(self, at, woken, cursor if cursor and at is None and may_come else "")
        self.clients.add(client)
        if client.is_seeking:
            self._seekers.append(client)
        return client

    async def close(self) -> None:
        """End the subscription."""
        await joined(self._reading)

    async def _read(self, batches: AsyncGenerator[list[Event]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with aclosing(batches):
                async for batch in batches:
                    for event in batch:
                        self._take(event)
                    self.read_at = loop.time()
                    self.has_ended = self.view.status is not None
                    self.clients.begin()
        except TokenStreamError as error:
            self.error = error  # clients that come again get a new hub
            logger.info("the subscription of a gateway ended early: %s", error)
        except Exception as error:
            self.error = error
            logger.warning("the subscription of a gateway ended early", exc_info=True)
        finally:
            self.has_ended = True
            self.clients.stop()
            for client in self.clients:
                client.finish()

    def _catch_up(self) -> None:
        self._has_caught_up = True
        self.clients.begin()

    def _take(self, event: Event) -> None:
        before = self.view.run
        for change in self._projector.read(event):
            self._add(change)
        if isinstance(event, RunContinued):
            self._projector.forget(KEPT_ITEMS, {before, self.view.run})

    def _add(self, change: Change) -> None:
        # Of an event that changes nothing, no client has the cursor: nothing could be resumed by it.
        self.cursor = change.cursor or self.cursor
        self._recent.add(change)
        for client in self._seekers:
            client.look_at(change, self._recent.end)
        self._seekers = [client for client in self._seekers if client.is_seeking]


class Hubs:
    """The hubs of a process, made when a client comes.

    Args:
        subscribe: Returns the events of a key, in lists; given what to call once all that is stored was read.
        linger: How long a hub lives after its last client, in seconds.
    """

    def __init__(
        self,
        subscribe: Callable[[Key, Callable[[], None]], AsyncGenerator[list[Event]]],
        linger: float,
    ) -> None:
        self._subscribe = subscribe
        self._linger = linger
        self._hubs: dict[Key, Hub] = {}
        self._ending: dict[Key, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def client(self, key: Key, cursor: str | None, woken: asyncio.Event) -> AsyncIterator[HubClient]:
        """Yield a client of the key's hub, which is made if there is none, or if it failed."""
        if (timer := self._ending.pop(key, None)) is not None:
            timer.cancel()
        hub = self._hubs.get(key)
        if hub is None or hub.error is not None:
            hub = self._hubs[key] = Hub(partial(self._subscribe, key))
        client = hub.client(cursor, woken)
        try:
            yield client
        finally:
            client.close()
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
