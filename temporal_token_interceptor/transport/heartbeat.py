"""The newest frames of an attempt as one more heartbeat detail, behind the user's own. Pure: no I/O.

Temporal keeps the details of the last heartbeat only, and shows them in the description of the workflow. So
each heartbeat carries the newest frames again: a reader that missed some heartbeats finds them in the next.

The first heartbeat of a retry replaces what the attempt before it has left. So a retry names in its own
detail the attempts before it, each by a first frame without records: a reader that was away meanwhile learns
whose text to take back.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import Frame
from temporal_token_interceptor.protocol.frame_lists import lengthened, shortened
from temporal_token_interceptor.protocol.frames import decode, encode

MARK: Final = "token_stream_live"
"""The only member of our detail; its value is a list of frames."""

RING_BYTES: Final = 64 * 1024
"""Of our detail, as JSON. Temporal refuses heartbeats of 2 MiB; each is stored once and sent to readers."""

MOST_NAMED: Final = 8
"""How many attempts before this one a detail names, at most: the newest."""

_AROUND = len(MARK) + len('{"":[]}')


class Ring:
    """The newest frames of one attempt, as many as fit.

    Args:
        limit: Bytes of the detail, as ASCII JSON, at most.
        before: Frames that name the attempts before this one: they stand first, and make no room.
    """

    def __init__(self, limit: int = RING_BYTES, before: Sequence[Frame] = ()) -> None:
        self._before = [json.loads(encode(frame)) for frame in before]
        self._room = limit - _AROUND - sum(_size(body) + 1 for body in self._before)
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
        return {MARK: [*self._before, *(() if first is None else (first, *rest))]}

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


def attempts_in(details: Sequence[Any], run_id: str, activity_id: str) -> tuple[Frame, ...]:
    """Return what names the attempts of an activity whose frames its heartbeat details hold, the newest few.

    Args:
        details: Of the last heartbeat, as a retry gets them.
        run_id: The run.
        activity_id: The activity.
    """
    found: dict[str, Frame] = {}
    for frame in frames_in(details[-1]) if details else ():
        try:
            origin = decode(frame).origin
        except ProtocolError:  # of a later version: its attempt stays unnamed
            continue
        if origin is not None and (origin.run_id, origin.activity_id) == (run_id, activity_id):
            found.setdefault(origin.attempt_id, Frame(origin, 0, (), header=True))
    return tuple(found.values())[-MOST_NAMED:]


def without_ours(details: Sequence[Any]) -> Sequence[Any]:
    """Return the user's own heartbeat details: all, where the last is not ours."""
    return details[:-1] if details and is_ours(details[-1]) else details


def _size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":")))
