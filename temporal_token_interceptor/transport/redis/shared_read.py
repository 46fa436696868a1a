"""The shared read: one blocking `XREAD` for all streams that a process follows.

Each round of it serves exactly the feeds that it was sent for. A feed that joins during the round gets
nothing from it, also when its stream was in it (left and joined again): the round reads on from where the
earlier feed was, which may be ahead of the new one, and the difference would be lost.

When a feed joins, `CLIENT UNBLOCK` cuts the round short. It may come before the `XREAD` blocks, and then
does nothing; so it is repeated until the next round begins. One that comes too late only makes that round
short, too. Where Redis does not permit it, rounds are short.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from temporal_token_interceptor.errors import TokenStreamError, TransportUnavailable
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import (
    Desk,
    borrowed,
    ended,
    roundtrip,
    server_id,
    streams,
)
from temporal_token_interceptor.transport.redis.outage import Outage, Trouble, described, passes, refused

logger = logging.getLogger(__name__)

PAGE = 500  # entries of each stream in a round

# What a listener may have unread, before it has to read it again; one batch may go beyond.
QUEUE_ENTRIES = 1_000
QUEUE_BYTES = 1024 * 1024

# A round costs Redis and us some microseconds for each stream that it names, served or not. So it is sent
# again only when as much time has gone by: more has come by then, and what is named is worth it.
_PAUSE_PER_STREAM = 10e-6  # seconds
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds; below 50 streams there is none

_SHORT_BLOCK_MS = 200
_REPEAT = 0.01  # seconds from one CLIENT UNBLOCK to the next, if it did not help


class Follower(ABC):
    """Reads on behind the newest entry of any number of streams, in one task.

    It has a task and what `_serve` borrows only while somebody listens.

    Args:
        outage: Is told when reading fails.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
    """

    def __init__(self, outage: Outage, *, patience: float) -> None:
        self._outage = outage
        self._patience = patience
        self._feeds: dict[str, Feed] = {}
        self._joined = asyncio.Event()  # there is a feed that the round under way does not serve
        self._begun = asyncio.Event()  # a round has begun since it was last cut short
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def join(self, key: str, after: str) -> Listener:
        """Return a listener that gets all entries after `listener.since`."""
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(after)
            self._joined.set()
        listener = Listener(feed.position)
        feed.listeners.add(listener)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="token-stream-reader")
        return listener

    def leave(self, key: str, listener: Listener) -> None:
        """Let a listener go; with the last one, the task and the connection."""
        feed = self._feeds.get(key)
        if feed is not None and listener in feed.listeners:
            feed.listeners.discard(listener)
            self._remove_if_unheard(key, feed)

    async def close(self) -> None:
        """End all listeners and the shared read."""
        self._end_all(None)
        await ended(*self._ending)

    def __repr__(self) -> str:
        listeners = sum(len(feed.listeners) for feed in self._feeds.values())
        return f"<Follower {len(self._feeds)} streams, {listeners} listeners>"

    def _remove_if_unheard(self, key: str, feed: Feed) -> None:
        if not feed.listeners and self._feeds.get(key) is feed:
            del self._feeds[key]
            if not self._feeds:
                self._stop()

    def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    def _end_all(self, error: TokenStreamError | None) -> None:
        feeds, self._feeds = self._feeds, {}
        for feed in feeds.values():
            feed.end(error)
        self._stop()

    # ------------------------------------------------------------------ the task

    async def _follow(self) -> None:
        """Run rounds until nobody listens, over a new connection after each failure."""
        trouble = Trouble(self._outage, self._patience)
        try:
            await ended(*self._ending)  # the connection of the task before this one is ours now
            while self._is_mine():
                try:
                    await self._serve(trouble)
                except (RedisError, OSError) as error:
                    await trouble.wait(error)
        except Exception as error:  # whatever it is, nobody may wait for a read that is no more
            if not isinstance(error, TransportUnavailable):
                logger.exception("the shared read of token streams failed; its readers are told")
                error = TransportUnavailable(f"reading token streams failed ({described(error)})")
            if self._is_mine():
                self._end_all(error)
        finally:
            trouble.leave()

    def _is_mine(self) -> bool:
        # A cancellation can get lost in redis-py (see `ended`), and by then another task may be reading.
        return self._task is asyncio.current_task()

    @abstractmethod
    async def _serve(self, trouble: Trouble) -> None:
        """Run rounds while the task is ours, until one fails."""


class BlockingFollower(Follower):
    """Waits for all streams of one server in one `XREAD`, over one connection.

    Args:
        pool: Where the connection comes from.
        desk: For `CLIENT UNBLOCK`.
        outage: Is told when reading fails.
        block_ms: How long one `XREAD` may wait; less than the connection's own timeout.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
    """

    def __init__(
        self, pool: ConnectionPool, desk: Desk, outage: Outage, *, block_ms: int, patience: float
    ) -> None:
        super().__init__(outage, patience=patience)
        self._pool = pool
        self._desk = desk
        self._block_ms = block_ms

    async def _serve(self, trouble: Trouble) -> None:
        async with borrowed(self._pool) as connection:
            await self._run_rounds(connection, trouble)

    async def _run_rounds(self, connection: AbstractConnection, trouble: Trouble) -> None:
        interrupter = await self._interrupter(connection)
        block_ms = 0  # the first round tells whether Redis serves us, and so must not wait
        try:
            while self._is_mine():
                self._joined.clear()
                self._begun.set()
                round_feeds = self._feeds.copy()
                try:
                    served = await _read(connection, round_feeds, block_ms)
                except ResponseError as error:
                    if passes(error) or not await self._expel(connection, round_feeds):
                        raise
                    continue
                trouble.over()
                block_ms = self._block_ms if interrupter else min(self._block_ms, _SHORT_BLOCK_MS)
                if self._is_mine():
                    for key, batch in served:
                        feed = round_feeds[key]
                        feed.publish(batch)
                        self._remove_if_unheard(key, feed)
                    if served:
                        pause = min(len(round_feeds) * _PAUSE_PER_STREAM, _LONGEST_PAUSE)
                        # At least once around the loop: readers first, the next XREAD takes a while to send.
                        await asyncio.sleep(pause if pause >= _SHORTEST_PAUSE else 0)
        finally:
            if interrupter is not None:
                await ended(interrupter)

    async def _interrupter(self, connection: AbstractConnection) -> asyncio.Task[None] | None:
        """Start what cuts a blocked read of this connection short, if Redis permits it."""
        try:
            client_id = int(await roundtrip(connection, "CLIENT", "ID"))
            await roundtrip(connection, "CLIENT", "UNBLOCK", client_id)  # of nothing: is it permitted?
        except ResponseError as error:
            if passes(error):
                raise
            logger.info("Redis permits no CLIENT UNBLOCK (%s); reading in short rounds", described(error))
            return None
        return asyncio.get_running_loop().create_task(
            self._interrupt(client_id, self._task), name="token-stream-unblock"
        )

    async def _interrupt(self, client_id: int, reading: asyncio.Task[None] | None) -> None:
        while True:
            await self._joined.wait()
            if self._task is not reading:  # who joined waits for the task after that one
                return
            self._begun.clear()
            with suppress(RedisError, OSError):  # the read will notice, too, and wait the outage out
                await self._desk.ask("CLIENT", "UNBLOCK", client_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPEAT):
                    await self._begun.wait()

    async def _expel(self, connection: AbstractConnection, feeds: dict[str, Feed]) -> bool:
        """End the feeds that Redis refuses to read; return whether there were any.

        One key of a wrong type, or without permission, fails the read of all.
        """
        found = False
        for key, feed in feeds.items():
            try:
                await _read(connection, {key: feed}, 0)
            except ResponseError as error:
                if passes(error):
                    raise
                found = True
                feed.end(refused(key, error))
                self._remove_if_unheard(key, feed)
        return found


async def _read(
    connection: AbstractConnection, feeds: dict[str, Feed], block_ms: int
) -> list[tuple[str, list[Entry]]]:
    block = ("BLOCK", block_ms) if block_ms else ()
    positions = [server_id(feed.position) if feed.position else "0-0" for feed in feeds.values()]
    return streams(
        await roundtrip(
            connection,
            "XREAD",
            "COUNT",
            PAGE,
            *block,
            "STREAMS",
            *feeds,
            *positions,
            blocks=block_ms / 1_000,
        )
    )


class Feed:
    """One followed stream: how far the shared read is, and who listens."""

    def __init__(self, position: str) -> None:
        self.position = position
        self.listeners: set[Listener] = set()

    def publish(self, batch: list[Entry]) -> None:
        """Hand a batch to all who listen, but those that are too far behind."""
        self.position = batch[-1].id
        size = sum(len(entry.data) for entry in batch)
        self.listeners = {listener for listener in self.listeners if listener.put(batch, size)}

    def end(self, error: TokenStreamError | None) -> None:
        """Let all who listen go."""
        listeners, self.listeners = self.listeners, set()
        for listener in listeners:
            listener.end(error)


class Listener:
    """The queue between the shared read and one reader.

    Attributes:
        since: The id after which it gets everything.
        entries: How many are unread.
        size: How many bytes those have. They are shared with whoever else listens.
    """

    def __init__(self, since: str) -> None:
        self.since = since
        self.entries = 0
        self.size = 0
        self._unread: deque[list[Entry]] = deque()
        self._ended = False
        self._error: TokenStreamError | None = None
        self._changed = asyncio.Event()

    def put(self, batch: list[Entry], size: int) -> bool:
        """Queue a batch of so many bytes; return False, and end, if the reader is too far behind."""
        if self.entries >= QUEUE_ENTRIES or self.size >= QUEUE_BYTES:
            self._unread.clear()  # Redis holds them anyway
            self.entries = self.size = 0
            self.end(None)
            return False
        self._unread.append(batch)
        self.entries += len(batch)
        self.size += size
        self._changed.set()
        return True

    def end(self, error: TokenStreamError | None) -> None:
        """Let the reader go once it has what is queued."""
        self._ended, self._error = True, error
        self._changed.set()

    async def next(self) -> list[Entry]:
        """Return what has gathered; empty at the end.

        Raises:
            TokenStreamError: the shared read gave up, or Redis refuses this stream.
        """
        while not self._unread and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._unread:
            gathered = self._unread.popleft()
            if self._unread:
                gathered = [*gathered, *(entry for batch in self._unread for entry in batch)]
                self._unread.clear()
            self.entries = self.size = 0
            return gathered
        if self._error is not None:  # a new one for each reader: a traceback belongs to one raise
            raise type(self._error)(*self._error.args) from self._error.__cause__
        return []
