"""Which calls of an attempt are open, and what each has said: so that each end has its check before it."""

from __future__ import annotations

from collections.abc import Iterable

from temporal_token_interceptor.events import Call, CallEnded, CallStarted, Record, TextRun
from temporal_token_interceptor.protocol.text_check import TextCheck, TextDigest


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
