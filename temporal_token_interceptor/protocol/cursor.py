"""Cursors: a place in a stream, as one opaque string."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.events.origin import HISTORY, LIVE

CURSOR_VERSION = 1
"""The version of the form of cursors; frames have their own (`FRAME_VERSION`)."""


MAX_CURSOR = 128
"""Characters of a cursor, at most."""

SEPARATOR: Final = "."
"""Between the two places of a reader; no entry id has it."""


class Position:
    """Where an event stands within its entry; `docs/protocol.md`, section *Cursors*.

    The first two are kept for what a reader adds, so that the positions of what a writer sent do not depend
    on what this reader had seen before.
    """

    BEFORE: Final = -1  # before all that an entry holds
    STARTED: Final = 0  # the `AttemptStarted` that a reader adds
    GAP: Final = 1  # the `Gap` that a reader adds
    FIRST: Final = 2  # what the writer sent begins here
    LAST_RELEASED: Final = 998_000_000  # `on_retry="hold"` counts backwards from here
    READ: Final = 998_999_999  # behind all that an entry holds
    TAIL: Final = 999_000_000  # what a reader adds at the end of the stream begins here
    END: Final = 999_999_999  # behind that, too


class Cursor(NamedTuple):
    """A place in a stream: resuming continues with the event right after it.

    A run is read in two places, a transport and Temporal's history, and a reader stands in both. `entry` has
    the id of the entry that was read last, behind that of the other place, if something was read there:
    `b`, `h7`, `b.h7`, `h7.b`; empty is before the first. Heartbeats are a place, too: `L5`, `b.L5`.
    `position` counts the events that it unfolds into.
    """

    run_id: str
    entry: str = ""
    position: int = 0

    @property
    def transport(self) -> str:
        """The entry of the transport that was read last; empty for none."""
        parts = self.entry.split(SEPARATOR)
        return next((part for part in parts if not part.startswith((HISTORY, LIVE))), "")

    @property
    def live(self) -> str:
        """The frame that was read last in a heartbeat; empty for none, and for what came after them."""
        return next((part for part in self.entry.split(SEPARATOR) if part.startswith(LIVE)), "")

    @property
    def history(self) -> str:
        """The entry of the history that was read last; empty for none."""
        return next((part for part in self.entry.split(SEPARATOR) if part.startswith(HISTORY)), "")

    @property
    def is_from_history(self) -> bool:
        """Whether the event came from the history."""
        return self.entry.rpartition(SEPARATOR)[2].startswith(HISTORY)

    @property
    def is_from_live(self) -> bool:
        """Whether the event came from a heartbeat."""
        return self.entry.rpartition(SEPARATOR)[2].startswith(LIVE)

    def __str__(self) -> str:
        """Return the opaque form that events carry and `subscribe(cursor=...)` accepts."""
        return f"{self.prefix(self.run_id)}{self.entry}~{self.position}"

    @staticmethod
    def prefix(run_id: str) -> str:
        """Return what all cursors of a run begin with: `<entry>~<position>` follows."""
        return f"{CURSOR_VERSION}~{run_id}~"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor back.

        Raises:
            InvalidCursor: `text` was not handed out by this package.
        """
        match = _CURSOR.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_CURSOR else None
        if match is None:
            shown = repr(text) if isinstance(text, str) and len(text) <= MAX_CURSOR else type(text).__name__
            raise InvalidCursor(
                f"cursor {shown} is not one of ours: pass the `.cursor` of an event, unchanged, "
                "or none to read from the start"
            )
        return cls(match["run"], match["entry"], int(match["position"]))


def position_of(cursor: str) -> int:
    """Return the position in its entry that a cursor of ours names."""
    return int(cursor.rpartition("~")[2])


# Only what stands in a URL as it is: ids of entries, and of runs, are letters, digits, `-` and `_`. Those of
# the history and of heartbeats have forms of their own, as no transport has; of each there is at most one.
_ID = "[A-Za-z0-9_-]"
_HELD = rf"{HISTORY}[0-9]{{15}}(?:-[0-9]{{4,9}})?"
_SEEN = rf"{LIVE}[0-9]{{24}}"  # in a heartbeat: when its attempt began, and its number
_STORED = rf"(?![{HISTORY}{LIVE}]){_ID}+"
_BESIDE = rf"{_STORED}(?:\.(?:{_HELD}|{_SEEN}))?"
_ENTRY = rf"(?:{_BESIDE}|{_HELD}(?:\.(?:{_STORED}|{_SEEN})?)?|{_SEEN}(?:\.(?:{_STORED}|{_HELD}))?)?"
_CURSOR = re.compile(rf"{CURSOR_VERSION}~(?P<run>{_ID}+)~(?P<entry>{_ENTRY})~(?P<position>[0-9]{{1,9}})")
