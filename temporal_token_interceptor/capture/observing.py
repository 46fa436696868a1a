"""Who observes the model calls of this context, and which modes of a graph are forwarded from it.

LangChain reads the first variable when a run begins.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from langchain_core.callbacks import BaseCallbackHandler

OBSERVER: ContextVar[BaseCallbackHandler | None] = ContextVar("tti_observer", default=None)


def current_observer() -> BaseCallbackHandler | None:
    """Return who observes here, if anyone does."""
    return OBSERVER.get()


class Forwarded(NamedTuple):
    """What `stream_graph` forwards of the graph that runs here.

    Attributes:
        modes: LangGraph's stream modes.
        subgraphs: Whether of subgraphs, too.
    """

    modes: frozenset[str] = frozenset()
    subgraphs: bool = True

    def has(self, mode: str, path: tuple[str, ...]) -> bool:
        """Whether a mode is forwarded of the graph at a path."""
        return mode in self.modes and (self.subgraphs or not path)


_NOTHING = Forwarded()

FORWARDED: ContextVar[Forwarded] = ContextVar("tti_forwarded", default=_NOTHING)
"""Set around a graph by `stream_graph`."""
