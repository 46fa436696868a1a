"""What one reader follows while the run lives where a transport may be away: the transport, and heartbeats.

Heartbeats cost a description of the run at Temporal for each look. So they are looked at only while the
transport has delivered nothing for a while, and as long as they hold frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing
from datetime import datetime

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.errors import TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.temporal.heartbeats import Inbox, RunHeartbeats
from temporal_token_interceptor.reader.temporal.live_entries import is_live
from temporal_token_interceptor.transport.base import Entry, TimedSource, TokenSource

# Seconds without an entry from the transport after which heartbeats are looked at. A worker waits for one.
_QUIET = 1.0

# Seconds that a transport which has delivered nothing of a run may take to say where the run's stream ends.
_AWAY = 3.0


class FallbackEntries:
    """What one reader follows: the entries of the transport, and those of heartbeats.

    Args:
        source: The transport.
        heartbeats: Those of the run.
    """

    def __init__(self, source: TokenSource, heartbeats: RunHeartbeats) -> None:
        self._source = source
        self._timed = source if isinstance(source, TimedSource) else None
        self._heartbeats = heartbeats
        self._inbox = Inbox()
        self._taken = asyncio.Event()  # the batch of the transport that was put into the inbox
        self._has_read = self._has_delivered = False

    @property
    def read_failures(self) -> int:
        """How often reading the transport failed."""
        return 0 if self._timed is None else self._timed.read_failures

    @property
    def last_progress(self) -> float:
        """When a part of what was asked of the transport last came."""
        return 0.0 if self._timed is None else self._timed.last_progress

    def stored_time(self, entry_id: str) -> datetime | None:
        """Return when the transport stored an entry; None where that is not known."""
        return None if self._timed is None else self._timed.stored_time(entry_id)

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over batches, each of one place.

        A second call says that the run has closed: the transport alone is read, after an id.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        if self._has_read:
            async with aclosing(self._source.read(stream, after)) as batches:
                async for batch in batches:
                    yield batch
            return
        self._has_read = True
        transport = started(self._follow(stream), "token-stream transport")
        transport.add_done_callback(lambda _: self._inbox.changed.set())
        try:
            with ExitStack() as listening:
                is_listening = False
                while True:
                    if not await self._has_changed(None if is_listening else _QUIET):
                        listening.enter_context(self._heartbeats.listening(self._inbox))
                        is_listening = True
                    while self._inbox.batches:
                        batch = self._inbox.batches.popleft()
                        if is_listening and not is_live(batch) and not self._heartbeats.hold_frames:
                            listening.close()
                            is_listening = False
                        yield batch
                        if not is_live(batch):
                            self._taken.set()
                    if transport.done():
                        await transport  # raises what ended it
        finally:
            await joined(transport)
            await self._heartbeats.leave()

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the transport's newest entry, or an empty string.

        Where nothing was read, what heartbeats hold now is left over.

        Raises:
            TransportUnavailable: the transport was away for too long: for 3 s, if it has delivered nothing.
        """
        if not self._has_read:
            self._has_read = True
            self._inbox.put(await self._heartbeats.now())
        try:
            async with asyncio.timeout(None if self._has_delivered else _AWAY):
                return await self._source.last_id(stream)
        except TimeoutError:
            raise TransportUnavailable(
                f"the transport has nothing of {stream.name!r} so far, and does not answer within {_AWAY:g} s"
            ) from None

    def leftover(self) -> Iterator[Sequence[Entry]]:
        """Yield the batches from heartbeats that came, and were not read before the run closed."""
        while self._inbox.batches:
            if is_live(batch := self._inbox.batches.popleft()):
                yield batch

    async def _has_changed(self, seconds: float | None) -> bool:
        """Whether something was put into the inbox within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._inbox.changed.wait()
        except TimeoutError:
            return False
        self._inbox.changed.clear()
        return True

    async def _follow(self, stream: StreamKey) -> None:
        """Put the transport's batches into the inbox, one at a time: the transport holds the others."""
        async with aclosing(self._source.read(stream)) as batches:
            async for batch in batches:
                self._has_delivered = True
                self._taken.clear()
                self._inbox.put(batch)
                await self._taken.wait()
