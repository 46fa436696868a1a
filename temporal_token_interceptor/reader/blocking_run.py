"""The run object for plain loops in any thread: the names of `WorkflowRun`, over the loop on which it lives.

Items cross in the lists in which they came. As there, a run is read only while a thread waits for an item.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Any, Self, cast

from temporal_token_interceptor.reader.blocking_streams import BlockingStream, in_ones
from temporal_token_interceptor.reader.loop_thread import LoopThread
from temporal_token_interceptor.views.plain_call import BlockingModelCall
from temporal_token_interceptor.views.projection import Projection, Reader
from temporal_token_interceptor.views.run_calls import QueuedCall
from temporal_token_interceptor.views.run_scope import GraphRun, SubgraphRun
from temporal_token_interceptor.views.tool_call_stream import ToolCallStream
from temporal_token_interceptor.views.workflow_run import WorkflowRun


class BlockingProjection:
    """Items of one kind, for a `for` loop or `next`; for one reader. See `Projection`.

    Raises:
        ConfigurationError: a second reader; `tee` is for several.
        TokensMissing: not read for so long that items were dropped; the next ones follow.
    """

    def __init__(self, loop: LoopThread, projection: Projection[Any]) -> None:
        self._loop = loop
        self._projection = projection
        self._stream = BlockingStream[Any](loop, lambda: _Lists(projection))

    def __iter__(self) -> Iterator[Any]:
        self._loop.do(lambda: aiter(self._projection))  # it has a reader from now on
        return _Reader(self)

    def __next__(self) -> Any:
        return shown(self._loop, next(self._stream))

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until the next item, or the end, is there; whether it is. Nothing is lost by waiting again.

        Args:
            timeout: None: as long as it takes.
        """
        return self._stream.wait(timeout)

    def tee(self, n: int = 2) -> tuple[BlockingProjection, ...]:
        """Return this projection for several readers, each at a pace of its own, and bounded as this one.

        Args:
            n: How many.

        Raises:
            ConfigurationError: less than one; or the projection has a reader.
        """
        branches = self._loop.do(lambda: self._projection.tee(n))
        return tuple(BlockingProjection(self._loop, branch) for branch in branches)


class _Reader(Iterator[Any]):
    """The one loop over a projection."""

    def __init__(self, projection: BlockingProjection) -> None:
        self._projection = projection

    def __next__(self) -> Any:
        return next(self._projection)


class BlockingGraph:
    """A graph that runs, by kind of what it says; see `GraphRun`. Iterating over it yields raw events.

    Attributes:
        messages: A `BlockingModelCall` for each call of a model, as it begins, and for each message that a
            node returned whole; see `GraphRun`.
        tool_calls: A `BlockingToolCall` for each tool that runs, as it begins.
        values: As of `GraphRun`, and so all that follow.
        updates: See `values`.
        custom: See `values`.
        tasks: See `values`.
        checkpoints: See `values`.
        debug: See `values`.
        lifecycle: See `values`.
        subgraphs: A `BlockingSubgraph` for each graph that runs in a node of this one, as it begins.
    """

    messages: BlockingProjection
    tool_calls: BlockingProjection
    values: BlockingProjection
    updates: BlockingProjection
    custom: BlockingProjection
    tasks: BlockingProjection
    checkpoints: BlockingProjection
    debug: BlockingProjection
    lifecycle: BlockingProjection
    subgraphs: BlockingProjection

    def __init__(self, loop: LoopThread, graph: GraphRun) -> None:
        self._loop = loop
        self._graph = graph
        self._projections: dict[Projection[Any], BlockingProjection] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not made yet, or no name of a projection
            raise AttributeError(name)
        return self._plain(self._loop.do(lambda: getattr(self._graph, name)))

    @property
    def extensions(self) -> Mapping[str, Any]:
        """All projections by name, and those of the reader's transformers."""
        items = self._loop.do(lambda: [*self._graph.extensions.items()])
        return MappingProxyType({name: self._plain(value) for name, value in items})

    def __iter__(self) -> Iterator[Any]:
        events = self._loop.do(lambda: cast("Reader[Any]", aiter(self._graph)))
        return BlockingStream(self._loop, lambda: _Lists(events))

    def interleave(self, *names: str) -> Iterator[tuple[str, Any]]:
        """Iterate over several projections in the order in which their items came, as `(name, item)`.

        Args:
            names: Names in `extensions`.

        Raises:
            ConfigurationError: at once, of a name that is none; when it is read, if one has a reader.
        """
        items = self._loop.do(lambda: self._graph.interleave(*names))
        return _Interleaved(self._loop, lambda: in_ones(cast("AsyncGenerator[tuple[str, Any]]", items)))

    @property
    def interrupted(self) -> bool:
        """Whether its graph stopped to ask a human; reads the run to its end."""
        return self._loop.call(self._graph.interrupted)

    @property
    def interrupts(self) -> list[Any]:
        """What its graph asked, of graphs run by `stream_graph`; reads the run to its end."""
        return self._loop.call(self._graph.interrupts)

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, Projection):
            return value
        if value not in self._projections:
            self._projections.setdefault(value, BlockingProjection(self._loop, value))
        return self._projections[value]


