"""Reports that a reader has come to the end of what was stored when it began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import TokenSource

_PATIENCE: Final = 1.0
"""Seconds for the question how far that is: what waits for the answer may be a person."""


class CatchUp:
    """Knows how far a reader has to come, and reports once that it did.

    Args:
        report: Called then; None for no one.

    Attributes:
        is_over: Whether there is nothing to report any more.
    """

    def __init__(self, report: Callable[[], None] | None) -> None:
        self._report = report
        self._stored = ""
        self.is_over = report is None

    async def begin(self, source: TokenSource, stream: StreamKey) -> None:
        """Note the newest entry; none, where the transport does not answer soon: all it has is new then.

        Without this, the reader has caught up from the start.

        Raises:
            TransportUnavailable: the transport was away for too long.
        """
        if not self.is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    self._stored = await source.last_id(stream)

    def look(self, last: str) -> None:
        """Note that the entry `last` and all before it were delivered."""
        if self._report is not None and last >= self._stored:
            self.is_over = True
            self._report()
