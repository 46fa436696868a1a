"""The reading half of the Redis transport: catch up with `XRANGE`, then follow with the shared read.

A blocked read holds a connection, so the readers of a process share one (`shared_read`). A reader first
reads what is there, then joins; the two meet at an entry id, so that nothing falls between them.

A reader that does not keep up costs the others nothing: its queue is bounded, and when it overflows the
reader goes back to `XRANGE`. Redis holds the entries anyway.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from temporal_token_interceptor._tasks import ProgressTimeout, SharedQuestions
from temporal_token_interceptor.errors import InvalidCursor, TokenStreamError
from temporal_token_interceptor.protocol.positions import MAX_POSITIONS
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.lifetime import OneLoop
from temporal_token_interceptor.transport.redis.connection import (
    Queries,
    entries,
    entry_id,
    range_after,
)
from temporal_token_interceptor.transport.redis.follower import Follower
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.outage import Backoff, Outage
from temporal_token_interceptor.transport.redis.packing import Command
from temporal_token_interceptor.transport.redis.pages import FIRST_OF_READER, PageSize, size_of
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge
from temporal_token_interceptor.transport.redis.refusals import FAILURES, RefusedError, is_final, refused
from temporal_token_interceptor.transport.redis.replica import Replica

_NOTED_BYTES: Final = 4_096
"""Of the value of a key that is no stream: ours have fewer than 100."""

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may stand in a cursor: Temporal's are 36 hexadecimal digits and dashes."""


def _as_it_came(reply: Any) -> Any:
    return reply


