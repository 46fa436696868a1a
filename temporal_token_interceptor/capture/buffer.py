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
from dataclasses import dataclass, replace

from temporal_token_interceptor.capture.budget import LEASE_BYTES, Budget
from temporal_token_interceptor.capture.outlet import OpenRun
from temporal_token_interceptor.capture.sizes import RECORD_BYTES, VALUE_BYTES, record_bytes, text_bytes
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    Gap,
    NodeEnded,
    NodeStarted,
    Record,
    RetrieverEnded,
    RetrieverStarted,
    TextKind,
    TextRun,
    ToolEnded,
    ToolStarted,
)

# Beyond this many chunks a run is joined: during an outage the text of a call shrinks to its characters.
_JOIN_AT = 512

# Beyond this many bytes the next chunk begins a new run: a record cannot be divided among frames.
_RUN_BYTES = 1024 * 1024

# Starts and ends are kept when text no longer is, or a reader could not know whose text is missing: without
# what they carry, in a reserve beyond the budget. That is bounded, too: for the worker, and for an attempt.
_STRUCTURAL_BOUND = 4096
_STRUCTURAL = (
    CallStarted,
    CallEnded,
    ToolStarted,
    ToolEnded,
    RetrieverStarted,
    RetrieverEnded,
    NodeStarted,
    NodeEnded,
    Gap,
)

# Where holes are filed that belong to no call.
_NO_ORDINAL = -1


@dataclass(slots=True)
class _Hole:
    """A `Gap` that still grows."""

    call: Call | None
    missing: int
    size: int = 0


@dataclass(slots=True)
class _Kept:
    record: Record
    size: int
    reserved: int = 0


