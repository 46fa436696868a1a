"""Whether a transport has lost entries where a reader reads: before the first one, between two, or all."""

from __future__ import annotations

from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.position import Reach
from temporal_token_interceptor.transport.base import Entry, RememberingSource, TokenSource


class LostEntries:
    """Asks a transport what it has no more; for one reader.

    Args:
        source: The transport.
        stream: The run.
        reach: Where the reader stands in it.
        cache: Opens and decodes entries.
        reads_all: Whether the reader has no cursor, and did not ask to leave out what was there.
    """

    def __init__(
        self, source: TokenSource, stream: StreamKey, reach: Reach, cache: EntryCache, *, reads_all: bool
    ) -> None:
        self._source = source
        self._stream = stream
        self._reach = reach
        self._cache = cache
        self._reads_all = reads_all

    async def cursor(self) -> bool:
        """Whether the entry of the cursor is ahead of the whole stream: the transport began again."""
        mark = self._reach.mark
        return bool(mark) and await self._source.last_id(self._stream) < mark

    async def between(self, before: str, first: Entry) -> bool:
        """Whether there were entries before one that were not read.

        Args:
            before: The id of the one that was read before it; empty for none.
            first: That entry.
        """
        if before:
            return await self._source.first_id(self._stream) > before
        if (mark := self._reach.mark) or not self._reads_all:
            return bool(mark) and mark < first.id
        (decoded,) = self._cache.decoded([first]) or await self._cache.opened([first])
        if isinstance(decoded, Packet) and decoded.seq > 0:
            return True
        begun = await self._begun()
        return bool(begun) and begun < first.id

    async def all(self) -> bool:
        """Whether the stream that is empty now had entries: it has expired, or was deleted."""
        return self._reads_all and not self._reach.mark and bool(await self._begun())

    async def _begun(self) -> str:
        """Return the id of the first entry that the stream ever had; empty where that is not known."""
        source = self._source
        return await source.begun(self._stream) if isinstance(source, RememberingSource) else ""
