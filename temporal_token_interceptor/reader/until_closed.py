"""A stream's batches, in the reader's own task, up to the end that it has once its run has closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from temporal_token_interceptor.errors import TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.position import Reach
from temporal_token_interceptor.transport.base import Entry

logger = logging.getLogger(__name__)

# How often a reader looks for the end of a closed stream whose last entries it is not handed.
_DRAIN_LOOKS = 3

# How long a reader that knows where the stream ends waits to be handed the next entries up to there, before
# it looks whether that end still exists.
_DRAIN_TIMEOUT = 5.0


class Entries(Protocol):
    """Where the entries of a run come from: a `TokenSource`, or Temporal's history."""

    def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come, in batches that are never empty."""
        ...

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        ...


async def batches(
    entries: Entries, stream: StreamKey, reach: Reach, closing: asyncio.Future[Any]
) -> AsyncGenerator[Sequence[Entry]]:
    """Iterate over a stream's batches, up to the entry that is the last one once the run has closed.

    Args:
        entries: Where they come from.
        stream: The run.
        reach: Is told how far it came.
        closing: Done when the run has closed.

    Raises:
        TransportUnavailable: whoever has the entries was away for too long.
    """
    async with aclosing(entries.read(stream)) as live:
        before = _Before(closing)
        while (batch := await before.next(live)) is not None:
            reach.last = batch[-1].id
            yield batch
    end = await entries.last_id(stream)
    reach.is_short = end < reach.last  # what was read is gone: others may be
    looks = 0
    while reach.last < end:
        async with aclosing(entries.read(stream, reach.last)) as rest:
            while (batch := await _in_time(rest)) is not None:
                reach.last = batch[-1].id
                yield batch
                if reach.last >= end:
                    return
        looks += 1
        end = await entries.last_id(stream)
        if looks == _DRAIN_LOOKS or end <= reach.last:
            reach.is_short = True
            logger.warning("stream %r could not be read to its end", stream.name)
            return


class _Before:
    """Awaits batches in the reader's own task, until a future is done.

    A task for each batch, and `asyncio.wait`, would cost more than all the rest of reading it.
    """

    def __init__(self, closing: asyncio.Future[Any]) -> None:
        self._closing = closing
        self._waiting: asyncio.Timeout | None = None
        closing.add_done_callback(self._interrupt)  # once: with many readers, adding and removing adds up

    async def next(self, source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry] | None:
        """Return the next batch; None, and the source is spent, once the future is done."""
        if self._closing.done():
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await _next(source)
        except TimeoutError:
            if not self._closing.done():
                raise
            return None
        finally:
            self._waiting = None

    def _interrupt(self, closing: asyncio.Future[Any]) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(closing.get_loop().time())


async def _in_time(source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry] | None:
    """Return the next batch; None, and the source is spent, if it does not come in time."""
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            return await _next(source)
    except TimeoutError:
        return None


async def _next(source: AsyncGenerator[Sequence[Entry]]) -> Sequence[Entry]:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise TransportUnavailable(
            "the backend was closed while it was read; resume from the last event's cursor with another"
        ) from None
