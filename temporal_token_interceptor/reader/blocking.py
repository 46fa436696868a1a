"""A subscriber for programs that are not async: the same names, for plain loops in any thread.

One thread has an event loop, and on it live the Temporal client, the backend and every subscription; the
threads of the program wait for it. Events cross in the lists in which they came, so a thread is not woken for
each token.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from datetime import timedelta
from types import AsyncGeneratorType, TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import anyio

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.reader.loop_thread import LoopThread, Make
from temporal_token_interceptor.reader.many import ManyWorkflows, StreamFailed
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.langgraph_messages import Message
from temporal_token_interceptor.views.snapshot import Snapshot

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


class _Reading(Generic[_T]):
    """What a stream has on the loop."""

    def __init__(self, loop: LoopThread, lists: AsyncGenerator[Sequence[_T]]) -> None:
        self._loop = loop
        self._lists: AsyncGenerator[Sequence[_T]] | None = lists
        self._next: Future[Sequence[_T] | None] | None = None

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
        return None if found is None else found.result()

    def close(self) -> None:
        """Close the stream, and return then."""
        if (closing := self.abandon()) is not None:
            closing.result()

    def abandon(self) -> Future[None] | None:
        """Close the stream, and wait for nothing: the garbage collector calls it, in any thread."""
        (waiting, self._next), (lists, self._lists) = (self._next, None), (self._lists, None)
        if lists is None:
            return None
        try:
            return self._loop.start(_left, waiting, lists)
        except ConfigurationError:  # the loop is closed, and all of its streams with it
            return None


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


class BlockingSubscriber:
    """`TokenSubscriber` for programs that are not async: for Django, Flask, Streamlit, Gradio, notebooks.

    The methods, their arguments and their errors are those of `TokenSubscriber`; what is iterated over with
    `async for` there is for `for` here, what is awaited there returns here. One object is enough for a
    process, and any of its threads may use it. It costs a thread, from its first use to `close`; a process
    that ends does not wait for it.

    Args:
        make: Connects and returns a subscriber, on the loop of that thread. Where it is an async context
            manager, `close` leaves it.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._opening = threading.Lock()
        self._loop: LoopThread | None = None

    def subscribe(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: OnRetry = "reset",
        until: Awaitable[object] | None = None,
        start_timeout: timedelta | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingStream[Event]:
        """Return the events of a workflow; see `TokenSubscriber.subscribe`."""
        return self.stream(
            lambda subscriber: subscriber.subscribe_batches(
                workflow_id,
                run_id,
                cursor,
                start=start,
                on_retry=on_retry,
                until=until,
                start_timeout=start_timeout,
                runs=runs,
            )
        )

    def subscribe_activity(
        self,
        activity_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        until: Awaitable[object] | None = None,
    ) -> BlockingStream[Event]:
        """Return the events of a standalone activity; see `TokenSubscriber.subscribe_activity`."""
        return self.stream(
            lambda subscriber: _in_ones(
                subscriber.subscribe_activity(activity_id, run_id, cursor, until=until)
            )
        )

    def tokens(
        self, workflow_id: str, run_id: str | None = None, cursor: str | None = None
    ) -> BlockingStream[TokenEvent]:
        """Return the tokens that stand; see `TokenSubscriber.tokens`."""
        return self.stream(lambda subscriber: _in_ones(subscriber.tokens(workflow_id, run_id, cursor)))

    def messages(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        subgraphs: bool = False,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingStream[Message]:
        """Return what `graph.stream(stream_mode="messages")` yields; see `TokenSubscriber.messages`."""
        return self.stream(
            lambda subscriber: _in_ones(
                subscriber.messages(
                    workflow_id,
                    run_id,
                    cursor,
                    start=start,
                    on_retry=on_retry,
                    subgraphs=subgraphs,
                    until=until,
                    runs=runs,
                )
            )
        )

    def text(self, workflow_id: str, run_id: str | None = None, *, runs: FirstRun = "newest") -> str:
        """Return the text that stands, once the workflow has ended; see `TokenSubscriber.text`."""
        return self.wait(lambda subscriber: subscriber.text(workflow_id, run_id, runs=runs))

    def snapshot(self, workflow_id: str, run_id: str | None = None) -> Snapshot:
        """Return what stands now, and the cursor behind it; see `TokenSubscriber.snapshot`."""
        return self.wait(lambda subscriber: subscriber.snapshot(workflow_id, run_id))

    def subscribe_many(self, *args: Any, **keywords: Any) -> BlockingMany:
        """Return many workflows as one stream, for `with`; the arguments are `TokenSubscriber`'s."""
        loop = self._opened()
        return BlockingMany(loop, lambda: loop.subscriber.subscribe_many(*args, **keywords))

    def stream(self, make: Callable[[TokenSubscriber], AsyncGenerator[Sequence[_T]]]) -> BlockingStream[_T]:
        """Return a stream of your own: what an async generator of lists yields, item by item."""
        loop = self._opened()
        return BlockingStream(loop, lambda: make(loop.subscriber))

    def wait(self, make: Callable[[TokenSubscriber], Coroutine[Any, Any, _T]]) -> _T:
        """Return what a coroutine returns that uses the subscriber, such as one of the client's."""
        loop = self._opened()
        return loop.call(lambda: make(loop.subscriber))

    def close(self) -> None:
        """End all streams, and the thread. The next use opens it again."""
        with self._opening:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> LoopThread:
        # At the first use, not when it is made: web servers fork after they have loaded the program.
        with self._opening:
            if self._loop is None:
                self._loop = LoopThread(self._make)
            return self._loop


async def _left(waiting: Future[Any] | None, lists: AsyncGenerator[Any]) -> None:
    """Close a stream, also where something waits for its next list."""
    if waiting is not None and not waiting.done():
        waiting.cancel()
        while lists.ag_running if isinstance(lists, AsyncGeneratorType) else False:
            await anyio.lowlevel.checkpoint()
    await lists.aclose()


async def _in_ones(items: AsyncGenerator[_T]) -> AsyncGenerator[Sequence[_T]]:
    try:
        async for item in items:
            yield (item,)
    finally:
        await items.aclose()
