"""LangGraph's stream modes as a reader asks for them, and the shapes in which their items come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.views.namespaces import Namespace

StreamMode = Literal["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"]
"""LangGraph's stream modes that travel."""

_MODES = frozenset(get_args(StreamMode))
_ELSEWHERE = {"tools": 'events_v2(include_types=["tool"]), or `run().tool_calls`, has tools'}


class Item(NamedTuple):
    """One item of one mode.

    Attributes:
        namespace: The subgraph, as LangGraph writes it: `("node:task-id", ...)`; empty for the graph.
        mode: The stream mode.
        chunk: What the mode says.
        cursor: Resumes after it; before it, where it shares an event with the next item.
        origin: The attempt that says it; None for a gap that belongs to none.
    """

    namespace: Namespace
    mode: str
    chunk: Any
    cursor: str
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The modes that a reader asked for, and so the shape of what it gets.

    Attributes:
        modes: Their names.
        is_list: Whether they came as a list: then each item has its mode.
        subgraphs: Whether to show subgraphs: then each item has its namespace.
    """

    modes: tuple[str, ...]
    is_list: bool
    subgraphs: bool

    @classmethod
    def of(cls, stream_mode: StreamMode | Sequence[StreamMode], *, subgraphs: bool) -> Choice:
        """Return the choice that arguments of `graph.astream` make.

        Raises:
            ConfigurationError: no such mode, or none at all.
        """
        is_list = not isinstance(stream_mode, str)
        modes = (stream_mode,) if isinstance(stream_mode, str) else tuple(dict.fromkeys(stream_mode))
        for mode in modes:
            if mode in _ELSEWHERE:
                raise ConfigurationError(f"stream_mode {mode!r} does not travel: {_ELSEWHERE[mode]}")
        if not modes or not _MODES.issuperset(modes):
            raise ConfigurationError(
                f"stream_mode must be one or more of {', '.join(get_args(StreamMode))}; not {stream_mode!r}"
            )
        return cls(modes, is_list, subgraphs)

    def shaped(self, item: Item) -> Any:
        """Return an item as `graph.astream` yields it."""
        match self.subgraphs, self.is_list:
            case True, True:
                return item.namespace, item.mode, item.chunk
            case True, False:
                return item.namespace, item.chunk
            case False, True:
                return item.mode, item.chunk
            case _:
                return item.chunk
