"""Where captured records go, as far as the code that captures them is concerned."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from temporal_token_interceptor.events import Call, Record, TextKind


@dataclass(slots=True)
class OpenRun:
    """A `TextRun` that still grows: its buffer adds to it, and, within its room, the thread of its call.

    Attributes:
        size: What it costs in memory, its room included.
        lock: Of its buffer.
        joined: All its pieces, of a long run, in place of `texts`.
        count: How many pieces were joined.
        room: Bytes that the thread of the call may use without the lock; none at the end.
        is_closed: Whether it is handed out, or followed by something else of the call: nothing may be added.
        block: Which of the call's blocks of this kind it is part of.
        taken: With how many pieces it was closed.
        counted: How many of its pieces the buffer has counted as received.
    """

    kind: TextKind
    call: Call
    first_index: int
    texts: list[str]
    size: int
    lock: threading.Lock
    joined: str | None = None
    count: int = 0
    room: int = -1
    block: int = 0
    is_closed: bool = False
    taken: int = 0
    counted: int = 0

    def late_pieces(self) -> list[str]:
        """Take out the pieces that were added after it was closed.

        A thread adds a piece, then looks at `is_closed`; the buffer sets that, then counts the pieces. So
        each piece was either counted, or is found here.
        """
        with self.lock:
            late = self.texts[self.taken :]
            del self.texts[self.taken :]
            return late


class Outlet(Protocol):
    """Where captured records go: a `Buffer`, or what stands before one."""

    def put_text(
        self, call: Call, kind: TextKind, index: int, text: str, *, block: int = 0, room: int = 0
    ) -> OpenRun | None:
        """Add one chunk of text.

        Args:
            call: The call.
            kind: Answer or reasoning.
            index: Its position among those of this kind.
            text: The chunk.
            block: The number of its block, of those of this kind.
            room: So many bytes the run may be given for chunks that its thread adds by itself.

        Returns:
            The run that it was added to; None: it was held, dropped or ignored.
        """

    def put(self, record: Record, call: Call | None) -> None:
        """Add a record; `call` is the one that it belongs to."""
