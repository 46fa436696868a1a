"""What a format is: an object that turns one client's changes into bytes. And the native format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from temporal_token_interceptor.views.changes import Change, View, coalesced


class Encoder(Protocol):
    """Encodes the changes of one client, in their order; made for each connection. Pure: no clock, no I/O.

    A client that falls behind is given `late` in place of what it missed, at any time: a format that cannot
    take back what it showed has to be read with `on_retry="hold"`. An encoder that needs the state keeps a
    `View`.
    """

    media_type: str
    name: str  # of the format, for metrics

    def begin(self) -> bytes:
        """Return what is sent at once, so that proxies and clients see that the stream is open."""
        ...

    def late(self, view: View, cursor: str) -> bytes:
        """Return what shows a whole state, whatever was shown before; `cursor` resumes right after it."""
        ...

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return what shows changes that follow what was shown."""
        ...

    def ping(self) -> bytes:
        """Return what keeps a silent connection open."""
        ...

    def reconnect(self, after: int, reason: str) -> bytes:
        """Return what asks the client to come again after so many milliseconds; the stream closes then."""
        ...

    def problem(self, status: int, detail: str) -> bytes:
        """Return what reports that the stream cannot go on; it closes then. `status` is as of HTTP."""
        ...


class NativeEvents:
    """Server-sent events: `event` is the change's `op`, `data` the change, `id` the cursor of a write."""

    media_type = "text/event-stream"
    name = "sse"

    def begin(self) -> bytes:
        """Return the time after which a browser comes again, and a comment."""
        return b"retry: 1000\n: open\n\n"

    def late(self, view: View, cursor: str) -> bytes:
        """Return one event `snapshot`, which replaces everything."""
        return _event("snapshot", view.to_json(), cursor)

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return an event for each change; neighbouring growths of one text are one."""
        few = coalesced(changes)
        last = max((place for place, change in enumerate(few) if change.cursor), default=-1)
        return b"".join(
            _event(change.op, _without_op(change), change.cursor if place == last else "")
            for place, change in enumerate(few)
        )

    def ping(self) -> bytes:
        """Return a comment."""
        return b": ping\n\n"

    def reconnect(self, after: int, reason: str) -> bytes:
        """Return the time to wait, for a browser, and the event, for `tti.js`."""
        return f"retry: {after}\n".encode() + _event("reconnect", {"after": after, "reason": reason}, "")

    def problem(self, status: int, detail: str) -> bytes:
        """Return an event `problem`; a browser comes again after a minute."""
        return b"retry: 60000\n" + _event("problem", {"status": status, "detail": detail}, "")


def json_text(value: Any) -> str:
    """Return JSON in ASCII: half a character, which a token may be, has no other form."""
    return json.dumps(value, separators=(",", ":"))


def _without_op(change: Change) -> dict[str, Any]:
    value = change.to_json()
    del value["op"]
    return value


def _event(name: str, data: Any, cursor: str) -> bytes:
    place = f"id: {cursor}\n" if cursor else ""
    return f"event: {name}\n{place}data: {json_text(data)}\n\n".encode("ascii")