class BlockingSubgraph(BlockingGraph):
    """A graph that runs in a node of another: a handle with the same projections; see `SubgraphRun`.

    Its projections raise `SubgraphNotCompleted` at their end if it failed.

    Attributes:
        path: Its namespace, `("node:<task id>", ...)`.
        graph_name: The name of the agent that it is; without one, the node that runs it.
        trigger_call_id: The id of that node's task.
    """

    def __init__(self, loop: LoopThread, graph: SubgraphRun) -> None:
        super().__init__(loop, graph)
        self._subgraph = graph
        self.path: tuple[str, ...] = graph.path
        self.graph_name: str | None = graph.graph_name
        self.trigger_call_id: str | None = graph.trigger_call_id

    @property
    def status(self) -> str:
        """`started`, `completed`, `failed` or `interrupted`."""
        return self._subgraph.status

    @property
    def error(self) -> str | None:
        """The exception's class name if it failed, or why it did not end; see `SubgraphNotCompleted`."""
        return self._subgraph.error

    @property
    def output(self) -> Any:
        """Its last state, of graphs run by `stream_graph`; reads the run until this graph ends.

        Raises:
            SubgraphNotCompleted: it failed.
            TokenStreamError: as the run's projections do, at their end.
        """
        return self._loop.call(self._subgraph.output)

    def __repr__(self) -> str:
        return f"BlockingSubgraph(path={self.path!r}, status={self.status!r})"


class BlockingToolCall(Iterator[Any]):
    """A tool from its start to its end, with the members of `ToolCallStream`; a loop over it waits for it."""

    def __init__(self, loop: LoopThread, tool: ToolCallStream) -> None:
        self._tool = tool
        self.tool_call_id: str = tool.tool_call_id
        self.tool_name: str = tool.tool_name
        self.input: Any = tool.input
        self.output_deltas: BlockingProjection = BlockingProjection(loop, tool.output_deltas)

    @property
    def output(self) -> Any:
        """What it returned, as text; only with `capture={"tool_output"}`."""
        return self._tool.output

    @property
    def error(self) -> str | None:
        """The exception's class name if it failed; `unfinished` if its attempt ended before it did."""
        return self._tool.error

    @property
    def completed(self) -> bool:
        """Whether it has ended, well or not."""
        return self._tool.completed

    def __next__(self) -> Any:
        return next(self.output_deltas)

    def __repr__(self) -> str:
        return repr(self._tool)


class BlockingRun(BlockingGraph):
    """What a workflow says, by kind; for `with`. The names are those of `WorkflowRun`.

    A run that is left early, or forgotten, is read no more, and what it costs is freed. Its projections may
    be read by different threads.

    Attributes:
        temporal: Attempts, gaps, further runs and the end; never raises for what it reports.
    """

    temporal: BlockingProjection

    def __init__(self, loop: LoopThread, make: Callable[[], WorkflowRun]) -> None:
        run = loop.do(make)
        run.queue_calls()
        super().__init__(loop, run)
        self._run = run
        weakref.finalize(self, loop.begin, run.abort).atexit = False

    @property
    def output(self) -> Any:
        """The workflow's result, or the exception that its handle raises; asks Temporal alone."""

        async def result() -> Any:
            return await self._run.output

        return self._loop.call(result)

    def abort(self) -> None:
        """Stop to read, as leaving `with` does."""
        if (leaving := self._loop.begin(self._run.abort)) is not None:
            leaving.result()

    def __enter__(self) -> Self:
        self._loop.call(self._run.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()


def shown(loop: LoopThread, item: Any) -> Any:
    """Return an item of a run as a thread can use it."""
    match item:
        case QueuedCall():
            return BlockingModelCall(item, lambda: loop.call(item.events.some))
        case SubgraphRun():
            return BlockingSubgraph(loop, item)
        case ToolCallStream():
            return BlockingToolCall(loop, item)
        case _:
            return item


class _Interleaved(BlockingStream[tuple[str, Any]]):
    """Items of several projections."""

    def __init__(
        self, loop: LoopThread, make: Callable[[], AsyncGenerator[Sequence[tuple[str, Any]]]]
    ) -> None:
        super().__init__(loop, make)
        self._on = loop

    def __next__(self) -> tuple[str, Any]:
        name, item = super().__next__()
        return name, shown(self._on, item)


class _Lists(AsyncGenerator[Sequence[Any]]):
    """The items of a projection as they can be had at once. It goes on after an error, as that does."""

    def __init__(self, items: Projection[Any] | Reader[Any]) -> None:
        self._items = items

    async def __anext__(self) -> Sequence[Any]:
        if found := await self._items.some():
            return found
        raise StopAsyncIteration

    async def asend(self, value: None) -> Sequence[Any]:  # noqa: ARG002 - what is sent goes nowhere
        return await self.__anext__()

    async def athrow(self, kind: Any, value: Any = None, traceback: Any = None) -> Sequence[Any]:  # noqa: ARG002 - as above
        raise kind if value is None else value

    async def aclose(self) -> None:
        """Leave: a projection costs nothing."""
