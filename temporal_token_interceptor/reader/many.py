"""A changing set of workflows as one stream of events, with one cursor for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from temporal_token_interceptor._arguments import positive_number
from temporal_token_interceptor._tasks import joined, started, stopping
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event, StreamEnded
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.positions import key_of, packed
from temporal_token_interceptor.reader.feed import Feed, Found, RoundOver
from temporal_token_interceptor.reader.merge import Merge, Over
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.run_stream import Batches
from temporal_token_interceptor.reader.short_cursors import ShortCursors


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The stream of one workflow ended early; the others go on.

    Attributes:
        error: What `subscribe` would have raised.
        cursor: Of the last event that it had, for `subscribe` or `add`; empty if it had none.
    """

    error: Exception
    cursor: str


class ManyWorkflows:
    """Many workflows as one stream of `(workflow_id, event)`; for `async with`, made by `subscribe_many`.

    Each workflow's events are in order, and those of different workflows come as they come; none waits
    behind another that has more. Costs a task, and one long poll to Temporal in 20 seconds, for each workflow
    that is read; all share the two connections of the backend.
    """

    def __init__(
        self,
        template: ReadRequest,
        read: Callable[[ReadRequest], Batches],
        source: object,
        feed: Feed,
        *,
        cursor: str | None,
        at_once: int,
        keep_open: bool,
    ) -> None:
        self._template = template
        self._read = read
        self._feed = feed
        self._at_once = positive_number("at_once", at_once, unit="workflows")
        self._keep_open = keep_open
        self._cursors = ShortCursors(cursor, source)
        self._resumed: dict[str, str] = {}  # of the cursor, by key: until the workflow is added
        self._places: dict[str, str] = {}  # by workflow id; "" for none yet
        self._ended: dict[str, str] = {}  # the last run, by workflow id
        self._removed: set[str] = set()  # what a query may still find
        self._waiting: deque[ReadRequest] = deque()
        self._early: list[tuple[str, str | None, str | None]] = []  # added before the `async with`
        self._merge = Merge()
        self._exits = AsyncExitStack()
        self._stop: asyncio.Future[object] | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._is_left = False

    # ------------------------------------------------------------------ the set

    @property
    def workflows(self) -> frozenset[str]:
        """The workflows that are read, or wait to be: not those that have ended or failed."""
        return frozenset(self._merge) | {request.workflow_id for request in self._waiting}

    def add(self, workflow_id: str, run_id: str | None = None, cursor: str | None = None) -> None:
        """Read a workflow, too; one that is read already is left as it is.

        One whose stream failed goes on after its last event; one that has ended begins with its newest run.

        Args:
            workflow_id: The workflow; it may not have been started yet.
            run_id: The run to begin with; by default the newest.
            cursor: Of an event of this workflow: goes on right after it.

        Raises:
            InvalidCursor: at once.
            ConfigurationError: the `async with` was left; or the id is none.
        """
        if self._is_left:
            raise ConfigurationError("workflows cannot be added any more: the `async with` was left")
        if not isinstance(workflow_id, str) or not workflow_id:
            raise ConfigurationError(
                f"workflows are added by their ids, such as handle.id; not {workflow_id!r}"
            )
        self._removed.discard(workflow_id)
        if self._feeding is None:  # the places of the cursor are not known yet
            self._early.append((workflow_id, run_id, str(Cursor.parse(cursor)) if cursor else None))
            return
        if workflow_id in self._ended:
            self._merge.remove(workflow_id)  # its end was taken, and that it is over perhaps not yet
        if workflow_id in self.workflows:
            return
        resumed = self._resumed.pop(key_of(workflow_id), "")
        place = cursor or self._places.get(workflow_id) or resumed
        if place and "~" not in place:  # it had ended, in the reader that made the cursor
            self._ended[workflow_id] = place
            return
        request = replace(
            self._template,
            workflow_id=workflow_id,
            run_id=run_id,
            place=Cursor.parse(place) if place else None,
        )
        self._ended.pop(workflow_id, None)
        self._places[workflow_id] = place
        self._waiting.append(request)
        self._fill()

    def remove(self, workflow_id: str) -> None:
        """Read a workflow no more, and forget it: nothing of it comes after this, and no cursor has it.

        A query that goes on to find it does not bring it back; `add` does.
        """
        self._removed.add(workflow_id)
        self._places.pop(workflow_id, None)
        self._ended.pop(workflow_id, None)
        self._resumed.pop(key_of(workflow_id), None)
        self._early = [one for one in self._early if one[0] != workflow_id]
        self._waiting = deque(one for one in self._waiting if one.workflow_id != workflow_id)
        self._merge.remove(workflow_id)
        self._fill()

    # ------------------------------------------------------------------ the place

    @property
    def cursor(self) -> str:
        """Resumes right after the last event, for the same workflows and options: 40 characters each.

        It has all places in itself, is compressed, and an altered one is refused. `short_cursor` is shorter.
        """
        places = {key_of(workflow_id): place for workflow_id, place in self._places.items() if place}
        ended = {key_of(workflow_id): run for workflow_id, run in self._ended.items()}
        return packed(self._resumed | ended | places)

    async def short_cursor(self) -> str:
        """Return a cursor of at most 200 characters, for any number of workflows.

        Where `cursor` is longer, the backend keeps the places, as long as it keeps a stream, and this
        returns their name. Redis then needs the right `set` for the reader.

        Raises:
            ConfigurationError: the backend, or that there is none, keeps no places.
            TransportUnavailable: the backend was away for longer than its bound.
        """
        return await self._cursors.shortened(self.cursor)

    # ------------------------------------------------------------------ reading

    async def __aenter__(self) -> Self:
        await self._cursors.load()
        self._resumed.update(self._cursors.places)
        async with AsyncExitStack() as exits:
            self._stop = await exits.enter_async_context(stopping(self._template.until))
            if self._stop is not None:
                self._stop.add_done_callback(self._wake)
            self._feeding = started(self._take_from_feed(), "token-stream workflows")
            self._feeding.add_done_callback(self._wake)
            exits.push_async_callback(self._merge.close)
            exits.push_async_callback(joined, self._feeding)
            self._exits = exits.pop_all()
        for workflow in self._early:
            self.add(*workflow)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_left = True
        if self._stop is not None:
            self._stop.remove_done_callback(self._wake)
        await self._exits.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Event | StreamFailed]:
        if self._feeding is None or self._is_left:
            raise ConfigurationError("many workflows are read within `async with`")
        while True:
            self._fill()
            came = await self._merge.next(self._is_complete)
            if came is None:
                raise StopAsyncIteration
            workflow_id, event = came
            if not isinstance(event, Over):
                self._note(workflow_id, event)
                return workflow_id, event
            if event.error is not None:
                return workflow_id, StreamFailed(event.error, self._places.get(workflow_id, ""))

    def _note(self, workflow_id: str, event: Event) -> None:
        # With `until`, the end is one of the reading only.
        if isinstance(event, StreamEnded) and not (self._stop is not None and event.status == "unknown"):
            self._places.pop(workflow_id, None)
            self._ended[workflow_id] = Cursor.parse(event.cursor).run_id
        else:
            self._places[workflow_id] = event.cursor

    def _fill(self) -> None:
        """Begin with workflows that wait, as many as may be read at once."""
        while self._waiting and len(self._merge) < self._at_once:
            request = self._waiting.popleft()
            self._merge.add(request.workflow_id, self._read(replace(request, until=self._stop)))
        if not self._waiting:
            self._room.set()

    def _is_complete(self) -> bool:
        feeding = self._feeding
        if feeding is not None and feeding.done() and (error := feeding.exception()) is not None:
            raise error
        if self._stop is not None and self._stop.done():
            return True
        return feeding is not None and feeding.done() and not self._waiting and not self._keep_open

    def _wake(self, _: object) -> None:
        self._merge.wake()

    async def _take_from_feed(self) -> None:
        listed: set[str] = set()
        ended: set[str] = set(self._ended)
        async with aclosing(self._feed) as feed:
            async for one in feed:
                match one:
                    case RoundOver():
                        # What had ended before this round, and was not in it, is not found any more.
                        for workflow_id in ended - listed:
                            self._ended.pop(workflow_id, None)
                        self._removed &= listed
                        self._resumed.clear()
                        listed, ended = set(), set(self._ended)
                    case Found(workflow_id):
                        listed.add(workflow_id)
                        if self._is_new(one):
                            self.add(workflow_id)
                    case _:
                        self.add(one)
                if self._waiting:
                    self._room.clear()
                    await self._room.wait()

    def _is_new(self, found: Found) -> bool:
        """Whether a workflow that was found is not read yet: an ended one, only where it runs again."""
        if found.workflow_id in self._removed:
            return False
        last_run = self._ended.get(found.workflow_id)
        if last_run is None:
            return found.workflow_id not in self._places
        return found.is_running and found.run_id != last_run
