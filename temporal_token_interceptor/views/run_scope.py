"""One graph of a run: its projections, and within it those of its subgraphs.

The names and shapes are those of LangGraph's run object. It is ours, because LangGraph's cannot be fed
without private names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError, SubgraphNotCompleted
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.views.graph_values import with_messages
from temporal_token_interceptor.views.model_call import ModelCall
from temporal_token_interceptor.views.projection import Projection, interleaved
from temporal_token_interceptor.views.protocol_events import ProtocolEvent
from temporal_token_interceptor.views.run_calls import RunCalls, Shared
from temporal_token_interceptor.views.tool_call_stream import ToolCallStream
from temporal_token_interceptor.views.transformers import Transformers

_MODES = ("values", "updates", "custom", "tasks", "checkpoints", "debug")
_STATES_KEPT = 100  # of what may be 64 KiB each

_OURS = (*_MODES, "messages", "tool_calls", "lifecycle", "subgraphs")


class GraphRun:
    """A graph that runs, by kind of what it says. Each projection is for one reader; `tee` is for several.

    Of what no reader takes, the last 1,000 items are kept, and of states the last 100; a reader that misses
    some gets `TokensMissing` in their place. Iterating over the run itself yields raw events, from then on.

    Attributes:
        messages: A `ModelCall` for each call of a model, as it begins; and with `capture={"node_output"}` for
            each message that a node returned whole, and no model has streamed.
        tool_calls: A `ToolCallStream` for each tool that runs, as it begins.
        values: States, of graphs run by `stream_graph` with this mode.
        updates: What nodes return, `{node: output}`; with `capture={"node_output"}`, or by `stream_graph`.
        custom: What `get_stream_writer()` is given, of graphs run by `stream_graph`; and of
            `dispatch_custom_event`, `{name, payload}`.
        tasks: See `values`.
        checkpoints: See `values`.
        debug: See `values`.
        lifecycle: Subgraphs of any depth that start and end, as LangGraph's `LifecyclePayload`.
        subgraphs: A `SubgraphRun` for each graph that runs in a node of this one, as it begins.
        extensions: All projections by name, and those of the reader's transformers.
    """

    def __init__(self, shared: Shared, namespace: tuple[str, ...]) -> None:
        self._shared = shared
        self._namespace = namespace
        self._state: Any = None
        self._interrupts: list[Any] = []
        self._ended = False
        self._status = "started"
        self._failure: str | None = None
        self._error: Exception | None = None
        self._now = 0
        self._within: dict[tuple[str, tuple[str, ...]], SubgraphRun] = {}  # by attempt id, too
        self._natives: dict[str, Any] = {}
        self._events: Projection[ProtocolEvent] | None = None
        self.messages: Projection[ModelCall] = self._shared.projection()
        self.tool_calls: Projection[ToolCallStream] = self._shared.projection()
        self._calls = RunCalls(shared, self.messages, self.tool_calls)
        self.lifecycle: Projection[dict[str, Any]] = self._shared.projection()
        self.subgraphs: Projection[SubgraphRun] = self._shared.projection()
        self.custom: Projection[Any] = self._shared.projection()
        self.updates: Projection[dict[str, Any]] = self._shared.projection()
        self.values: Projection[Any] = self._shared.projection(_STATES_KEPT)
        self.tasks: Projection[dict[str, Any]] = self._shared.projection(_STATES_KEPT)
        self.checkpoints: Projection[dict[str, Any]] = self._shared.projection(_STATES_KEPT)
        self.debug: Projection[dict[str, Any]] = self._shared.projection(_STATES_KEPT)
        self._shown: dict[str, Any] = {name: getattr(self, name) for name in _OURS}
        self.extensions: Mapping[str, Any] = MappingProxyType(self._shown)
        self._transformers = Transformers(shared.factories, namespace, _OURS, self._show)
        self._shown.update(self._transformers.shown)

    def __getattr__(self, name: str) -> Any:
        natives = self.__dict__.get("_natives", {})
        if name in natives:
            return natives[name]
        shown = ", ".join(sorted({*_OURS, *natives}))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; it shows {shown}")

    def __aiter__(self) -> AsyncIterator[ProtocolEvent]:
        if self._events is None:
            self._events = self._shared.projection()
            if self._ended:
                self._events.end(self._error)
        return aiter(self._events)

    def interleave(self, *names: str) -> AsyncIterator[tuple[str, Any]]:
        """Iterate over several projections in the order in which their items came, as `(name, item)`.

        Args:
            names: Names in `extensions`.

        Raises:
            ConfigurationError: at once, of a name that is none; when it is read, if one has a reader.
        """
        projections = {name: self._shown.get(name) for name in names}
        for name, projection in projections.items():
            if not isinstance(projection, Projection):
                raise ConfigurationError(f"{name!r} is no projection; those are {', '.join(self._shown)}")
        return interleaved({name: one for name, one in projections.items() if one}, self._shared.more)

    async def interrupted(self) -> bool:
        """Read the run to its end; whether its graph stopped to ask a human. See `interrupts`."""
        return bool(await self.interrupts())

    async def interrupts(self) -> list[Any]:
        """Read the run to its end; return what its graph asked, of graphs run by `stream_graph`.

        Raises:
            TokenStreamError: as the projections do, at their end.
        """
        await self._read_to_the_end()
        return self._interrupts

    async def _read_to_the_end(self) -> None:
        while not self._ended:
            await self._shared.more()
        if self._error is not None:
            raise self._error

    # ------------------------------------------------------------------ one event

    async def _push(self, made: ProtocolEvent, event: Event) -> None:
        """Take in one protocol event, and ours that it is made of."""
        stays, params = True, made["params"]
        self._now = params["timestamp"]
        if self._transformers:
            if self._namespace == ():
                # Readers of one process share what they decode, and transformers change what they get.
                params["data"] = deepcopy(params["data"])
            stays = await self._transformers.before(made)
        await self._project(made, event)
        if self._transformers:
            stays = await self._transformers.after(made) and stays
        if self._events is not None and stays:
            self._events.push(self._numbered(made))

    async def _project(self, made: ProtocolEvent, event: Event) -> None:
        method, data = made["method"], made["params"]["data"]
        namespace = tuple(made["params"]["namespace"])
        attempt_id = made["params"].get("origin", {}).get("attempt_id", "")
        if method == "lifecycle":
            await self._lifecycle(data, attempt_id, made, event)
            return
        if (within := self._around(attempt_id, namespace)) is not None:
            await within._push(made, event)  # noqa: SLF001 - of our own class
        if namespace != self._namespace and not (self._shared.flat and self._namespace == ()):
            return
        if method == "messages":
            said, metadata = data
            if isinstance(said, dict):
                self._calls.message(said, (attempt_id, metadata["ordinal"]), event)
            else:
                self._calls.whole(said, event)
        elif method == "tools":
            self._calls.tool(data, attempt_id)
        elif method in _MODES:
            self._mode(method, data)

    def _mode(self, mode: str, data: Any) -> None:
        if mode == "updates" and isinstance(data, dict) and data.get("__interrupt__"):
            self._interrupts += data["__interrupt__"]
        shown = with_messages(data)
        if mode == "values":
            self._state = shown
        self._shown[mode].push(shown)

    async def _lifecycle(
        self, payload: Mapping[str, Any], attempt_id: str, made: ProtocolEvent, event: Event
    ) -> None:
        namespace = tuple(payload["namespace"])
        depth = len(self._namespace)
        if len(namespace) <= depth or namespace[:depth] != self._namespace:
            return
        self.lifecycle.push(dict(payload))
        within = self._around(attempt_id, namespace)
        if len(namespace) > depth + 1:
            if within is not None:
                await within._push(made, event)  # noqa: SLF001 - of our own class
        elif payload["event"] == "started":
            started = self._within[attempt_id, namespace] = SubgraphRun(self._shared, namespace, payload)
            self.subgraphs.push(started)
        elif within is not None:
            del self._within[attempt_id, namespace]
            await within._close(payload["event"], payload.get("error"))  # noqa: SLF001 - as above

    def _around(self, attempt_id: str, namespace: tuple[str, ...]) -> SubgraphRun | None:
        depth = len(self._namespace)
        if len(namespace) <= depth or namespace[:depth] != self._namespace:
            return None
        return self._within.get((attempt_id, namespace[: depth + 1]))

    # ------------------------------------------------------------------ the end

    async def _end(self, error: Exception | None) -> Exception | None:
        """Let the transformers end; return the error that all ends with."""
        for within in self._within.values():
            await within._end(error)  # noqa: SLF001 - of our own class
        if error is None:
            try:
                await self._transformers.finalize()
            except Exception as raised:  # noqa: BLE001 - the readers get it
                error = raised
        if error is not None:
            await self._transformers.fail(error)
        return error

    async def _close(self, status: str, failure: str | None) -> None:
        """End as a subgraph does."""
        self._status, self._failure = status, failure
        raised = SubgraphNotCompleted(failure or "unknown") if status == "failed" else None
        self._finish(await self._end(raised))

    def _finish(self, error: Exception | None) -> None:
        """End all projections."""
        self._ended, self._error = True, error
        if self._status == "started":
            self._status = "completed" if error is None else "failed"
        for within in self._within.values():
            within._finish(error)  # noqa: SLF001 - of our own class
        self._calls.end(error)
        for projection in (*self._shown.values(), self._events):
            if isinstance(projection, Projection):
                projection.end(error)

    # ------------------------------------------------------------------ what is shown

    def _numbered(self, made: ProtocolEvent) -> ProtocolEvent:
        # Of a subgraph's events LangGraph numbers none; the root's number is that of the whole.
        return {**made, "seq": self._shared.number()} if self._namespace == () else made

    def _show(
        self,
        name: str,
        channel: str | None,
        native: bool,  # noqa: FBT001 - by place, as all of a `Show`
    ) -> tuple[Callable[[Any], None], Callable[[Exception | None], None]]:
        projection = self._shown[name] = self._shared.projection()
        if native:
            self._natives[name] = projection
        method = channel if native else f"custom:{channel}"

        def push(item: Any) -> None:
            projection.push(item)
            if channel is not None and self._events is not None:
                params = {"namespace": [], "timestamp": self._now, "data": item}
                self._events.push(self._numbered({"type": "event", "method": method, "params": params}))

        return push, projection.end


class SubgraphRun(GraphRun):
    """A graph that runs in a node of another: a handle with the same projections, and its own subgraphs.

    Its projections raise `SubgraphNotCompleted` at their end if it failed.

    Attributes:
        path: Its namespace, `("node:<task id>", ...)`.
        graph_name: The name of the agent that it is; without one, the node that runs it.
        trigger_call_id: The id of that node's task.
    """

    def __init__(self, shared: Shared, namespace: tuple[str, ...], started: Mapping[str, Any]) -> None:
        super().__init__(shared, namespace)
        self.path = namespace
        self.graph_name: str | None = started.get("graph_name")
        self.trigger_call_id: str | None = started.get("trigger_call_id")

    @property
    def status(self) -> str:
        """`started`, `completed`, `failed` or `interrupted`."""
        return self._status

    @property
    def error(self) -> str | None:
        """The exception's class name if it failed, or why it did not end; see `SubgraphNotCompleted`."""
        return self._failure

    async def output(self) -> Any:
        """Read the run until this graph ends; return its last state, of graphs run by `stream_graph`.

        Raises:
            SubgraphNotCompleted: it failed.
            TokenStreamError: as the run's projections do, at their end.
        """
        await self._read_to_the_end()
        return self._state

    def __repr__(self) -> str:
        return f"SubgraphRun(path={self.path!r}, status={self.status!r})"
