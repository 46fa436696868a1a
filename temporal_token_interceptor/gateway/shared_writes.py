"""What a hub's clients are written alike is encoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from temporal_token_interceptor.gateway.encoder import NativeEvents
from temporal_token_interceptor.views.changes import Change

_KEPT = 8  # writes: clients that are about as quick as each other take the same one


class _Write(NamedTuple):
    key: tuple[type[NativeEvents], str]
    first: Change
    last: Change
    chunk: bytes


class SharedWrites:
    """The last writes of one hub. Changes of a hub between two that are the same are the same."""

    def __init__(self) -> None:
        self._kept: deque[_Write] = deque(maxlen=_KEPT)

    def encode(self, encoder: NativeEvents, changes: Sequence[Change]) -> bytes:
        """Return changes encoded: neighbours of one hub, none left out."""
        first, last = changes[0], changes[-1]
        for write in self._kept:
            # The same objects, and not such that are equal: these have a place in the hub's order.
            if write.last is last and write.first is first and write.key == encoder.key:
                return write.chunk
        chunk = encoder.encode(changes)
        self._kept.appendleft(_Write(encoder.key, first, last, chunk))
        return chunk
