"""A subscriber for programs that are not async: the same names, for plain loops in any thread.

One thread has an event loop, and on it live the Temporal client, the backend and every subscription; the
threads of the program wait for it. Events cross in the lists in which they came, so a thread is not woken for
each token.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.reader.blocking_streams import BlockingMany, BlockingStream, in_ones
from temporal_token_interceptor.reader.loop_thread import LoopThread, Make
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.langgraph_messages import Message
from temporal_token_interceptor.views.snapshot import Snapshot

_T = TypeVar("_T")


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
            lambda subscriber: in_ones(
                subscriber.subscribe_activity(activity_id, run_id, cursor, until=until)
            )
        )

    def tokens(
        self, workflow_id: str, run_id: str | None = None, cursor: str | None = None
    ) -> BlockingStream[TokenEvent]:
        """Return the tokens that stand; see `TokenSubscriber.tokens`."""
        return self.stream(lambda subscriber: in_ones(subscriber.tokens(workflow_id, run_id, cursor)))

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
            lambda subscriber: in_ones(
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
