"""Which call of a model runs within which: a router, a wrapper, a model that asks another one.

LangChain links runs to chains and tools, but not to a model whose own code calls a model. The stack shows
whether a model's own method is asking. For tasks and threads that such a method starts, a call is noted in a
context variable, by the wrapper of the two methods of `BaseChatModel` that all calls but `stream` and
`astream` go through (`forced_call.py`). The code of those two runs in the consumer's context, and what the
consumer calls meanwhile is no part of them: so calls in tasks that a model's own `_astream` starts have no
parent. Better none than a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from uuid import UUID

from langchain_core.language_models import BaseChatModel

_within: ContextVar[tuple[UUID, ...]] = ContextVar("tti_within_call", default=())

_asked_by: ContextVar[UUID | None] = ContextVar("tti_asked_by", default=None)

# The methods of a model that know its run: LangChain's give none to `_stream`, which they call.
_KNOW_THEIR_RUN = frozenset(
    {
        *("_generate", "_agenerate", "_generate_with_cache", "_agenerate_with_cache"),
        *("_stream", "_astream", "stream", "astream"),
    }
)
_MOST_FRAMES = 200
_MOST_CALLS = 16


@contextmanager
def within(run_id: UUID) -> Iterator[None]:
    """Note that the own code of a run's model runs in this context, and in tasks and threads that copy it."""
    entered = _within.set((run_id, *_within.get()[: _MOST_CALLS - 1]))
    try:
        yield
    finally:
        _within.reset(entered)


def calls_around() -> tuple[UUID | None, ...]:
    """Return the runs that the call that begins now may be within, innermost first."""
    return _asked_by.get(), *_within.get()


def note_caller(model_call: FrameType) -> None:
    """Note which model's own code is asking, if any; called in the context of each call that begins."""
    _asked_by.set(_run_on_stack(model_call.f_back))


def _run_on_stack(frame: FrameType | None) -> UUID | None:
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name in _KNOW_THEIR_RUN:
            found = frame.f_locals
            run_id = getattr(found.get("run_manager"), "run_id", None)
            if isinstance(found.get("self"), BaseChatModel) and isinstance(run_id, UUID):
                return run_id
        frame = frame.f_back
    return None
