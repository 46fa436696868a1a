"""Batches of entries, cut into parts whose events fit into memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from temporal_token_interceptor.transport.base import Entry

# Entries whose events are made at once: more would be held in memory, however slow the reader is.
_PART = 64
_PART_BYTES = 256 * 1024


def parts(batch: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield parts of a batch whose events fit into memory at once, whatever was stored."""
    part: list[Entry] = []
    size = 0
    for entry in batch:
        if part and (size > _PART_BYTES or len(part) == _PART):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.data)
    yield part
