"""Several frames of one attempt in one JSON array: what a frame shares with the one before is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

_SHARED: Final = ("v", "a")
_HEADER: Final = ("o", "c", "tp")


def shortened(body: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """Return a frame without its version, attempt and header, if the frame before is of the same attempt.

    Args:
        body: The frame, whole.
        before: The frame before it, whole; None for the first, which stays whole.
    """
    if before is None or any(body.get(name) != before.get(name) for name in _SHARED):
        return body
    return {name: value for name, value in body.items() if name not in _SHARED and name not in _HEADER}


def lengthened(frames: object) -> Iterator[bytes]:
    """Yield the frames of an array, each in the form of a stream's entry; what is no frame is left out.

    Version and attempt are those of the frame before where a frame has none.
    """
    shared: dict[str, Any] = {}
    for frame in frames if isinstance(frames, list) else ():
        body = frame
        if isinstance(frame, dict):
            shared = {name: frame.get(name, shared.get(name)) for name in _SHARED}
            body = {**{name: value for name, value in shared.items() if value is not None}, **frame}
        with suppress(ValueError, TypeError, RecursionError):
            yield json.dumps(body, separators=(",", ":")).encode()


def packed(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return frames of a stream as an array for JSON; headers stay where the attempt changes.

    Only for frames that a reader gets all, or from the first on: those after it lose their headers.
    """
    before: dict[str, Any] | None = None
    found: list[dict[str, Any]] = []
    for frame in frames:
        body = json.loads(frame)
        found.append(shortened(body, before))
        before = body
    return found
