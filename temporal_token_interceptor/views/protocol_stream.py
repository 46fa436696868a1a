"""A subscription as numbered protocol events, which a reader resumes by id or by number."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple, Self

from temporal_token_interceptor.events import Event
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.protocol_events import ProtocolEvent, ProtocolEvents
from temporal_token_interceptor.views.sequence import Sequence

PastOfRun = Callable[[str], AsyncGenerator[list[Event]]]
"""Given a run's id, says again what it said until now."""


class EventId(NamedTuple):
    """A place among protocol events; one event of ours is several of them.

    Attributes:
        cursor: Of the last event of ours that the reader has whole; empty for none.
        more: How many protocol events of the next one it has, too.
        seq: The number of the last one; None where it is not known.
    """

    cursor: str
    more: int = 0
    seq: int | None = None

    def __str__(self) -> str:
        """Return the opaque form that events carry as `event_id`."""
        return f"p{self.more}.{self.seq}.{self.cursor}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an `event_id`, or a cursor of ours.

        Raises:
            InvalidCursor: it is neither.
        """
        match = _EVENT_ID.fullmatch(text)
        place = cls(text) if match is None else cls(match[3], int(match[1]), int(match[2]))
        if match is None or place.cursor:
            Cursor.parse(place.cursor)
        return place


_EVENT_ID = re.compile(r"p([0-9]{1,9})\.([0-9]{1,16})\.(.*)", re.DOTALL)


async def protocol_events(
    events: AsyncGenerator[Event],
    past: PastOfRun,
    *,
    after: EventId | None,
    since: int | None,
) -> AsyncGenerator[ProtocolEvent]:
    """Iterate over a subscription's events as numbered protocol events.

    Args:
        events: The subscription; it begins behind the cursor of `after`, or at the start. Closed at the end.
        past: For `after`: what its run said before, which the events build on (numbers of blocks, texts).
        after: The last event that the reader has.
        since: The number of the last event that the reader has; those up to it are left out.

    Raises:
        WorkflowNotCompleted: at the end: it failed, was canceled or terminated, or timed out.
        TokensMissing: at the end: the workflow completed, but something that it said did not arrive.
    """
    numbered, ending = _Numbered(), Ending()
    async with aclosing(events):
        if after is not None:
            await numbered.resume(after, past)
        async for event in events:
            ending.note(event)
            if after is not None and event.cursor == after.cursor:
                continue  # the end, which each subscription has, and its reader has had
            for made in numbered.read(event):
                if since is None or made["seq"] > since:
                    yield made
    ending.check()


class _Numbered:
    """Numbers the protocol events of a stream."""

    def __init__(self) -> None:
        self._events = ProtocolEvents()
        self._sequence = Sequence()
        self._cursor = ""  # of the last event
        self._skipped = 0  # protocol events of the next one that the reader has

    def read(self, event: Event) -> list[ProtocolEvent]:
        """Return what an event adds, with its numbers."""
        skipped, self._skipped = self._skipped, 0
        made = self._events.read(event)[skipped:]
        self._sequence.reach(event.cursor)
        for place, one in enumerate(made, skipped + 1):
            one["seq"] = self._sequence.next()
            one["event_id"] = str(EventId(self._cursor, place, one["seq"]))
        if made:
            made[-1]["event_id"] = str(EventId(event.cursor, 0, made[-1]["seq"]))
        self._cursor = event.cursor
        return made

    async def resume(self, after: EventId, past: PastOfRun) -> None:
        """Go on behind a place.

        Where it is not stored any more, what comes builds on nothing before: a message that goes on there
        begins again.
        """
        if after.cursor and not await self._reach(after.cursor, past):
            self._events = ProtocolEvents()
            self._sequence = Sequence()
        if after.seq is not None:
            # As its reader has them: they may count what this one cannot see, such as a run before.
            self._sequence = Sequence(last=after.seq)
            self._sequence.reach(after.cursor)
        self._cursor, self._skipped = after.cursor, after.more

    async def _reach(self, cursor: str, past: PastOfRun) -> bool:
        """Read what the run said up to a place; whether it is there."""
        place = Cursor.parse(cursor)
        if not place.entry:
            return False  # where the run begins
        async with aclosing(past(place.run_id)) as batches:
            async for batch in batches:
                for event in batch:
                    self.read(event)
                    if event.cursor == cursor:
                        return True
        return False