class RedisReader:
    """Reads any number of streams over two connections: one for questions, one that waits.

    Args:
        queries: Answers questions.
        follower: The shared read.
        keys: Names the keys.
        outage: Notes when reading fails.
        loop: The one that it is read from.
        patience: Seconds that Redis may be away, or refuse, before readers get `TransportUnavailable`.
        first_entries: Entries of a reader's first page.
    """

    def __init__(
        self,
        queries: Queries,
        follower: Follower,
        keys: Keys,
        outage: Outage,
        loop: OneLoop,
        *,
        patience: float,
        first_entries: int = FIRST_OF_READER,
    ) -> None:
        self._keys = keys
        self._outage = outage
        self._loop = loop
        self._patience = patience
        self._queries = queries
        self._follower = follower
        self._first_entries = first_entries
        self._replica = Replica(queries)
        self._questions: SharedQuestions[Any] = SharedQuestions()
        self._asking: set[ProgressTimeout] = set()
        self._closed = False

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come."""
        self._loop.check()
        key = self._keys.stream(stream)
        size = PageSize(self._first_entries)
        try:
            while not self._closed:
                page, is_full = await self._range(key, size, after)
                if page:
                    after = page[-1].id
                    yield page
                if is_full or self._closed:
                    continue
                listener = self._follower.join(key, after)
                try:
                    # Others may be ahead, and the listener starts where they are.
                    while after < listener.since:
                        page, _ = await self._range(key, size, after, listener.since)
                        if not page:  # trimmed meanwhile
                            break
                        after = page[-1].id
                        yield page
                    while batch := await listener.next():
                        if batch[0].id <= after:
                            batch = [entry for entry in batch if entry.id > after]
                        if batch:
                            after = batch[-1].id
                            yield batch
                finally:
                    self._follower.leave(key, listener)
                # The listener's queue overflowed, the stream was refused, or `close` ended it.
        except _ClosedError:
            return

    @property
    def last_progress(self) -> float:
        """When bytes last came for a reader that catches up, on the loop's clock; 0 if none did."""
        return self._queries.last_progress

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        newest: list[Entry] = await self._ask(
            "XREVRANGE", self._keys.stream(stream), "+", "-", "COUNT", 1, read=entries
        )
        return newest[0].id if newest else ""

    async def first_id(self, stream: StreamKey) -> str:
        """Return the id of the oldest entry that is still there, or an empty string."""
        oldest: list[Entry] = await self._ask(
            "XRANGE", self._keys.stream(stream), "-", "+", "COUNT", 1, read=entries
        )
        return oldest[0].id if oldest else ""

    async def begun(self, stream: StreamKey) -> str:
        """Return the id of the first entry that the stream ever had; empty if Redis does not know it."""
        with suppress(InvalidCursor):
            return entry_id(await self._noted(self._keys.begun(stream)))
        return ""

    async def caught_up(self) -> bool:
        """Wait until all that was stored before this call can be read, also from a replica."""
        return await self._replica.caught_up()

    @property
    def failures(self) -> int:
        """How often Redis could not be used so far."""
        return self._outage.failures

    async def newest_run(self, stream: StreamKey) -> str | None:
        """Return the run that the pointer of a workflow names."""
        run_id = await self._noted(self._keys.pointer(stream))
        return run_id if _RUN_ID.fullmatch(run_id) else None

    async def _noted(self, key: str, at_most: int = _NOTED_BYTES) -> str:
        """Return what a key of ours says; empty where it is missing, or another program put something there.

        It may be of any type and size: neither ends a reader, nor does it fill its memory.
        """
        try:
            noted: bytes | str | None = await self._ask("GET", key, at_most=at_most)
        except (ReplyTooLarge, RefusedError):
            return ""
        if noted is None or len(noted) > at_most:  # of a group, only all replies together were bounded
            return ""
        return noted.decode(errors="replace") if isinstance(noted, bytes) else noted

    async def store_positions(self, name: str, positions: str, seconds: int) -> None:
        """Keep positions under a name for so many seconds."""
        await self._ask("SET", self._keys.positions(name), positions, "EX", seconds)

    async def stored_positions(self, name: str) -> str | None:
        """Return what was stored under a name; None if it has expired."""
        return await self._noted(self._keys.positions(name), MAX_POSITIONS) or None

    async def close(self) -> None:
        """End all iterators, questions and the shared read. Closing twice is fine."""
        self._closed = True
        for asking in self._asking:
            asking.end()
        await self._follower.close()
        await self._queries.silence()

    def __repr__(self) -> str:
        return f"<RedisReader {self._follower!r}>"

    async def _range(self, key: str, size: PageSize, after: str, until: str = "") -> tuple[list[Entry], bool]:
        """Return a page, and whether it is full; one that grows too large is asked for again, smaller."""
        while True:
            count = size.count
            try:
                command = range_after(key, after, count, until)
                page: list[Entry] = await self._ask(*command, at_most=size.most_bytes, read=entries)
            except ReplyTooLarge:
                size.too_large()
            else:
                size.received(len(page), size_of(page))
                return page, len(page) >= count

    async def _ask(
        self,
        *command: str | int | bytes,
        at_most: int | None = None,
        read: Callable[[Any], Any] = _as_it_came,
    ) -> Any:
        """Return the reply to a command about a key, as `read` reads it, shared by all who ask alike."""
        answer = partial(self._answer, command, at_most, read)
        # Fresh: an answer that is under way may be older than what its reader knows.
        return await self._questions.ask((command, at_most), answer, fresh=True)

    async def _answer(self, command: Command, at_most: int | None, read: Callable[[Any], Any]) -> Any:
        """Ask about a key, which is the command's second word, until Redis answers.

        Patience counts from the last sign of life of Redis: waiting behind others who get their pages over a
        slow link is no outage.
        """
        backoff = Backoff(self._outage, self._patience)
        timeout = ProgressTimeout(self._patience, lambda: self._queries.last_progress)
        try:
            async with timeout:
                self._asking.add(timeout)
                while not self._closed:
                    try:
                        reply = await self._queries.ask(*command, at_most=at_most)
                    except FAILURES as error:
                        if is_final(error):
                            raise refused(str(command[1]), error) from error
                        await backoff.wait(error)
                    else:
                        backoff.over()
                        return read(reply)
        except TimeoutError:
            if not self._closed:
                raise backoff.unavailable(self._patience) from backoff.error
        finally:
            self._asking.discard(timeout)
            backoff.leave()
        raise _ClosedError("the backend is closed: nothing can be read from it any more")


class _ClosedError(TokenStreamError):
    """Ends the iterators that are still open."""
