"""The check that a frame carries before the end of each call: count and hash of the call's text.

Writer and reader keep it alike (`TextDigest`), so that a reader can verify what it received.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from temporal_token_interceptor.events import Call, CallEnded, CallStarted, Record, TextCheck, TextRun

# Texts that are hashed at once: an update for each would cost more than all the rest of the check.
_TOGETHER = 64


class TextDigest:
    """Count and hash of a call's text so far: costs one hash update for 64 pieces, and holds no more."""

    __slots__ = ("_hash", "_texts", "count")

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()
        self._texts: list[str] = []  # not hashed yet

    def add(self, text: str, count: int) -> None:
        """Add text that holds `count` pieces.

        UTF-16, because there an emoji is the same bytes whether its halves came together or apart.
        """
        self.count += count
        self._texts.append(text)
        if len(self._texts) == _TOGETHER:
            self._update()

    def _update(self) -> None:
        self._hash.update("".join(self._texts).encode("utf-16-le", "surrogatepass"))
        self._texts.clear()

    def hexdigest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the text so far."""
        self._update()
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
