"""HTTP/1.1 for `tti serve`: uvicorn's quick parser, with bounds for what comes before a request is whole."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Of a request line and its headers: as much as uvicorn's other parser, h11, takes."""

HEAD_SECONDS = 30.0
"""For these to come. Without the two a client could fill the memory, or keep connections that ask nothing."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers are too long, or too slow to come; uvicorn's has neither bound."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: int | None = 0  # bytes of it; None while a request is being answered
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing."""
        self._rest()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Expect the headers of the next request."""
        super().on_message_begin()
        self._head = 0
        self._expect()

    def on_headers_complete(self) -> None:
        """Let the request be answered: `Limits` has the bounds of its body and its stream."""
        super().on_headers_complete()
        self._head = None
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is too long after it, is refused."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)  # after it was parsed: a body may come with it
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too long.")

    def _expect(self) -> None:
        self._rest()
        self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
