"""Who observes the model calls of this context; LangChain reads the variable when a run begins."""

from __future__ import annotations

from contextvars import ContextVar

from langchain_core.callbacks import BaseCallbackHandler

OBSERVER: ContextVar[BaseCallbackHandler | None] = ContextVar("tti_observer", default=None)


def current_observer() -> BaseCallbackHandler | None:
    """Return who observes here, if anyone does."""
    return OBSERVER.get()
