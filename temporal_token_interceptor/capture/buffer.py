"""The hand-off from LangChain's callbacks to the event loop: thread-safe, bounded, never waiting.

A callback may run on the event loop or, for a sync node, on any thread, several at once. It must cost next
to nothing and cannot wait, so the buffer takes what comes, folds neighbouring tokens of a call into one
run, and keeps to a bound that all attempts of a worker share. What does not fit is not stored but counted,
at its place in the stream: the reader gets a `Gap` that says how much of which call is missing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from temporal_token_interceptor._arguments import positive_number
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    Gap,
    NodeEnded,
    NodeStarted,
    Record,
    TextKind,
    TextRun,
    ToolEnded,
    ToolStarted,
)

# What a record costs in memory, roughly: a short str object and its slot in a list; a small record.
_TEXT_BYTES = 64
_RECORD_BYTES = 512

# Beyond this many chunks a run is joined: during an outage the text of a call shrinks to its characters.
_JOIN_AT = 512

# Starts and ends are kept when text no longer is, or a reader could not know whose text is missing. Even so
# they are bounded.
_STRUCTURAL_BOUND = 4096
_STRUCTURAL = (CallStarted, CallEnded, ToolStarted, ToolEnded, NodeStarted, NodeEnded)

_LEASE_BYTES = 16 * 1024

# Where holes are filed that belong to no call.
_NO_ORDINAL = -1


class Budget:
    """How many bytes all buffers of a worker may hold together.

    Buffers take it in blocks, so that the one lock they share is touched once in many tokens.
    """

    def __init__(self, limit: int) -> None:
        self.limit = positive_number("max_buffered_bytes", limit, unit="bytes")
        self.leased = 0
        self.dropped = 0
        self._lock = threading.Lock()

    def lease(self, wanted: int) -> int:
        """Take a block, or just `wanted` bytes where no block is left; return what was taken, or 0."""
        with self._lock:
            for size in (max(wanted, _LEASE_BYTES), wanted):
                if self.leased + size <= self.limit:
                    self.leased += size
                    return size
            return 0

    def refund(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.leased -= size

    def count_dropped(self, tokens: int) -> None:
        """Count tokens that did not fit."""
        with self._lock:
            self.dropped += tokens

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Budget {self.leased}/{self.limit} bytes leased, {self.dropped} dropped>"


@dataclass(slots=True)
class _Run:
    """A `TextRun` that still grows."""

    kind: TextKind
    call: Call
    first_index: int
    texts: list[str]
    size: int
    count: int = 0  # of chunks that `texts` holds; kept only where they were joined


@dataclass(slots=True)
class _Hole:
    """A `Gap` that still grows."""

    call: Call | None
    missing: int = 1
    size: int = 0


@dataclass(slots=True)
class _Kept:
    record: Record
    size: int


class Buffer:
    """What one attempt has captured and not yet handed to its sink.

    `put_text` and `put` may be called from any thread and never block, wait or raise. One reader takes.

    Args:
        budget: Shared by the buffers of a worker.
        wake: Called, on the putting thread, when the buffer stops being empty, also by a gap.
    """

    def __init__(self, budget: Budget, wake: Callable[[], None]) -> None:
        self.received = 0
        """How many pieces and records were put so far, kept or not, also after the end: a sign of life."""
        self._budget = budget
        self._wake = wake
        self._lock = threading.Lock()
        self._items: deque[_Run | _Hole | _Kept] = deque()
        self._open: dict[int, _Run | _Hole] = {}  # by call: where its next token can be added
        self._size = 0
        self._taken = 0
        self._leased = 0
        self._unplaced = 0  # dropped with not even room for a hole of their own
        self._closed = False

    def __len__(self) -> int:
        """How many records wait."""
        return len(self._items)

    def put_text(self, call: Call, kind: TextKind, index: int, text: str) -> None:
        """Add one chunk of text; the chunk before it, if of the same call and kind, shares its record."""
        cost = _TEXT_BYTES + len(text)
        with self._lock:
            self.received += 1
            if self._closed:
                return
            was_empty = not self._items
            run = self._open.get(call.ordinal)
            if self._size + cost > self._leased and not self._lease(cost):
                self._drop(call)
            elif isinstance(run, _Run) and run.kind == kind:
                self._size += cost
                run.size += cost
                run.texts.append(text)
                if len(run.texts) >= _JOIN_AT:
                    self._join(run)
            else:
                self._size += cost
                self._open[call.ordinal] = run = _Run(kind, call, index, [text], cost)
                self._items.append(run)
        if was_empty:
            self._wake()

    def put(self, record: Record, call: Call | None, size: int = 0) -> None:
        """Add a record that is not text.

        Args:
            record: The record.
            call: The call it belongs to: text of the call that follows is not joined to text before. None
                for what happens around the calls.
            size: The bytes of what it carries, beyond a small record.
        """
        cost = _RECORD_BYTES + size
        with self._lock:
            self.received += 1
            if self._closed:
                return
            was_empty = not self._items
            if self._size + cost > self._leased and not self._lease(cost):
                cost = 0  # beyond the budget; what is structural has its own bound
            structural = isinstance(record, _STRUCTURAL)
            if cost or (structural and len(self._items) < _STRUCTURAL_BOUND):
                if call is not None:
                    self._open.pop(call.ordinal, None)
                self._size += cost
                self._items.append(_Kept(record, cost))
            else:
                self._drop(call)
        if was_empty:
            self._wake()

    def take(self, max_bytes: int) -> tuple[Record, ...]:
        """Take the oldest records, at least one if there is any; what was taken before is now released.

        Args:
            max_bytes: Stop once this much was taken.
        """
        with self._lock:
            self._release(self._taken)
            self._taken = 0
            records: list[Record] = []
            items = self._items
            while items and self._taken < max_bytes:
                item = items.popleft()
                self._taken += item.size
                records.append(_finished(item))
            if items:
                left = {id(item) for item in items}
                self._open = {ordinal: run for ordinal, run in self._open.items() if id(run) in left}
            else:
                self._open.clear()
                if self._unplaced:
                    records.append(Gap(missing=self._unplaced, reason="overflow"))
                    self._unplaced = 0
            return tuple(records)

    def close(self) -> None:
        """Turn deaf and give all memory back: what is put from now on is not recorded."""
        with self._lock:
            self._closed = True
            self._items.clear()
            self._open.clear()
            self._budget.refund(self._leased)
            self._size = self._taken = self._leased = self._unplaced = 0

    def _lease(self, cost: int) -> bool:
        self._leased += (leased := self._budget.lease(cost))
        return bool(leased)

    def _release(self, size: int) -> None:
        self._size -= size
        spare = self._leased - self._size - _LEASE_BYTES
        if spare > 0:
            self._leased -= spare
            self._budget.refund(spare)

    def _drop(self, call: Call | None) -> None:
        self._budget.count_dropped(1)
        ordinal = _NO_ORDINAL if call is None else call.ordinal
        hole = self._open.get(ordinal)
        if isinstance(hole, _Hole):
            hole.missing += 1
        elif len(self._items) < _STRUCTURAL_BOUND:
            self._open[ordinal] = hole = _Hole(call)
            self._items.append(hole)
        else:
            self._unplaced += 1

    def _join(self, run: _Run) -> None:
        """Shrink a long run to its characters. Lossless: only the token boundaries go."""
        before = run.size
        run.count = len(run.texts)
        run.texts = ["".join(run.texts)]
        run.size = _RECORD_BYTES + len(run.texts[0])
        self._release(before - run.size)
        del self._open[run.call.ordinal]


def _finished(item: _Run | _Hole | _Kept) -> Record:
    if isinstance(item, _Kept):
        return item.record
    if isinstance(item, _Hole):
        return Gap(missing=item.missing, reason="overflow", call=item.call)
    return TextRun(item.kind, item.call.ordinal, item.first_index, item.texts, item.count or len(item.texts))
