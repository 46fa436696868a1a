"""How much memory the buffers of a worker may hold together."""

from __future__ import annotations

import threading
from typing import Final

from temporal_token_interceptor._arguments import positive_number

LEASE_BYTES: Final = 16 * 1024
"""Of a block that a buffer takes."""

_RESERVE_BYTES = 4 * 1024 * 1024


class Budget:
    """How many bytes all buffers of a worker may hold together.

    Buffers take it in blocks, so that the one lock they share is touched once in many tokens.
    """

    def __init__(self, limit: int) -> None:
        self.limit = positive_number("max_buffered_bytes", limit, unit="bytes")
        self.leased = 0
        self.dropped = 0
        self.reserved = 0
        self._lock = threading.Lock()

    def lease(self, wanted: int) -> int:
        """Take a block, or just `wanted` bytes where no block is left; return what was taken, or 0."""
        with self._lock:
            for size in (max(wanted, LEASE_BYTES), wanted):
                if self.leased + size <= self.limit:
                    self.leased += size
                    return size
            return 0

    def refund(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.leased -= size

    def reserve(self, size: int) -> bool:
        """Take bytes of the 4 MiB beyond the limit, for starts and ends; return whether it had them."""
        with self._lock:
            if self.reserved + size > _RESERVE_BYTES:
                return False
            self.reserved += size
            return True

    def give_back(self, reserved: int) -> None:
        """Give bytes of the reserve back."""
        with self._lock:
            self.reserved -= reserved

    def count_dropped(self, tokens: int) -> None:
        """Count tokens that did not fit."""
        with self._lock:
            self.dropped += tokens

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Budget {self.leased}/{self.limit} bytes leased, {self.dropped} dropped>"
