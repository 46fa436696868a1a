"""One subscription and one state for each workflow, for any number of clients.

A client that falls behind its bound loses what waits for it and gets the state instead: a slow client costs
no more memory than a quick one, and misses nothing. A hub ends some time after its last client has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Event, RunContinued
from temporal_token_interceptor.gateway.numbering import RunStarted, projector_for
from temporal_token_interceptor.gateway.seeking import Seeking
from temporal_token_interceptor.gateway.shared_writes import SharedWrites
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector

logger = logging.getLogger(__name__)

WAITING = 256
"""Changes that wait for a client, at most."""

WAITING_BYTES = 256 << 10
"""About as many bytes of them, at most."""

REMEMBERED = 4_096
"""Changes that a client can resume within; before them it gets the state."""

REMEMBERED_BYTES = 8 << 20
"""About as many bytes of them, at most."""

KEPT_ITEMS = 20_000
"""Items that a state keeps when its workflow goes on in another run, at most; the oldest are forgotten."""


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
    """One client's place in a hub.

    Args:
        hub: The hub.
        tail: What it goes on with; None: with the state, unless a cursor is sought.
        woken: Set when there is something to take.
        sought: The cursor that a hub which has just begun to read has yet to come to.

    Attributes:
        hub: The hub.
        is_late: Whether the client has to be given the whole state: at first, and after it fell behind.
    """

    def __init__(self, hub: Hub, tail: list[Change] | None, woken: asyncio.Event, sought: str = "") -> None:
        self.hub = hub
        self._waiting: deque[Change] = deque(tail or ())
        self._bytes = 0
        self._woken = woken
        self._seeking = Seeking(sought, lambda: hub.read_at, self._be_late) if sought else None
        self.is_late = tail is None and not sought
        if hub.has_ended or self.is_late or self._waiting:
            woken.set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.hub.has_ended

    @property
    def error(self) -> Exception | None:
        """Why the hub's subscription ended early."""
        return self.hub.error

    def put(self, change: Change, size: int) -> None:
        """Add a change of about so many bytes, unless the client is late anyhow, or has it."""
        if self._seeking is not None:
            match self._seeking.look_at(change.cursor):
                case "found":
                    self._seeking = None
                case "behind":
                    self._be_late()
                case "before":
                    pass
            return
        if not self.is_late:
            self._waiting.append(change)
            self._bytes += size
            if len(self._waiting) > WAITING or self._bytes > WAITING_BYTES:
                self._waiting.clear()
                self.is_late = True
        self._woken.set()

    def wake(self) -> None:
        """Let the client look whether its hub has ended."""
        if self._seeking is not None:
            self._be_late()
        self._woken.set()

    def take(self) -> tuple[View, str] | list[Change]:
        """Return the state and its cursor if the client is late, or what waits for it."""
        self._bytes = 0
        if self.is_late:
            self.is_late = False
            self._waiting.clear()
            return self.hub.view, self.hub.cursor
        changes = list(self._waiting)
        self._waiting.clear()
        return changes

    def close(self) -> None:
        """Seek no more."""
        if self._seeking is not None:
            self._seeking.close()
            self._seeking = None

    def _be_late(self) -> None:
        self.close()
        self.is_late = True
        self._woken.set()


class Hub:
    """Reads one workflow, folds it once, and hands changes to its clients.

    Args:
        events: The subscription, from the start of a run; closed by the hub.
        run_started: Asked once, for the numbers of changes; None: see `views.sequence`.

    Attributes:
        clients: Those that are served.
        written: What was written to its clients.
        cursor: Resumes right after the state.
        read_at: When the last event came, by the loop's clock.
        error: Why the subscription ended early; None if it did not.
    """

    def __init__(self, events: AsyncGenerator[Event], run_started: RunStarted | None = None) -> None:
        self._projector = Projector()
        self._recent: deque[tuple[Change, int]] = deque()
        self._bytes = 0
        self._run_started = run_started
        self.clients: set[HubClient] = set()
        self.written = SharedWrites()
        self.cursor = ""
        self.read_at = 0.0
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

    def client(self, cursor: str | None, woken: asyncio.Event) -> HubClient:
        """Return a new client, which goes on after a cursor, or begins with the state.

        Args:
            cursor: What the client has; None or empty for nothing.
            woken: Set whenever there is something for the client.
        """
        tail: list[Change] | None = None
        if cursor:
            recent = [change for change, _ in self._recent]
            places = [place for place, change in enumerate(recent, 1) if change.cursor == cursor]
            tail = recent[places[-1] :] if places else None
            if tail is not None and len(tail) > WAITING:
                tail = None
        client = HubClient(self, tail, woken, cursor if cursor and not self.read_at else "")
        self.clients.add(client)
        return client

    async def close(self) -> None:
        """End the subscription."""
        await joined(self._reading)

    async def _read(self, events: AsyncGenerator[Event]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with aclosing(events):
                async for event in events:
                    if not self.read_at:
                        self._projector = await projector_for(event, self._run_started)
                    before = self.view.run
                    for change in self._projector.read(event):
                        self._hand_out(change)
                    self.read_at = loop.time()
                    if isinstance(event, RunContinued):
                        self._projector.forget(KEPT_ITEMS, {before, self.view.run})
        except TokenStreamError as error:
            self.error = error  # clients that come again get a new hub
            logger.info("the subscription of a gateway ended early: %s", error)
        except Exception as error:
            self.error = error
            logger.warning("the subscription of a gateway ended early", exc_info=True)
        finally:
            for client in self.clients:
                client.wake()

    def _hand_out(self, change: Change) -> None:
        # Of an event that changes nothing, no client has the cursor: nothing could be resumed by it.
        self.cursor = change.cursor or self.cursor
        size = weight(change)
        self._recent.append((change, size))
        self._bytes += size
        while len(self._recent) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            self._bytes -= self._recent.popleft()[1]
        for client in self.clients:
            client.put(change, size)


class Hubs:
    """The hubs of a process, made when a client comes.

    Args:
        subscribe: Returns the subscription of a key.
        linger: How long a hub lives after its last client, in seconds.
        run_started: Returns what asks when a run of a workflow began.
    """

    def __init__(
        self,
        subscribe: Callable[[Key], AsyncGenerator[Event]],
        linger: float,
        run_started: Callable[[str], RunStarted] | None = None,
    ) -> None:
        self._subscribe = subscribe
        self._linger = linger
        self._run_started = run_started
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
            ask = None if self._run_started is None else self._run_started(key.workflow_id)
            hub = self._hubs[key] = Hub(self._subscribe(key), ask)
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


def weight(change: Change) -> int:
    """Return about how many bytes a change is in JSON; of a growth, which most are, without writing it."""
    return 100 + len(change.data if change.op == "grow" else repr(change.data))