class Buffer:
    """What one attempt has captured and not yet handed to its sink.

    `put_text` and `put` may be called from any thread and never block, wait or raise. One reader takes.

    Args:
        budget: Shared by the buffers of a worker.
        wake: Called, on the putting thread, when the buffer stops being empty, also by a gap.
    """

    def __init__(self, budget: Budget, wake: Callable[[], None]) -> None:
        self._received = 0
        self._budget = budget
        self._wake = wake
        self._lock = threading.Lock()
        self._items: deque[OpenRun | _Hole | _Kept] = deque()
        self._open: dict[int, OpenRun | _Hole] = {}  # by call: where its next token can be added
        self._size = 0
        self._taken = 0
        self._leased = 0
        self._unplaced = 0  # dropped with not even room for a hole of their own
        self._closed = False

    def __len__(self) -> int:
        """How many records wait."""
        return len(self._items)

    @property
    def received(self) -> int:
        """How many pieces and records were put so far, kept or not, also after the end: a sign of life."""
        with self._lock:
            added = (len(run.texts) - run.counted for run in self._open.values() if type(run) is OpenRun)
            return self._received + sum(added)

    def put_text(
        self, call: Call, kind: TextKind, index: int, text: str, *, block: int = 0, room: int = 0
    ) -> OpenRun | None:
        """Add one chunk of text; the chunk before it, if of the same block of the call, shares its record.

        Returns:
            The run that has it; None if it was dropped, or if the buffer is closed. Within its room, which
            comes out of what the buffer has leased already, the thread of the call may add to it by itself.
        """
        cost = VALUE_BYTES + (len(text) if text.isascii() else text_bytes(text))
        with self._lock:
            self._received += 1
            if self._closed:
                return None
            was_empty = not self._items
            run = self._open.get(call.ordinal)
            if type(run) is OpenRun and run.size >= _RUN_BYTES:
                self._close_run(call.ordinal)
                run = None
            # Not by the other kind: who writes a run counts and hashes its pieces before the next one.
            if type(run) is OpenRun and run.kind == kind and len(run.texts) >= _JOIN_AT:
                self._join(run)
                run = None
            if self._size + cost > self._leased and not self._lease(cost):
                self._drop(call)
                run = None
            elif type(run) is OpenRun and run.kind == kind and run.block == block:
                self._size += cost
                run.size += cost
                run.counted += 1
                run.texts.append(text)
            else:
                self._close_run(call.ordinal)
                self._size += cost
                run = OpenRun(kind, call, index, [text], cost, self._lock, block=block, counted=1)
                self._open[call.ordinal] = run
                self._items.append(run)
            if run is not None and room:
                self._give_room(run, room)
        if was_empty:
            self._wake()
        return run

    def put(self, record: Record, call: Call | None) -> None:
        """Add a record, in most cases one that is not text.

        Args:
            record: The record.
            call: The call it belongs to: text of the call that follows is not joined to text before. None
                for what happens around the calls.
        """
        cost = record_bytes(record)
        with self._lock:
            self._received += 1
            if self._closed:
                return
            was_empty = not self._items
            if self._size + cost <= self._leased or self._lease(cost):
                self._size += cost
                kept: _Kept | None = _Kept(record, cost)
            else:
                kept = self._reserved(record)
            if kept is None:
                self._drop(call, record.count if isinstance(record, TextRun) else 1)
            else:
                if call is not None:
                    self._close_run(call.ordinal)
                self._items.append(kept)
        if was_empty:
            self._wake()

    def hold(self, size: int) -> bool:
        """Count bytes that wait elsewhere; return whether there was room for them."""
        with self._lock:
            self._received += 1
            if self._closed:
                return False
            if self._size + size > self._leased and not self._lease(size):
                self._budget.count_dropped(1)
                return False
            self._size += size
            return True

    def unhold(self, size: int) -> None:
        """Count them no more."""
        with self._lock:
            if not self._closed:
                self._release(size)

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
                if isinstance(item, OpenRun):
                    self._close(item)
                elif isinstance(item, _Kept):
                    self._give_back(item.reserved)
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
        """Give all memory back and ignore what is put from now on."""
        with self._lock:
            self._closed = True
            self._give_back(sum(item.reserved for item in self._items if isinstance(item, _Kept)))
            self._items.clear()
            for ordinal in list(self._open):
                self._close_run(ordinal)
            self._budget.refund(self._leased)
            self._size = self._taken = self._leased = self._unplaced = 0

    def _lease(self, cost: int) -> bool:
        self._leased += (leased := self._budget.lease(cost))
        return bool(leased)

    def _reserved(self, record: Record) -> _Kept | None:
        """Keep what must not be dropped in the reserve, without what it carries."""
        if not isinstance(record, _STRUCTURAL) or len(self._items) >= _STRUCTURAL_BOUND:
            return None
        bare = _bare(record)
        cost = record_bytes(bare)
        return _Kept(bare, 0, cost) if self._budget.reserve(cost) else None

    def _give_back(self, reserved: int) -> None:
        if reserved:
            self._budget.give_back(reserved)

    def _release(self, size: int) -> None:
        self._size -= size
        spare = self._leased - self._size - LEASE_BYTES
        if spare > 0:
            self._leased -= spare
            self._budget.refund(spare)

    def _drop(self, call: Call | None, missing: int = 1) -> None:
        self._budget.count_dropped(missing)
        ordinal = _NO_ORDINAL if call is None else call.ordinal
        hole = self._open.get(ordinal)
        if isinstance(hole, _Hole):
            hole.missing += missing
        elif len(self._items) < _STRUCTURAL_BOUND:
            self._close_run(ordinal)
            self._open[ordinal] = hole = _Hole(call, missing)
            self._items.append(hole)
        else:
            self._unplaced += missing

    # ------------------------------------------------------------------ runs

    def _give_room(self, run: OpenRun, room: int) -> None:
        """Let the thread of a call use bytes that are leased already, without the lock."""
        left = max(run.room, 0)
        more = min(room - left, self._leased - self._size)
        if more > 0:
            self._size += more
            run.size += more
            run.room = left + more

    def _close_run(self, ordinal: int) -> None:
        """Let no more text be added where the newest of a call is."""
        if isinstance(run := self._open.pop(ordinal, None), OpenRun):
            self._close(run)

    def _close(self, run: OpenRun) -> None:
        if run.is_closed:
            return
        run.is_closed = True  # before its pieces are counted: see `late_pieces`
        run.taken = len(run.texts)
        self._received += run.taken - run.counted
        unused, run.room = max(run.room, 0), -1
        run.size -= unused
        self._release(unused)

    def _join(self, run: OpenRun) -> None:
        """Shrink a long run to its characters. Lossless: only the token boundaries go."""
        self._close_run(run.call.ordinal)
        text = "".join(run.texts[: run.taken])
        size = RECORD_BYTES + text_bytes(text)
        if size < run.size:  # not where long texts hold a rare character that makes the whole wider
            run.joined, run.count = text, run.taken
            del run.texts[: run.taken]
            run.taken = 0
            self._release(run.size - size)
            run.size = size


def _finished(item: OpenRun | _Hole | _Kept) -> Record:
    if isinstance(item, _Kept):
        return item.record
    if isinstance(item, _Hole):
        return Gap(missing=item.missing, reason="overflow", call=item.call)
    ordinal, first = item.call.ordinal, item.first_index
    if item.joined is not None:
        return TextRun(item.kind, ordinal, first, [item.joined], item.count, item.block)
    return TextRun(item.kind, ordinal, first, item.texts[: item.taken], item.taken, item.block)


def _bare(record: Record) -> Record:
    """Return a start or an end without what it carries; a part that was cut is marked as it usually is."""
    match record:
        case CallStarted(call=call):
            return CallStarted(call=replace(call, tags=(), metadata=None))
        case CallEnded():
            return replace(record, additional_kwargs=None)
        case ToolStarted(input=str()) | RetrieverStarted(input=str()):
            return replace(record, input=None, truncated=True)
        case ToolEnded(output=str()):
            return replace(record, output=None, truncated=True)
        case NodeEnded() | RetrieverEnded() if record.output is not None:
            return replace(record, output=None, truncated=True)
        case _:
            return record
