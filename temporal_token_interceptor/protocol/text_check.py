"""The check that a frame carries before the end of each call: count and hash of the call's text.

Writer and reader keep it alike (`TextDigest`), so that a reader can verify what it received.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from temporal_token_interceptor.events import Call, CallEnded, CallStarted, Record, TextCheck, TextRun


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
