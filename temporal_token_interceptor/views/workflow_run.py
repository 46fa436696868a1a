"""A workflow as LangGraph's run object: streams of its calls, tools, states and subgraphs, and its result.

One task reads the subscription, and only while a task waits for an item: a slow reader reads slowly, and does
not hold up another. What is not read is kept within a bound; past it the oldest is dropped, and reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from temporal_token_interceptor._tasks import joined
from temporal_token_interceptor.errors import ConfigurationError, TokensMissing, WorkflowNotCompleted
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Gap,
    Origin,
    RunContinued,
    StreamEnded,
)
from temporal_token_interceptor.views import sequence
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.projection import Projection
from temporal_token_interceptor.views.protocol_events import ProtocolEvents
from temporal_token_interceptor.views.run_calls import QueuedCall, Shared
from temporal_token_interceptor.views.run_scope import GraphRun
from temporal_token_interceptor.views.transformers import TransformerFactory

# How many events are read for one that was asked for: to switch tasks for each costs as much as all the rest.
_AHEAD = 64

TemporalEvent = AttemptStarted | AttemptEnded | RunContinued | Gap | StreamEnded


class WorkflowRun(GraphRun):
    """What a workflow says, by kind; for `async with`. Costs one task, which reads while a task waits.

    Each of the projections is for one reader; the readers may be tasks of their own. They end as
    `TokenSubscriber.messages` does: with an error, unless the workflow completed and nothing is missing.

    Attributes:
        temporal: Attempts, gaps, further runs and the end; never raises for what it reports.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event],
        result: Callable[[], Awaitable[Any]],
        *,
        transformers: Sequence[TransformerFactory] = (),
        subgraphs: bool = False,
    ) -> None:
        self._source = events
        self._result = result
        self._protocol = ProtocolEvents()
        self._sequence = sequence.Sequence()
        self._reading: asyncio.Task[None] | None = None
        self._hungry = asyncio.Event()
        self._advanced = asyncio.Event()
        self._ending = Ending()
        number = self._sequence.next
        super().__init__(Shared(self._more, self._feed, transformers, number, flat=subgraphs), ())
        self.temporal: Projection[TemporalEvent] = self._shared.projection()
        self._shown["temporal"] = self.temporal

    @property
    def output(self) -> Output:
        """The workflow's result, or the exception that its handle raises; asks Temporal alone.

        `await run.output` and, as in LangGraph, `await run.output()` are the same.
        """
        return Output(self._result)

    def queue_calls(self) -> None:
        """Have items of `messages` that threads can read: `QueuedCall`s. Before the run is entered."""
        self._shared.make_call = QueuedCall

    async def abort(self) -> None:
        """Stop to read, as leaving `async with` does."""
        try:
            if self._reading is not None:
                await joined(self._reading)
        finally:  # also where the task that leaves is cancelled: other tasks may be reading
            if not self._ended:
                left = ConfigurationError("the run was left: read it within its `async with`, or `with`")
                self._finish(left)
                await self._end(left)

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.abort()

    # ------------------------------------------------------------------ reading on demand

    async def _more(self) -> None:
        """Wait until one more event was read."""
        if self._reading is None:
            raise ConfigurationError("a run is read within `async with`, or `with`")
        if self._ended:
            raise self._error or ConfigurationError("the run has ended, and there is no more")
        advanced = self._advanced
        self._hungry.set()
        await advanced.wait()

    async def _feed(self) -> bool:
        """Do so on behalf of a call; whether there may be more."""
        if self._reading is None or self._reading.done():
            return False
        await self._more()
        return True

    async def _read(self) -> None:
        error: Exception | None = None
        ahead = await self._asked()
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    await self._take(event)
                    self._wake()
                    ahead -= 1
                    if not ahead:
                        ahead = await self._asked()
            self._ending.check()
        except Exception as raised:  # noqa: BLE001 - the readers get it
            error = raised
        self._finish(await self._end(error))

    async def _asked(self) -> int:
        """Wait until a reader waits; return how many events may be read then."""
        await self._hungry.wait()
        self._hungry.clear()
        return _AHEAD

    def _wake(self) -> None:
        advanced, self._advanced = self._advanced, asyncio.Event()
        advanced.set()

    def _finish(self, error: Exception | None) -> None:
        self.temporal.end(None if isinstance(error, (TokensMissing, WorkflowNotCompleted)) else error)
        super()._finish(error)
        self._wake()

    # ------------------------------------------------------------------ one event

    async def _take(self, event: Event) -> None:
        self._ending.note(event)
        if self._events is not None:
            self._sequence.reach(event.cursor)
        for made in self._protocol.read(event):
            await self._push(made, event)
        match event:
            case AttemptStarted(supersedes=Origin(attempt_id=attempt_id)):
                for run in self._shared.reported:
                    for call in run.pop(attempt_id, ()):
                        call.superseded = True
            case RunContinued():
                self._shared.reported[:] = [self._shared.reported[-1], {}]
            case _:
                pass
        if isinstance(event, TemporalEvent):
            self.temporal.push(event)


class Output(Awaitable[Any]):
    """Begins when it is awaited: only looking at it leaves nothing unawaited."""

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin

    def __call__(self) -> Self:
        """Return itself: LangGraph's `output` is a method."""
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        return self._begin().__await__()
