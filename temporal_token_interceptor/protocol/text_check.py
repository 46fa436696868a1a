"""The check that a frame carries before the end of each call: count and hash of the call's text.

Writer and reader keep it alike (`TextDigest`), so that a reader can verify what it received.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from temporal_token_interceptor.events import Call, CallEnded, CallStarted, Record, TextCheck, TextRun

# Texts that are hashed at once: an update for each would cost more than all the rest of the check.
HASHED_TOGETHER: Final = 64


class TextDigest:
    """Count and hash of a call's text so far: costs one hash update for 64 texts, and holds no more.

    Attributes:
        count: How many pieces there were.
        unhashed: The newest texts. Where each call counts, text is appended here without `add`; `update`
            has to be called once there are `HASHED_TOGETHER`.
    """

    __slots__ = ("_hash", "count", "unhashed")

    def __init__(self) -> None:
        self.count = 0
        self.unhashed: list[str] = []
        self._hash = hashlib.sha256()

    def add(self, text: str, count: int) -> None:
        """Add text that holds `count` pieces.

        UTF-16, because there an emoji is the same bytes whether its halves came together or apart.
        """
        self.count += count
        self.unhashed.append(text)
        if len(self.unhashed) >= HASHED_TOGETHER:
            self.update()

    def update(self) -> None:
        """Hash what is not hashed yet."""
        self._hash.update("".join(self.unhashed).encode("utf-16-le", "surrogatepass"))
        self.unhashed.clear()

    def copy(self) -> TextDigest:
        """Return one that has read the same so far."""
        copy = TextDigest()
        copy.count, copy.unhashed, copy._hash = self.count, self.unhashed.copy(), self._hash.copy()
        return copy

    def hexdigest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the text so far."""
        self.update()
        return self._hash.hexdigest()[:16]


class CallChecks:
    """Follows the records of an attempt, in the order in which they are sent."""

    def __init__(self) -> None:
        self._open: dict[int, Call] = {}
        self._said: dict[int, TextDigest] = {}

    @property
    def open(self) -> tuple[Call, ...]:
        """The calls that began and have not ended."""
        return tuple(self._open.values())

    def add(self, records: Iterable[Record]) -> tuple[Record, ...]:
        """Return the records with a check before each end of a call that said any text."""
        checked: list[Record] = []
        for record in records:
            if isinstance(record, TextRun):
                if record.kind == "text":
                    said = self._said.get(record.call)
                    if said is None:
                        said = self._said[record.call] = TextDigest()
                    said.add("".join(record.texts), record.count)
            elif isinstance(record, CallStarted):
                self._open[record.call.ordinal] = record.call
            elif isinstance(record, CallEnded):
                ordinal = record.call.ordinal
                self._open.pop(ordinal, None)
                if (said := self._said.pop(ordinal, None)) is not None:
                    checked.append(TextCheck(ordinal, said.count, said.hexdigest()))
            checked.append(record)
        return tuple(checked)

    def unfinished(self) -> tuple[CallEnded, ...]:
        """Return ends for the calls that are still open, to be added in their turn."""
        return tuple(CallEnded(call=call, unfinished=True) for call in self.open)
