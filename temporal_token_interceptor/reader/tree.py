"""A workflow and all that it starts, as one stream: children, their children, and what those go on in.

Each workflow of the tree costs a subscription, and one long poll to its history, which names the children as
they start. The tree ends with its root: what the others have said by then is read, and no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any

from temporal_token_interceptor._tasks import joined, started, stopping
from temporal_token_interceptor.errors import InvalidCursor, TokenStreamError
from temporal_token_interceptor.events import AttemptStarted, Event, Gap, Origin, RunContinued, StreamEnded
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.positions import key_of, packed
from temporal_token_interceptor.reader.merge import Merge, Over
from temporal_token_interceptor.reader.namespaces import ReadsIn
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.short_cursors import ShortCursors
from temporal_token_interceptor.reader.temporal.children import ChildEnded, ChildStarted, RunEnded
from temporal_token_interceptor.reader.workflow_stream import cut_error

logger = logging.getLogger(__name__)

# So many workflows of a tree are followed at the same time; others wait until one is over.
_AT_ONCE = 500

# In a cursor, beside the places: the run that the tree began with. It is no key of a workflow.
_FIRST = ""


class _Workflow:
    """One workflow of the tree.

    Attributes:
        child: How it was started; the root as if it were a child.
        parent: The id of the workflow that started it; None for the root.
        place: Behind its last event; a run alone once it has ended there.
        skips: Whether what is there already is left out.
        has_closed: Whether its parent's history says that it has closed: its stream ends by itself.
        is_missed: Whether a gap was reported because it, or what it starts, cannot be read.
        stop: Ends its stream otherwise.
        origins: Those of its events, with the parent, by attempt.
    """

    def __init__(self, child: ChildStarted, parent: str | None, place: str, *, skips: bool) -> None:
        self.child = child
        self.parent = parent
        self.place = place
        self.skips = skips
        self.has_closed = self.is_missed = False
        self.stop: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.watching: asyncio.Task[None] | None = None
        self.origins: dict[str, Origin] = {}

    @property
    def key(self) -> str:
        return key_of(self.child.namespace, self.child.workflow_id, self.child.run_id)

    @property
    def has_ended(self) -> bool:
        return bool(self.place) and "~" not in self.place

    def attributed(self, event: Event) -> Event:
        """Return an event with the parent in its origins."""
        if self.parent is None or event.origin is None:
            return event
        if isinstance(event, AttemptStarted):
            return replace(
                event,
                origin=self._with_parent(event.origin),
                supersedes=event.supersedes and self._with_parent(event.supersedes),
                superseded_by=event.superseded_by and self._with_parent(event.superseded_by),
            )
        return replace(event, origin=self._with_parent(event.origin))

    def _with_parent(self, origin: Origin) -> Origin:
        known = self.origins.get(origin.attempt_id)
        if known is None:
            known = self.origins[origin.attempt_id] = replace(origin, parent=self.parent)
        return known


class WorkflowTree(AsyncGenerator[Event, None]):
    """The events of a workflow and of all that it starts; made by `subscribe(workflow_id, children=True)`.

    An event's own `cursor` is one of its workflow alone. `cursor` of the tree has the places of all.
    """

    def __init__(
        self,
        request: ReadRequest,
        namespace: str,
        reads_in: ReadsIn,
        source: object,
        cursor: str | None,
    ) -> None:
        self._request = request
        self._namespace = namespace
        self._reads_in = reads_in
        reads_in(namespace)  # without a client, it is refused here
        self._cursors = ShortCursors(cursor, source)
        self._resumed: dict[str, str] = {}  # of the cursor, by key: until the workflow is found again
        self._is_resumed = bool(cursor)
        self._first_run = ""
        self._workflows: dict[str, _Workflow] = {}  # by key
        self._waiting: deque[_Workflow] = deque()
        self._merge = Merge()
        self._final: asyncio.Future[None] | None = None  # done once the root has ended
        self._end: StreamEnded | None = None
        self._until: asyncio.Future[object] | None = None
        self._is_stopped = self._is_cut = False
        self._gaps: deque[Gap] = deque()
        self._events = self._read()

    # ------------------------------------------------------------------ as a generator

    async def asend(self, value: None) -> Event:
        """Return the next event.

        Raises:
            TokenStreamError: a wait before was cancelled, which ended the tree.
        """
        if self._is_cut:
            raise cut_error()
        try:
            return await self._events.asend(value)
        except asyncio.CancelledError:
            self._is_cut = True
            raise

    async def athrow(
        self, typ: Any, val: BaseException | object = None, tb: TracebackType | None = None
    ) -> Event:
        """Raise an exception where the tree waits."""
        return await self._events.athrow(typ, val, tb)

    async def aclose(self) -> None:
        """Read no more; all streams are closed then."""
        await self._events.aclose()

    # ------------------------------------------------------------------ the place

    @property
    def cursor(self) -> str:
        """Resumes right after the last event, in each workflow of the tree; empty before the root was found.

        It has all places in itself, some 40 characters for each workflow.
        """
        if not self._first_run:
            return ""
        places = {key: workflow.place for key, workflow in self._workflows.items() if workflow.place}
        return packed(self._resumed | places | {_FIRST: self._first_run})

    async def short_cursor(self) -> str:
        """Return a cursor of at most 200 characters; see `ManyWorkflows.short_cursor`."""
        return await self.shortened(self.cursor)

    async def shortened(self, cursor: str) -> str:
        """Return the short form of a cursor of this tree; see `short_cursor`."""
        return await self._cursors.shortened(cursor)

    # ------------------------------------------------------------------ reading

    async def _read(self) -> AsyncGenerator[Event]:
        await self._cursors.load()
        self._resumed.update(self._cursors.places)
        self._final = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as exits:
            self._until = await exits.enter_async_context(stopping(self._request.until))
            request = replace(self._request, until=self._until)
            first = self._begun() or await self._reads_in(self._namespace).first_run(request)
            if first is None:
                yield StreamEnded(status="unknown")
                return
            self._first_run = first
            exits.push_async_callback(self._close)
            root = ChildStarted(self._namespace, request.workflow_id, first, 0)
            root_key = self._add(root, None, skips=request.skips and not self._is_resumed)
            while (came := await self._merge.next(self._is_complete)) is not None:
                key, event = came
                shown = self._taken(self._workflows[key], event, is_root=key == root_key)
                self._fill()
                if shown is not None:
                    yield shown
            while self._gaps:
                yield self._gaps.popleft()
            if self._end is not None:
                self._workflows[root_key].place = self._end.cursor
                yield self._end

    def _begun(self) -> str:
        """Return the run that the tree of the cursor began with; empty without a cursor."""
        first = self._resumed.pop(_FIRST, "")
        if self._is_resumed and not first:
            raise InvalidCursor(
                "the cursor is not one of a tree: pass what its `.cursor` or `.short_cursor()` returned"
            )
        return first

    def _taken(self, workflow: _Workflow, event: Event | Over, *, is_root: bool) -> Event | None:
        """Note an event; return what is shown of it."""
        if isinstance(event, Over):
            if event.error is None:
                return None
            if is_root or not isinstance(event.error, TokenStreamError):
                raise event.error
            return self._missed(workflow, event.error)
        match event:
            case StreamEnded() if is_root:
                self._end = event
                if self._final is not None:
                    self._final.set_result(None)
                return None
            case StreamEnded():
                if event.status != "unknown":
                    workflow.place = Cursor.parse(event.cursor).run_id
                return None
            case RunContinued() if not is_root:
                workflow.place = event.cursor
                return None
            case _:
                workflow.place = event.cursor
                return workflow.attributed(event)

    def _missed(self, workflow: _Workflow, error: Exception) -> Gap | None:
        """Return the gap where a workflow of the tree, or what it starts, cannot be read; once for each."""
        if workflow.is_missed:
            return None
        workflow.is_missed = True
        logger.warning(
            "workflow %r in namespace %r, which is a part of the tree of %r, cannot be read: %s",
            workflow.child.workflow_id,
            workflow.child.namespace,
            self._request.workflow_id,
            error,
        )
        return Gap(missing=None, reason="transport", cursor=workflow.place if "~" in workflow.place else "")

    # ------------------------------------------------------------------ the tree

    def _add(self, child: ChildStarted, parent: str | None, *, skips: bool) -> str:
        key = key_of(child.namespace, child.workflow_id, child.run_id)
        if key not in self._workflows:  # after a reset, a history names children again
            place = self._resumed.pop(key, "")
            self._workflows[key] = workflow = _Workflow(child, parent, place, skips=skips and not place)
            self._waiting.append(workflow)
            self._fill()
        return key

    def _fill(self) -> None:
        """Begin to follow workflows that wait, as many as may be followed at once."""
        while self._waiting and len(self._merge) < _AT_ONCE:
            workflow = self._waiting.popleft()
            child = workflow.child
            workflow.watching = started(
                self._watch(workflow), f"token-stream children of {child.workflow_id}"
            )
            workflow.watching.add_done_callback(self._wake)
            if workflow.has_ended:
                continue
            request = replace(
                self._request,
                workflow_id=child.workflow_id,
                run_id=child.run_id,
                place=Cursor.parse(workflow.place) if workflow.place else None,
                start="now" if workflow.skips else "beginning",
                until=self._until if workflow.parent is None else workflow.stop,
                start_timeout=timedelta(0),
            )
            self._merge.add(workflow.key, self._reads_in(child.namespace).batches(request))

    async def _watch(self, workflow: _Workflow) -> None:
        """Add the children that a workflow starts, until it has closed or the tree ends."""
        child, final = workflow.child, self._final
        assert final is not None  # noqa: S101 - the tree is read
        reads = self._reads_in(child.namespace)
        try:
            known = await reads.history_length(child.workflow_id, child.run_id) if workflow.skips else 0
            async with aclosing(reads.children(child.workflow_id, child.run_id, final)) as starts:
                async for start in starts:
                    match start:
                        case ChildStarted():
                            self._add(start, child.workflow_id, skips=start.event_id <= known)
                        case ChildEnded(ended):
                            self._workflows[
                                self._add(ended, child.workflow_id, skips=False)
                            ].has_closed = True
                        case RunEnded():
                            known = 0  # event ids begin again
        except TokenStreamError as error:
            if (gap := self._missed(workflow, error)) is not None:
                self._gaps.append(gap)

    def _is_complete(self) -> bool:
        """Whether no workflow can be added any more; then, end those that Temporal has not closed."""
        if self._end is None or self._waiting:
            return False
        watching = [
            workflow.watching for workflow in self._workflows.values() if workflow.watching is not None
        ]
        if not all(task.done() for task in watching):
            return False
        if not self._is_stopped:
            self._is_stopped = True
            for task in watching:
                task.result()  # raises what is a defect of ours
            for workflow in self._workflows.values():
                if not workflow.has_closed:
                    workflow.stop.set_result(None)
        return True

    def _wake(self, _: object) -> None:
        self._merge.wake()

    async def _close(self) -> None:
        # All at once, and first: one that went on would add what its workflow starts.
        watching = [one.watching for one in self._workflows.values() if one.watching is not None]
        for task in watching:
            task.cancel()
        try:
            await self._merge.close()
        finally:
            for task in watching:
                await joined(task)
