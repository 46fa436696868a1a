"""What the shared read hands to readers: a feed for each stream, a bounded queue for each reader."""

from __future__ import annotations

import asyncio
from collections import deque

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import server_id

# What a listener may have unread before it has to read it again; one batch may go beyond.
QUEUE_ENTRIES = 1_000
QUEUE_BYTES = 1024 * 1024


class Feed:
    """One followed stream: how far the shared read is, and its listeners.

    Args:
        position: The id of the entry that is read on behind; empty for the start.

    Attributes:
        position: The same.
        asked: The position as Redis writes it, kept: a shared read names each of its streams in every round.
            Empty until it is asked for (`ask`): listeners come first.
    """

    def __init__(self, position: str) -> None:
        self.position = position
        self.asked = ""
        self.listeners: set[Listener] = set()

    def publish(self, batch: list[Entry], size: int) -> None:
        """Hand a batch of so many bytes to all listeners, but those that are too far behind."""
        self.position = batch[-1].id
        self.asked = ""
        self.listeners = {listener for listener in self.listeners if listener.put(batch, size)}

    def ask(self) -> str:
        """Return the position as Redis writes it."""
        self.asked = server_id(self.position) if self.position else "0-0"
        return self.asked

    def end(self, error: TokenStreamError | None) -> None:
        """End all listeners."""
        listeners, self.listeners = self.listeners, set()
        for listener in listeners:
            listener.end(error)


class Listener:
    """The queue between the shared read and one reader.

    Attributes:
        since: The id after which it gets everything.
        entries: How many are unread.
        size: How many bytes those have. All listeners of a stream share them.
    """

    def __init__(self, since: str) -> None:
        self.since = since
        self.entries = 0
        self.size = 0
        self._unread: deque[list[Entry]] = deque()
        self._ended = False
        self._error: TokenStreamError | None = None
        self._waiting: asyncio.Future[None] | None = None

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
        self._wake()
        return True

    def end(self, error: TokenStreamError | None) -> None:
        """End once what is queued has been read."""
        self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if (waiting := self._waiting) is not None:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(None)

    async def next(self) -> list[Entry]:
        """Return what has gathered; empty at the end.

        Raises:
            TokenStreamError: the shared read gave up, or Redis refuses this stream.
        """
        while not self._unread and not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
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
