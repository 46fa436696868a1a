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
    """Server-sent events: `event` is the change's `op`, `data` the change, `id` the cursor of a write.

    Args:
        workflow: Named in each event, for a connection that has several; its events have no `id` then.

    Attributes:
        key: What decides, beside the changes, what is written: an encoder has no state.
    """

    media_type = "text/event-stream"
    name = "sse"

    def __init__(self, workflow: str = "") -> None:
        self._workflow = workflow
        self.key = type(self), workflow

    def begin(self) -> bytes:
        """Return the time after which a browser comes again, and a comment."""
        return b"retry: 1000\n: open\n\n"

    def late(self, view: View, cursor: str) -> bytes:
        """Return one event `snapshot`, which replaces everything."""
        return self.write("snapshot", view.to_json(), cursor)

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return an event for each change; neighbouring growths of one text are one."""
        few = coalesced(changes)
        last = max((place for place, change in enumerate(few) if change.cursor), default=-1)
        return b"".join(
            self.write(change.op, _without_op(change), change.cursor if place == last else "")
            for place, change in enumerate(few)
        )

    def ping(self) -> bytes:
        """Return a comment."""
        return b": ping\n\n"

    def reconnect(self, after: int, reason: str) -> bytes:
        """Return the time to wait, for a browser, and the event, for `tti.js`."""
        return f"retry: {after}\n".encode() + _sse("reconnect", {"after": after, "reason": reason}, "")

    def problem(self, status: int, detail: str) -> bytes:
        """Return an event `problem`; a browser comes again after a minute."""
        problem = self.write("problem", {"status": status, "detail": detail}, "")
        return problem if self._workflow else b"retry: 60000\n" + problem

    def place(self, cursors: Sequence[str]) -> bytes:
        """Return the cursors of a connection that has several workflows: an `id` and nothing else."""
        return f"id: {joined_cursors(cursors)}\n\n".encode("ascii")

    def write(self, name: str, data: dict[str, Any], cursor: str) -> bytes:
        """Return one event."""
        if self._workflow:
            return _sse(name, {"workflow": self._workflow} | data, "")
        return _sse(name, data, cursor)


class NativeLines(NativeEvents):
    """The same, an object in JSON on each line: its `op`, and on the last of a write the `cursor`."""

    media_type = "application/x-ndjson"
    name = "ndjson"

    def begin(self) -> bytes:
        """Return a `ping`: some proxies hold back headers until something follows."""
        return self.ping()

    def ping(self) -> bytes:
        """Return a `ping`, which changes nothing."""
        return b'{"op":"ping"}\n'

    def reconnect(self, after: int, reason: str) -> bytes:
        """Return the request to come again."""
        return _line("reconnect", {"after": after, "reason": reason}, "")

    def problem(self, status: int, detail: str) -> bytes:
        """Return the problem."""
        return self.write("problem", {"status": status, "detail": detail}, "")

    def write(self, name: str, data: dict[str, Any], cursor: str) -> bytes:
        """Return one line, with its own cursor also where there are several workflows."""
        tagged = {"workflow": self._workflow} | data if self._workflow else data
        return _line(name, tagged, cursor)


def joined_cursors(cursors: Sequence[str]) -> str:
    """Return one cursor for several workflows, in their order; those that have none yet are empty."""
    return _BETWEEN.join(cursors)


def split_cursors(joined: str, number: int) -> list[str]:
    """Return the cursors of so many workflows; none where they are for another number of them."""
    cursors = joined.split(_BETWEEN)
    return cursors if len(cursors) == number else [""] * number


_BETWEEN = ";"  # no cursor has it


def json_text(value: Any) -> str:
    """Return JSON in ASCII: half a character, which a token may be, has no other form."""
    return json.dumps(value, separators=(",", ":"))


def _without_op(change: Change) -> dict[str, Any]:
    value = change.to_json()
    del value["op"]
    return value


def _sse(name: str, data: Any, cursor: str) -> bytes:
    place = f"id: {cursor}\n" if cursor else ""
    return f"event: {name}\n{place}data: {json_text(data)}\n\n".encode("ascii")


def _line(name: str, data: dict[str, Any], cursor: str) -> bytes:
    place = {"cursor": cursor} if cursor else {}
    return f"{json_text({'op': name} | data | place)}\n".encode("ascii")
