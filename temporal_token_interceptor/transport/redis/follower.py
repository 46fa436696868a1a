"""Following any number of streams behind their newest entries, in one task for all readers of a process."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from temporal_token_interceptor.errors import TokenStreamError, TransportUnavailable
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import ended
from temporal_token_interceptor.transport.redis.feeds import Feed, Listener
from temporal_token_interceptor.transport.redis.outage import Backoff, Outage
from temporal_token_interceptor.transport.redis.pages import PageSize, size_of
from temporal_token_interceptor.transport.redis.refusals import FAILURES, described

logger = logging.getLogger(__name__)


class Follower(ABC):
    """Reads on behind the newest entry of any number of streams, in one task.

    It has a task and what `_serve` borrows only while there is a listener.

    Args:
        outage: Notes when reading fails.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
    """

    def __init__(self, outage: Outage, *, patience: float) -> None:
        self._outage = outage
        self._patience = patience
        self._feeds: dict[str, Feed] = {}
        self._joined = asyncio.Event()  # there is a feed that the round under way does not serve
        self._begun = asyncio.Event()  # a round has begun since it was last cut short
        self._turn: object | None = None  # of the task that reads
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def join(self, key: str, after: str) -> Listener:
        """Return a listener that gets all entries after `listener.since`.

        `after` is the id of an entry, or empty: the task that reads for all could not use another one.
        """
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(after)
            self._joined.set()
        listener = Listener(feed.position)
        feed.listeners.add(listener)
        if self._turn is None:
            # Before the task: an eager task factory runs its first step within `create_task`.
            self._turn = turn = object()
            task = asyncio.get_running_loop().create_task(self._follow(turn), name="token-stream-reader")
            if self._turn is turn:
                self._task = task
        return listener

    def leave(self, key: str, listener: Listener) -> None:
        """Let a listener go; with the last one, the task and the connection."""
        feed = self._feeds.get(key)
        if feed is not None and listener in feed.listeners:
            feed.listeners.discard(listener)
            self._remove_if_unread(key, feed)

    async def close(self) -> None:
        """End all listeners and the shared read."""
        self._end_all(None)
        await ended(*self._ending)

    def __repr__(self) -> str:
        listeners = sum(len(feed.listeners) for feed in self._feeds.values())
        return f"<Follower {len(self._feeds)} streams, {listeners} listeners>"

    def _remove_if_unread(self, key: str, feed: Feed) -> None:
        if not feed.listeners and self._feeds.get(key) is feed:
            del self._feeds[key]
            if not self._feeds:
                self._stop()

    def _stop(self) -> None:
        task, self._task, self._turn = self._task, None, None
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    def _end_all(self, error: TokenStreamError | None) -> None:
        feeds, self._feeds = self._feeds, {}
        for feed in feeds.values():
            feed.end(error)
        self._stop()

    def _publish(
        self,
        turn: object,
        feeds: Mapping[str, Feed],
        served: Sequence[tuple[str, list[Entry]]],
        page: PageSize,
    ) -> None:
        """Hand what a round brought to the listeners of the feeds that it was sent for."""
        if not served:
            return
        sizes = [size_of(batch) for _, batch in served]
        page.received(max([len(batch) for _, batch in served]), sum(sizes))
        if self._turn is turn:  # a cancellation may get lost in redis-py, and then another task reads
            for (key, batch), size in zip(served, sizes, strict=True):
                feed = feeds[key]
                feed.publish(batch, size)
                self._remove_if_unread(key, feed)

    # ------------------------------------------------------------------ the task

    async def _follow(self, turn: object) -> None:
        """Run rounds while there are listeners, over a new connection after each failure."""
        backoff = Backoff(self._outage, self._patience)
        try:
            await ended(*self._ending)  # the connection of the task before this one is ours now
            while self._turn is turn:
                try:
                    await self._serve(turn, backoff)
                except FAILURES as error:
                    await backoff.wait(error)
        except Exception as error:  # whatever it is, no listener may wait for a read that has ended
            if not isinstance(error, TransportUnavailable):
                logger.exception("the shared read of token streams failed; its readers get an error")
                error = TransportUnavailable(f"reading token streams failed ({described(error)})")
            if self._turn is turn:
                self._end_all(error)
        finally:
            backoff.leave()

    @abstractmethod
    async def _serve(self, turn: object, backoff: Backoff) -> None:
        """Run rounds while it is this turn, until one fails."""
