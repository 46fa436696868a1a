"""For the author of an activity: LangGraph's own stream modes, which no callback can see.

`get_stream_writer()` and the modes `values`, `updates`, `custom`, `tasks`, `checkpoints` and `debug` are
handed only to the code that streams the graph. So the author asks for them, in place of `graph.ainvoke(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from temporal_token_interceptor.capture.graph_observer import SurroundingsObserver
from temporal_token_interceptor.capture.observing import FORWARDED, Forwarded, current_observer
from temporal_token_interceptor.errors import ConfigurationError

GraphMode = Literal["values", "updates", "custom", "tasks", "checkpoints", "debug"]
"""LangGraph's stream modes; tokens (`messages`) need none."""

_MODES = frozenset({"values", "updates", "custom", "tasks", "checkpoints", "debug"})


class Graph(Protocol):
    """A compiled graph, as far as it is needed here."""

    @property
    def astream(self) -> Callable[..., Any]:
        """Runs the graph; returns an iterator over what it says. LangGraph's own signature has overloads."""
        ...


async def stream_graph(
    graph: Graph,
    input: Any,  # noqa: A002 - LangGraph's name
    config: Any = None,
    *,
    modes: Sequence[GraphMode] = ("custom", "updates"),
    subgraphs: bool = True,
    **options: Any,
) -> Any:
    """Return what `await graph.ainvoke(input, config)` would, and stream what the graph says in `modes`.

    Each item becomes a `GraphEvent`. Outside of an activity that streams, nothing is forwarded and the result
    is the same. It runs the graph by `astream`: a node that is a `Runnable` of your own still is invoked, as
    by `ainvoke`.

    Args:
        graph: A compiled graph.
        input: Its input.
        config: Its config.
        modes: What to forward: `values`, `updates`, `custom`, `tasks`, `checkpoints`, `debug`. Tokens
            (`messages`) are captured in any case.
        subgraphs: Whether to forward what subgraphs say, too.
        options: What else `ainvoke` takes, such as `durability`.

    Raises:
        ConfigurationError: no such mode.
    """
    if unknown := sorted({*modes} - _MODES):
        raise ConfigurationError(f"modes can be {', '.join(sorted(_MODES))}; not {', '.join(unknown)}")
    observer = current_observer()
    result: Any = None
    interrupts: list[Any] = []
    asked = [*dict.fromkeys((*modes, "updates", "values"))]  # these two are what `ainvoke` itself listens to
    items = graph.astream(input, config, stream_mode=asked, subgraphs=True, **options)
    forwarded = Forwarded(frozenset(modes), subgraphs)
    around = FORWARDED.set(forwarded)
    try:
        async for path, mode, data in items:
            if not path and mode == "values":
                result = data
            if not path and mode == "updates" and isinstance(data, dict):
                interrupts.extend(data.get("__interrupt__", ()))
            if isinstance(observer, SurroundingsObserver) and forwarded.has(mode, path):
                observer.put_graph_event(mode, tuple(path), data)
    finally:
        FORWARDED.reset(around)
    if interrupts and isinstance(result, dict):
        return {**result, "__interrupt__": interrupts}
    return result
