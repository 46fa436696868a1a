"""What a gateway measures: its connections by format, what they are written, and what is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from temporal_token_interceptor.protocol.cursor import SEPARATOR
from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.instruments import Instruments, live_instruments


class GatewayTelemetry:
    """What one connection reports; nothing without an OpenTelemetry SDK. No ids are attributes.

    Args:
        format_name: The format of the stream.
    """

    def __init__(self, format_name: str) -> None:
        self._instruments: Instruments | None = live_instruments()
        self._format = {names.GATEWAY_FORMAT: format_name}
        self._began = time.time() * 1_000
        self._measured: dict[int, str] = {}

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count the connection while it lives."""
        if self._instruments is None:
            yield
            return
        count = self._instruments[names.GATEWAY_CONNECTIONS]
        count(1, self._format)
        try:
            yield
        finally:
            count(-1, self._format)

    def written(self, size: int, cursors: Iterable[str]) -> None:
        """Note a write, and the cursors of what was in it."""
        if self._instruments is None:
            return
        self._instruments[names.GATEWAY_BYTES](size, self._format)
        now = time.time() * 1_000
        for place, cursor in enumerate(cursors):
            if cursor and self._measured.get(place) != cursor:
                self._measured[place] = cursor
                stored = _stored_at(cursor)
                if stored is not None and stored >= self._began:
                    self._instruments[names.GATEWAY_DELAY](max(0.0, now - stored) / 1_000, self._format)

    def resynchronized(self) -> None:
        """Note that a client was given the state in place of what it missed."""
        if self._instruments is not None:
            self._instruments[names.GATEWAY_RESYNCS](1, self._format)

    def refused(self, status: int) -> None:
        """Note that a stream was refused, or cut off."""
        if self._instruments is not None:
            attributes = self._format | {names.GATEWAY_REFUSAL: str(status)}
            self._instruments[names.GATEWAY_REFUSALS](1, attributes)


def _stored_at(cursor: str) -> int | None:
    """Return when a cursor's entry was stored, in milliseconds since 1970; None if its id has no time."""
    entry = cursor.split("~")[2] if cursor.count("~") == 3 else ""
    match = _REDIS_ID.fullmatch(entry.rpartition(SEPARATOR)[2])
    return int(match[1]) if match else None


_REDIS_ID = re.compile(r"([0-9]{1,16})-[0-9]+")
