"""Batches of entries: skimmed before the cursor, and cut into parts that fit into memory behind it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.entry_decoder import EntryDecoder
from temporal_token_interceptor.reader.position import Reach
from temporal_token_interceptor.transport.base import Entry

# Entries whose events are made at once: more would be held in memory, however slow the reader is.
_PART = 64
_PART_BYTES = 256 * 1024


def parts(batch: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield parts of a batch, none empty, whose events fit into memory at once, whatever was stored."""
    part: list[Entry] = []
    size = 0
    for entry in batch:
        if part and (size > _PART_BYTES or len(part) == _PART):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.data)
    if part:
        yield part


def skimmed(
    batch: Sequence[Entry], reach: Reach, cache: EntryCache, decoder: EntryDecoder
) -> Sequence[Entry]:
    """Read what comes before the cursor at the front of a batch; return what is left of it.

    Frames of text alone, which are most of a stream, are not decoded. Others are, one at a time. What is left
    begins where several of those follow each other, with one that is sealed, or with the cursor's.
    """
    if not cache.accepts_plain or not decoder.skims:
        return batch
    done, end = 0, bisect_left(batch, reach.mark, key=lambda entry: entry.id)
    texts = 1
    while done < end:
        part = batch[done : min(done + _PART, end)]
        before, texts = texts, decoder.skim(part)
        done += texts
        if texts == len(part):
            continue
        if not (texts or before) or (decoded := cache.decoded(batch[done : done + 1])) is None:
            break
        decoder.read(reach, batch[done : done + 1], decoded)
        done += 1
    return batch[done:]
