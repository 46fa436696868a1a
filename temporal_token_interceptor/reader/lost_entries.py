"""Whether a transport has lost entries where a reader reads: before the first one, between two, or all."""

from __future__ import annotations

from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.position import Reach
from temporal_token_interceptor.reader.until_closed import Cut
from temporal_token_interceptor.transport.base import Entry, RememberingSource, TokenSource


def cut_before(first: str, seq: int, *, mark: str, begun: str | None) -> Cut | None:
    """Return why entries before the oldest one are missing; None if there were none.

    Args:
        first: The id of the oldest entry that is there.
        seq: Its number among the frames of its attempt; 0 if it is no frame.
        mark: The id of the cursor's entry; empty for none.
        begun: The id of the first entry that the stream ever had, which is remembered for longer than the
            stream lives: empty if it is gone all the same. None if this transport does not remember it.
    """
    was_cut = mark < first if mark else seq > 0 or bool(begun and begun < first)
    if not was_cut:
        return None
    # A stream that began after the cursor's entry, or in the middle of an attempt, has begun again: what was
    # before it is lost, as in a restart, and was not cut.
    is_older = begun is None or (begun != "" and (begun <= mark if mark else begun < first))
    return "trimmed" if is_older else "transport"


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

    async def between(self, before: str, first: Entry, doubt: Cut | None) -> Cut | None:
        """Return why entries before one were not read; None if there were none.

        Args:
            before: The id of the one that was read before it; empty for none.
            first: That entry.
            doubt: Why some may be missing, between two.
        """
        if before:
            return doubt if doubt and await self._source.first_id(self._stream) > before else None
        mark = "" if self.was_reported(first) else self._reach.mark
        (decoded,) = self._cache.decoded([first]) or await self._cache.opened([first])
        seq = decoded.seq if isinstance(decoded, Packet) else 0
        return cut_before(first.id, seq, mark=mark, begun=await self._begun())

    def was_reported(self, first: Entry) -> bool:
        """Whether what is missing before the oldest entry comes before the place of the cursor, too."""
        mark = self._reach.mark
        return mark >= first.id if mark else not self._reads_all

    async def all(self) -> bool:
        """Whether the stream that is empty now had entries: it has expired, or was deleted."""
        return self._reads_all and not self._reach.mark and bool(await self._begun())

    async def _begun(self) -> str | None:
        """Return the id of the first entry that the stream ever had; None where no transport remembers it."""
        source = self._source
        return await source.begun(self._stream) if isinstance(source, RememberingSource) else None
