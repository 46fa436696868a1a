"""A workflow as streams of its calls, tools and updates, and its result, as LangGraph's run object is.

The run object is ours, because LangGraph's cannot be fed without private names.

One task reads the subscription, and only while a task waits for an item: a slow reader reads slowly, and
does not hold up another. What is not read is kept within a bound; past it the oldest is dropped, and
reported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, assert_never
from weakref import WeakSet

from temporal_token_interceptor._tasks import joined
from temporal_token_interceptor.errors import (
    CallNotCompleted,
    ConfigurationError,
    TokensMissing,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    RetrieverEnded,
    RetrieverStarted,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.model_call import CallAdapter, ModelCall

_T = TypeVar("_T")

# Each stream keeps so many items that are not read yet.
_KEPT = 1_000

# How many events are read for one that was asked for: to switch tasks for each costs as much as all the rest.
_AHEAD = 64

Lifecycle = AttemptStarted | AttemptEnded | RunContinued | Gap | StreamEnded


class Items(Generic[_T]):
    """What a run says of one kind, as it comes; for one reader.

    Raises:
        TokensMissing: not read for so long that items were dropped; the next ones follow.
    """

    def __init__(self, more: Callable[[], Awaitable[None]]) -> None:
        self._more = more
        self._items: deque[_T] = deque()
        self._dropped = 0
        self._ended = False
        self._error: Exception | None = None

    def push(self, item: _T) -> None:
        """Add an item, for the reader."""
        if len(self._items) == _KEPT:
            self._items.popleft()
            self._dropped += 1
        self._items.append(item)

    def end(self, error: Exception | None) -> None:
        """Say that there is no more."""
        self._ended, self._error = True, error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._more()
        if self._dropped:
            reasons, self._dropped = ("overflow",) * min(self._dropped, 100), 0
            raise TokensMissing(reasons, "")
        return self._items.popleft()


class WorkflowRun:
    """What a workflow says, by kind; for `async with`. Costs one task, which reads while a task waits.

    Each of the streams is for one reader; the readers may be tasks of their own. `messages`, `tool_calls`,
    `custom` and `updates` end as `TokenSubscriber.messages` does: with an error, unless the workflow
    completed and nothing is missing. Of a stream that is not read, the last 1,000 items are kept.

    Attributes:
        messages: A `ModelCall` for each call of a model, as it begins; `.namespace` is its subgraph path.
        tool_calls: Tools that run: `ToolStarted` and `ToolEnded`.
        custom: `CustomEvent`, and the mode `custom` of graphs run by `stream_graph`.
        updates: `NodeEnded`, and the mode `updates` of graphs run by `stream_graph`.
        lifecycle: Attempts, gaps, further runs and the end; never raises for what it reports.
    """

    def __init__(self, events: AsyncGenerator[Event], result: Callable[[], Awaitable[Any]]) -> None:
        self._events = events
        self._result = result
        self.messages: Items[ModelCall] = Items(self._more)
        self.tool_calls: Items[ToolStarted | ToolEnded] = Items(self._more)
        self.custom: Items[CustomEvent | GraphEvent] = Items(self._more)
        self.updates: Items[NodeEnded | GraphEvent] = Items(self._more)
        self.lifecycle: Items[Lifecycle] = Items(self._more)
        self._reading: asyncio.Task[None] | None = None
        self._hungry = asyncio.Event()
        self._advanced = asyncio.Event()
        self._finished = False
        self._ending = Ending()
        self._live: dict[tuple[str, int], CallAdapter] = {}
        # By attempt id, of this run of the workflow and of the one before: what a retry has to mark.
        self._reported: list[dict[str, WeakSet[ModelCall]]] = [{}]

    @property
    def output(self) -> Awaitable[Any]:
        """The workflow's result, or the exception that its handle raises; asks Temporal alone."""
        return _Lazily(self._result)

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if self._reading is not None:
                await joined(self._reading)
        finally:  # also where the task that leaves is cancelled: other tasks may be reading
            if not self._finished:
                self._finish(ConfigurationError("the run was left: read it within its `async with`"))

    # ------------------------------------------------------------------ reading on demand

    async def _more(self) -> None:
        """Wait until one more event was read."""
        if self._reading is None:
            raise ConfigurationError("a run is read within `async with`")
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
            async with aclosing(self._events) as events:
                async for event in events:
                    self._take(event)
                    self._wake()
                    ahead -= 1
                    if not ahead:
                        ahead = await self._asked()
            self._ending.check()
        except Exception as raised:  # noqa: BLE001 - the readers get it
            error = raised
        self._finish(error)

    async def _asked(self) -> int:
        """Wait until a reader waits; return how many events may be read then."""
        await self._hungry.wait()
        self._hungry.clear()
        return _AHEAD

    def _wake(self) -> None:
        advanced, self._advanced = self._advanced, asyncio.Event()
        advanced.set()

    def _finish(self, error: Exception | None) -> None:
        self._finished = True
        for adapter in self._live.values():
            adapter.fail(error or CallNotCompleted("unfinished"))
        self._live.clear()
        for items in (self.messages, self.tool_calls, self.custom, self.updates):
            items.end(error)
        self.lifecycle.end(None if isinstance(error, (TokensMissing, WorkflowNotCompleted)) else error)
        self._wake()

    # ------------------------------------------------------------------ one event

    def _take(self, event: Event) -> None:
        self._ending.note(event)
        match event:
            case TokenEvent() | ReasoningEvent() | ToolCallChunk() | ContentBlock() | CallStarted():
                self._adapter(event.origin, event.call).add(event)
            case CallEnded():
                self._adapter(event.origin, event.call).finish(event)
                del self._live[event.origin.attempt_id, event.call.ordinal]
            case ToolStarted() | ToolEnded():
                self.tool_calls.push(event)
            case CustomEvent() | GraphEvent(mode="custom"):
                self.custom.push(event)
            case NodeEnded() | GraphEvent(mode="updates"):
                self.updates.push(event)
            case AttemptStarted() | AttemptEnded() | Gap() | RunContinued() | StreamEnded():
                self._note(event)
                self.lifecycle.push(event)
            case NodeStarted() | GraphEvent() | RetrieverStarted() | RetrieverEnded():
                pass  # no channel has them; `subscribe` does
            case _:
                assert_never(event)

    def _note(self, event: Lifecycle) -> None:
        match event:
            case AttemptStarted(supersedes=Origin(attempt_id=attempt_id)):
                for run in self._reported:
                    for call in run.pop(attempt_id, ()):
                        call.superseded = True
                for key in [key for key in self._live if key[0] == attempt_id]:
                    self._live.pop(key).fail(CallNotCompleted("superseded"))
            case RunContinued():
                self._reported = [self._reported[-1], {}]
            case Gap():
                for adapter in self._live.values():
                    adapter.miss(event)
            case _:
                pass

    def _adapter(self, origin: Origin, call: Call) -> CallAdapter:
        key = (origin.attempt_id, call.ordinal)
        adapter = self._live.get(key)
        if adapter is None:
            adapter = self._live[key] = CallAdapter(ModelCall(origin, call))
            adapter.stream.set_arequest_more(self._feed)
            self._reported[-1].setdefault(origin.attempt_id, WeakSet()).add(adapter.stream)
            self.messages.push(adapter.stream)
        return adapter


class _Lazily:
    """Begins when it is awaited: only looking at it leaves nothing unawaited."""

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, None, Any]:
        return self._begin().__await__()
