"""A subscriber for programs that are not async: the same names, for plain loops in any thread.

One thread has an event loop, and on it live the Temporal client, the backend and every subscription; the
threads of the program wait for it. Events cross in the lists in which they came, so a thread is not woken for
each token.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.reader.blocking_streams import (
    BlockingGraphStream,
    BlockingMany,
    BlockingStream,
    BlockingTree,
    in_ones,
)
from temporal_token_interceptor.reader.loop_thread import LoopThread, Make
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.snapshot import Snapshot

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.blocking_run import BlockingRun
    from temporal_token_interceptor.views.langgraph_messages import Message
    from temporal_token_interceptor.views.stream_modes import StreamMode

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

    @overload
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
        children: Literal[False] = False,
    ) -> BlockingStream[Event]: ...

    @overload
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
        children: Literal[True],
    ) -> BlockingTree: ...

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
        children: bool = False,
    ) -> BlockingStream[Event]:
        """Return the events of a workflow, or of all that it starts, too; see `TokenSubscriber.subscribe`."""
        if children:
            loop = self._opened()
            return BlockingTree(
                loop,
                lambda: loop.subscriber.subscribe(
                    workflow_id,
                    run_id,
                    cursor,
                    start=start,
                    on_retry=on_retry,
                    until=until,
                    start_timeout=start_timeout,
                    runs=runs,
                    children=True,
                ),
            )
        return self.iterate(
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
        return self.iterate(
            lambda subscriber: in_ones(
                subscriber.subscribe_activity(activity_id, run_id, cursor, until=until)
            )
        )

    def tokens(
        self, workflow_id: str, run_id: str | None = None, cursor: str | None = None
    ) -> BlockingStream[TokenEvent]:
        """Return the tokens that stand; see `TokenSubscriber.tokens`."""
        return self.iterate(lambda subscriber: in_ones(subscriber.tokens(workflow_id, run_id, cursor)))

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
        return self.iterate(
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

    def stream(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        stream_mode: StreamMode | Sequence[StreamMode] = "updates",
        subgraphs: bool = False,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingGraphStream:
        """Return what `graph.stream(stream_mode=...)` yields; see `TokenSubscriber.astream`."""
        loop = self._opened()
        return BlockingGraphStream(
            loop,
            lambda: loop.subscriber.astream(
                workflow_id,
                run_id,
                cursor,
                stream_mode=stream_mode,
                subgraphs=subgraphs,
                start=start,
                on_retry=on_retry,
                until=until,
                runs=runs,
            ),
        )

    def events_v2(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        include_names: Collection[str] | None = None,
        include_types: Collection[str] | None = None,
        include_tags: Collection[str] | None = None,
        exclude_names: Collection[str] | None = None,
        exclude_types: Collection[str] | None = None,
        exclude_tags: Collection[str] | None = None,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingStream[dict[str, Any]]:
        """Return events as of `astream_events(version="v2")`; see `TokenSubscriber.events_v2`."""
        return self.iterate(
            lambda subscriber: in_ones(
                subscriber.events_v2(
                    workflow_id,
                    run_id,
                    cursor,
                    start=start,
                    on_retry=on_retry,
                    include_names=include_names,
                    include_types=include_types,
                    include_tags=include_tags,
                    exclude_names=exclude_names,
                    exclude_types=exclude_types,
                    exclude_tags=exclude_tags,
                    until=until,
                    runs=runs,
                )
            )
        )

    def protocol_events(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        since: int | None = None,
        on_retry: Literal["reset", "hold"] = "reset",
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingStream[dict[str, Any]]:
        """Return LangGraph's protocol events; see `TokenSubscriber.protocol_events`."""
        return self.iterate(
            lambda subscriber: in_ones(
                subscriber.protocol_events(
                    workflow_id, run_id, cursor, since=since, on_retry=on_retry, until=until, runs=runs
                )
            )
        )

    def run(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        on_retry: Literal["reset", "hold"] = "reset",
        result_type: type | None = None,
        transformers: Sequence[Callable[[tuple[str, ...]], Any]] = (),
        subgraphs: bool = False,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> BlockingRun:
        """Return a workflow as LangGraph's run object, for `with`; see `TokenSubscriber.run`."""
        from temporal_token_interceptor.reader.blocking_run import BlockingRun  # noqa: PLC0415 - LangChain

        loop = self._opened()
        return BlockingRun(
            loop,
            lambda: loop.subscriber.run(
                workflow_id,
                run_id,
                on_retry=on_retry,
                result_type=result_type,
                transformers=transformers,
                subgraphs=subgraphs,
                until=until,
                runs=runs,
            ),
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

    def iterate(self, make: Callable[[TokenSubscriber], AsyncGenerator[Sequence[_T]]]) -> BlockingStream[_T]:
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
