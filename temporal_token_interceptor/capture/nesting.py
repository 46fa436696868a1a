"""Which call of a model runs within which: a router, a wrapper, a model that asks another one.

LangChain links runs to chains and tools, but not to a model whose own code calls a model. The stack shows
whether a model's own method is asking. For tasks and threads that such a method starts, a call is noted in a
context variable, by wrapping the two methods of `BaseChatModel` that all calls but `stream` and `astream` go
through. The code of those two runs in the consumer's context, and what the consumer calls meanwhile is no
part of them: so calls in tasks that a model's own `_astream` starts have no parent.
Better none than a wrong one.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from types import FrameType
from typing import Any, cast
from uuid import UUID

from langchain_core.language_models import BaseChatModel
from langchain_core.tracers.context import register_configure_hook

from temporal_token_interceptor.capture.langchain_hooks import current_observer, model_frame

_within: ContextVar[UUID | None] = ContextVar("tti_within_call", default=None)
_asked_by: ContextVar[UUID | None] = ContextVar("tti_asked_by", default=None)

_getframe = sys._getframe  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented

# The methods of a model that know its run; LangChain's `stream` gives none to `_stream`, which it calls.
_KNOW_THEIR_RUN = frozenset({"_generate", "_agenerate", "_stream", "_astream", "stream", "astream"})
_MOST_FRAMES = 200


def calls_around() -> tuple[UUID | None, UUID | None]:
    """Return the runs that the call that begins now may be within, innermost first."""
    return _asked_by.get(), _within.get()


class _Asking:
    """Stands in for a ContextVar of a handler; LangChain reads it in the context of each call that begins."""

    def get(self) -> None:
        """Note which model's own code is asking, if any; never return a handler."""
        if current_observer() is not None and (frame := model_frame(_getframe(1))) is not None:
            _asked_by.set(_run_on_stack(frame.f_back))


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


def _noting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def _generate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        run_id = getattr(kwargs.get("run_manager"), "run_id", None)
        if run_id is None or current_observer() is None:
            return original(self, *args, **kwargs)
        token = _within.set(run_id)
        try:
            return original(self, *args, **kwargs)
        finally:
            _within.reset(token)

    return _generate_with_cache


def _noting_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)
    async def _agenerate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        run_id = getattr(kwargs.get("run_manager"), "run_id", None)
        if run_id is None or current_observer() is None:
            return await original(self, *args, **kwargs)
        token = _within.set(run_id)
        try:
            return await original(self, *args, **kwargs)
        finally:
            _within.reset(token)

    return _agenerate_with_cache


_PLAIN = "_generate_with_cache", "_agenerate_with_cache"
setattr(BaseChatModel, _PLAIN[0], _noting(getattr(BaseChatModel, _PLAIN[0])))
setattr(BaseChatModel, _PLAIN[1], _noting_async(getattr(BaseChatModel, _PLAIN[1])))

register_configure_hook(cast("ContextVar[Any]", _Asking()), inheritable=False)
