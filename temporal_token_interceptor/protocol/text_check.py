"""Count and hash of one call's text, kept alike by writer and reader, so that they can compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


class TextDigest:
    """What a call has said so far, in a few bytes: one hash update for each run of text, none for a token."""

    __slots__ = ("_hash", "count")

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, text: str, count: int) -> None:
        """Add text that holds `count` pieces.

        UTF-16, because there an emoji is the same bytes whether its halves came together or apart.
        """
        self.count += count
        self._hash.update(text.encode("utf-16-le", "surrogatepass"))

    def hexdigest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the text so far."""
        return self._hash.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TextCheck:
    """What all text of a call adds up to, for readers to verify; a frame has it before the call's end.

    Attributes:
        call: The ordinal of the call.
        count: How many chunks of text were sent.
        digest: `TextDigest.hexdigest` of the text.
    """

    call: int
    count: int
    digest: str
