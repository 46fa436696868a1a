"""Streams for plain loops in any thread: what a subscriber yields on its own loop, handed over."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import aclosing
from datetime import timedelta
from types import AsyncGeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio

from temporal_token_interceptor.events import Event, Origin
from temporal_token_interceptor.reader.loop_thread import LoopThread, result_of
from temporal_token_interceptor.reader.many import ManyWorkflows, StreamFailed
from temporal_token_interceptor.reader.tree import WorkflowTree

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.graph_stream import GraphStream

_T = TypeVar("_T")


class BlockingStream(Iterator[_T]):
    """Items of a stream, for a `for` loop; where the loop is left early, the stream is closed soon after.

    `with` or `close` returns once it is closed. For one thread at a time.
    """

    def __init__(self, loop: LoopThread, make: Callable[[], AsyncGenerator[Sequence[_T]]]) -> None:
        self._reading = _Reading(loop, loop.do(make))
        self._coming: Iterator[_T] = iter(())
        weakref.finalize(self, self._reading.abandon).atexit = False

    def __next__(self) -> _T:
        for item in self._coming:
            return item
        found = self._reading.take()
        if found is None:
            self._reading.close()
            raise StopIteration
        self._coming = iter(found)
        return next(self._coming)

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until the next item, or the end, is there; whether it is. Nothing is lost by waiting again.

        Args:
            timeout: None: as long as it takes.
        """
        return self._reading.wait(None if timeout is None else timeout.total_seconds())

    def close(self) -> None:
        """Leave the stream: what it costs is freed when this returns."""
        self._coming = iter(())
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class BlockingTree(BlockingStream[Event]):
    """The events of a workflow and of all that it starts, for a `for` loop; see `WorkflowTree`."""

    def __init__(self, loop: LoopThread, make: Callable[[], WorkflowTree]) -> None:
        self._loop = loop
        self._tree = tree = loop.do(make)
        self._waited_at = ""
        super().__init__(loop, lambda: in_ones(tree))

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until the next event, or the end, is there; as `BlockingStream.wait`."""
        if not self._reading.is_ahead:
            self._waited_at = self.cursor
        return super().wait(timeout)

    @property
    def cursor(self) -> str:
        """Resumes right after the last event, in each workflow of the tree."""
        return self._waited_at if self._reading.is_ahead else self._loop.do(lambda: self._tree.cursor)

    def short_cursor(self) -> str:
        """Return a cursor of at most 200 characters."""
        return self._loop.call(self._tree.shortened, self.cursor)


class BlockingGraphStream(BlockingStream[Any]):
    """Items of LangGraph's stream modes, for a `for` loop; see `GraphStream`.

    Attributes:
        cursor: Resumes right after the last item; before the first, the cursor that the stream began at.
        origin: The attempt of an activity that said the last item; None before the first.
    """

    def __init__(self, loop: LoopThread, make: Callable[[], GraphStream]) -> None:
        stream = loop.do(make)
        self.cursor: str = stream.cursor
        self.origin: Origin | None = None
        super().__init__(loop, lambda: _placed(stream))

    def __next__(self) -> Any:
        placed: tuple[Any, str, Origin | None] = super().__next__()
        item, self.cursor, self.origin = placed
        return item


async def _placed(stream: GraphStream) -> AsyncGenerator[Sequence[tuple[Any, str, Origin | None]]]:
    async with aclosing(stream):
        async for item in stream:
            yield ((item, stream.cursor, stream.origin),)


class _Reading(Generic[_T]):
    """What a stream has on the loop."""

    def __init__(self, loop: LoopThread, lists: AsyncGenerator[Sequence[_T]]) -> None:
        self._loop = loop
        self._lists: AsyncGenerator[Sequence[_T]] | None = lists
        self._next: Future[Sequence[_T] | None] | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether the next list was asked for, and not taken yet."""
        return self._next is not None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the next list, or the end; whether it is there."""
        if self._next is None and self._lists is not None:
            self._next = self._loop.start(anext, self._lists, None)
        if self._next is None:
            return True
        try:
            return bool(futures.wait([self._next], seconds).done)
        except BaseException:  # Ctrl-C: the wait on the loop ends with the thread's
            self._next.cancel()
            raise

    def take(self) -> Sequence[_T] | None:
        """Return the next list; None at the end."""
        self.wait()
        found, self._next = self._next, None
        return None if found is None else result_of(found)

    def close(self) -> None:
        """Close the stream, and return then."""
        if (closing := self.abandon()) is not None:
            closing.result()

    def abandon(self) -> Future[None] | None:
        """Close the stream, and wait for nothing: the garbage collector calls it, in any thread."""
        (waiting, self._next), (lists, self._lists) = (self._next, None), (self._lists, None)
        return None if lists is None else self._loop.begin(_left, waiting, lists)


class BlockingMany(Iterator[tuple[str, "Event | StreamFailed"]]):
    """Many workflows as one stream, for `with` and a `for` loop; see `ManyWorkflows`."""

    def __init__(self, loop: LoopThread, make: Callable[[], ManyWorkflows]) -> None:
        self._loop = loop
        self._many = loop.do(make)

    def __enter__(self) -> Self:
        self._loop.call(self._many.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call(self._many.__aexit__, kind, error, traceback)

    def __next__(self) -> tuple[str, Event | StreamFailed]:
        found: tuple[str, Event | StreamFailed] | None = self._loop.call(anext, self._many, None)
        if found is None:
            raise StopIteration
        return found

    def add(self, workflow_id: str, run_id: str | None = None, cursor: str | None = None) -> None:
        """Read a workflow, too."""
        self._loop.do(lambda: self._many.add(workflow_id, run_id, cursor))

    def remove(self, workflow_id: str) -> None:
        """Read a workflow no more, and forget it."""
        self._loop.do(lambda: self._many.remove(workflow_id))

    @property
    def workflows(self) -> frozenset[str]:
        """The workflows that are read, or wait to be."""
        return self._loop.do(lambda: self._many.workflows)

    @property
    def cursor(self) -> str:
        """Resumes right after the last event."""
        return self._loop.do(lambda: self._many.cursor)

    def short_cursor(self) -> str:
        """Return a cursor of at most 200 characters."""
        return self._loop.call(self._many.short_cursor)


async def _left(waiting: Future[Any] | None, lists: AsyncGenerator[Any]) -> None:
    """Close a stream, also where something waits for its next list."""
    if waiting is not None and not waiting.done():
        waiting.cancel()
        while lists.ag_running if isinstance(lists, AsyncGeneratorType) else False:
            await anyio.lowlevel.checkpoint()
    await lists.aclose()


async def in_ones(items: AsyncGenerator[_T]) -> AsyncGenerator[Sequence[_T]]:
    """Iterate over lists of one item each."""
    try:
        async for item in items:
            yield (item,)
    finally:
        await items.aclose()
