"""The newest frames of an attempt as one more heartbeat detail, behind the user's own. Pure: no I/O.

Temporal keeps the details of the last heartbeat only, and shows them in the description of the workflow. So
each heartbeat carries the newest frames again: a reader that missed some heartbeats finds them in the next.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from temporal_token_interceptor.protocol.frame_lists import lengthened, shortened

MARK: Final = "token_stream_live"
"""The only member of our detail; its value is a list of frames."""

RING_BYTES: Final = 64 * 1024
"""Of our detail, as JSON. Temporal refuses heartbeats of 2 MiB; each is stored once and sent to readers."""

_AROUND = len(MARK) + len('{"":[]}')


class Ring:
    """The newest frames of one attempt, as many as fit.

    Args:
        limit: Bytes of the detail, as ASCII JSON, at most.
    """

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._room = limit - _AROUND
        self._frames: deque[tuple[dict[str, Any], int]] = deque()  # whole, with the size without the header
        self._size = 0  # of all, each without its header

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Add a frame, which has a header; older ones make room. False: it is too large by itself.

        A reader then sees by the numbers of the frames that one is missing.
        """
        body = json.loads(frame)
        if _size(body) > self._room:
            return False
        size = _size(shortened(body, body)) + 1
        self._frames.append((body, size))
        self._size += size
        while self._size + self._header_size() > self._room:
            self._size -= self._frames.popleft()[1]
        return True

    def detail(self) -> dict[str, Any]:
        """Return the detail: the oldest frame whole, the others without what they share with it."""
        first = self._frames[0][0] if self._frames else None
        rest = (shortened(body, first) for body, _ in list(self._frames)[1:])
        return {MARK: [] if first is None else [first, *rest]}

    def _header_size(self) -> int:
        body, size = self._frames[0]
        return _size(body) + 1 - size


def frames_in(detail: object) -> Iterator[bytes]:
    """Yield the frames of our detail, oldest first, as entries of a stream; none of any other value."""
    if is_ours(detail):
        yield from lengthened(detail[MARK])  # type: ignore[index]


def is_ours(detail: object) -> bool:
    """Whether a heartbeat detail is the one that this package has added."""
    return isinstance(detail, dict) and len(detail) == 1 and isinstance(detail.get(MARK), list)


def without_ours(details: Sequence[Any]) -> Sequence[Any]:
    """Return the user's own heartbeat details: all, where the last is not ours."""
    return details[:-1] if details and is_ours(details[-1]) else details


def _size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":")))
