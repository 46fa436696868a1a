"""Where captured records go, as far as the code that captures them is concerned."""

from __future__ import annotations

from typing import Protocol

from temporal_token_interceptor.events import Call, Record, TextKind


class Outlet(Protocol):
    """Where captured records go: a `Buffer`, or what stands before one."""

    def put_text(self, call: Call, kind: TextKind, index: int, text: str) -> None:
        """Add one chunk of text."""

    def put(self, record: Record, call: Call | None) -> None:
        """Add a record; `call` is the one that it belongs to."""
