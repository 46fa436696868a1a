"""How many entries to ask for at once, so that a page has a bounded number of bytes.

Redis before 8.10 bounds a page by its entries alone. So the number follows the size of the entries before;
and a reply that grows far beyond is given up, and asked for again with one entry.
"""

from __future__ import annotations

from typing import Final

from temporal_token_interceptor.transport.base import Entry

PAGE_ENTRIES: Final = 500
"""The most entries of a page."""

PAGE_BYTES: Final = 1024 * 1024
"""What a page is meant to have at most: half a second of a link of 2 MB/s."""

REPLY_BYTES: Final = 4 * PAGE_BYTES
"""A reply to a question for several entries is given up beyond this."""

FIRST_ENTRIES: Final = 100
"""The entries of the first page: frames have some hundred bytes as a rule, and may have 256 KiB."""

FIRST_OF_READER: Final = 8
"""Those of a reader that comes: where many come at once, each has something before one of them has all."""

_GROWTH: Final = 4


class PageSize:
    """How many entries to ask for next.

    Args:
        first: How many at first.
    """

    def __init__(self, first: int = FIRST_ENTRIES) -> None:
        self.count = first

    def received(self, entries: int, size: int) -> None:
        """Follow a page: its entries (of the longest stream, if there are several), and all its bytes."""
        fitting = PAGE_BYTES * max(entries, 1) // max(size, 1)
        if size > PAGE_BYTES:
            self.count = max(1, min(self.count, fitting))
        elif entries >= self.count:
            self.count = min(PAGE_ENTRIES, self.count * _GROWTH, max(self.count, fitting))

    def too_large(self) -> None:
        """Ask for one: it shows how large they are, and a second reply that is given up would cost more."""
        self.count = 1

    @property
    def most_bytes(self) -> int | None:
        """Beyond how many bytes a reply is given up; None if it has one entry, which is taken as it is."""
        return REPLY_BYTES if self.count > 1 else None


def size_of(entries: list[Entry]) -> int:
    """Return the bytes of entries."""
    return sum([len(entry.data) for entry in entries])
