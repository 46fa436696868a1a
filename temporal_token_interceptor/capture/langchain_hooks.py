"""The only door to what LangChain may change: two configure hooks, and two answers to its quirks.

The pair of handlers (measured against the test suites of langchain-core, langchain and langgraph):

* An *observer*, inheritable, sees every model call below an activity. A plain `BaseCallbackHandler`: it
  changes nothing.
* A *trigger*, not inheritable, has the two `tap_output` methods by which LangChain knows a streaming
  handler, and so makes `invoke` and `ainvoke` stream; otherwise it is the observer. It is not inheritable
  because LangChain taps only the first streaming handler: an inherited one would take the events away
  from a user's own `astream_events`. It matches by structure, not by inheritance: LangGraph looks at
  the class and would run its graphs differently.

Each quirk answered here has a test that fails loudly when LangChain changes
(`tests/unit/test_langchain_canary.py`).
"""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import CodeType, FrameType
from typing import Any, Literal, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.tracers.context import register_configure_hook

ForceStreaming = Literal["auto"] | bool

NO_FORCE_TAG = "tti:noforce"
"""A call with this tag is left to stream or not as it would without us."""

_T = TypeVar("_T")

_getframe = sys._getframe  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented


class InlineHandler(BaseCallbackHandler):
    """A handler that LangChain calls where the event happens, and that never makes others miss theirs.

    A sync handler that is not inline is called on a thread pool: 30 times the cost, and without a running
    loop. But `AsyncCallbackManager.on_llm_start` skips every other handler once one says that it is inline
    (langchain#39633), so there, and only there, this one denies it; it is called inline all the same.
    """

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Whether to be called inline: yes, but see the class."""
        caller = _getframe(1)
        if id(caller.f_code) not in _ON_LLM_START:
            return True
        return any(_is_foreign_inline(handler) for handler in _handlers_of(caller))


def _nested_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # before Python 3.12 a comprehension is a function of its own
            yield from _nested_code(constant)


_ON_LLM_START = {id(code) for code in _nested_code(AsyncCallbackManager.on_llm_start.__code__)}


def _handlers_of(frame: FrameType | None) -> list[BaseCallbackHandler]:
    while frame is not None and id(frame.f_code) in _ON_LLM_START:
        manager = frame.f_locals.get("self")
        if isinstance(manager, AsyncCallbackManager):
            return manager.handlers
        frame = frame.f_back
    return []


def _is_foreign_inline(handler: BaseCallbackHandler) -> bool:
    return not isinstance(handler, InlineHandler) and handler.run_inline


class _Trigger(BaseCallbackHandler):
    """Makes one call stream by being there, and takes the place of the observer in it.

    It passes the call's events on to the observer, which is therefore not called itself: two handlers would
    cost LangChain 7 % more for each token. It is given to chat models only, so that it is never asked from
    `on_llm_start` and can say plainly that it is inline: that is another 4 %.
    """

    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, observer: BaseCallbackHandler, force: ForceStreaming) -> None:
        super().__init__()
        self.observer = observer
        self.force = force
        self.raise_error = observer.raise_error
        for event in _MODEL_EVENTS:
            setattr(self, event, getattr(observer, event))

    def tap_output_iter(self, run_id: UUID, output: Iterator[_T]) -> Iterator[_T]:
        """Pass through."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[_T]) -> AsyncIterator[_T]:
        """Pass through."""
        return output


_MODEL_EVENTS = ("on_chat_model_start", "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error")

_observer: ContextVar[BaseCallbackHandler | None] = ContextVar("tti_observer", default=None)
_telemetry: ContextVar[BaseCallbackHandler | None] = ContextVar("tti_telemetry", default=None)
_trigger: ContextVar[_Trigger | None] = ContextVar("tti_trigger", default=None)


class _TriggerForModel:
    """Stands in for a ContextVar of the trigger: its value depends on the model that asks.

    LangChain asks from `_configure`, called by `configure`, called by the model's `generate` or
    `agenerate`: the model is found three frames up, the handlers of the call in the first. Found nothing,
    the answer is no trigger, and the call arrives whole at its end.
    """

    def get(self) -> BaseCallbackHandler | None:
        trigger = _trigger.get()
        if trigger is None:
            return None
        try:
            frame = _getframe(3)
        except ValueError:
            return None
        is_async = frame.f_code is _AGENERATE
        if not is_async and frame.f_code is not _GENERATE:
            return None
        found = frame.f_locals
        model = found.get("self")
        manager = _getframe(1).f_locals.get("callback_manager")
        if not isinstance(model, BaseChatModel) or not isinstance(manager, BaseCallbackManager):
            return None
        if trigger.force == "auto" and not streams_as_it_generates(type(model), is_async=is_async):
            return None
        if NO_FORCE_TAG in _tags(found, model):
            return None
        # Of this call only: its children still inherit the observer.
        manager.handlers = [handler for handler in manager.handlers if handler is not trigger.observer]
        return trigger


_GENERATE = BaseChatModel.generate.__code__
_AGENERATE = BaseChatModel.agenerate.__code__


def _tags(found: dict[str, Any], model: BaseChatModel) -> set[str]:
    callbacks = found.get("callbacks")
    return {*(found.get("tags") or ()), *(model.tags or ()), *(getattr(callbacks, "tags", None) or ())}


@cache
def streams_as_it_generates(model: type[BaseChatModel], *, is_async: bool) -> bool:
    """Whether streaming a model runs the same code of its author as not streaming it.

    A subclass that overrides `_generate` to redact, guard or count, and inherits `_stream`, would be
    bypassed by streaming. So the streaming method has to be defined at least as deep in the class order
    as both plain ones. LangChain's generic fake is excluded: its `_stream` loses tool calls and usage.
    """
    if issubclass(model, GenericFakeChatModel):
        return False
    stream = _depth(model, "_stream")
    if is_async and _depth(model, "_astream") < _BASE:
        stream = _depth(model, "_astream")
    return stream < _BASE and stream <= min(_depth(model, "_generate"), _depth(model, "_agenerate"))


_BASE = 1_000_000


def _depth(model: type[BaseChatModel], method: str) -> int:
    """How far from the class itself a method is defined; `_BASE` if only by LangChain's base class."""
    for depth, cls in enumerate(model.__mro__):
        if cls is BaseChatModel:
            return _BASE
        if method in vars(cls):
            return depth
    return _BASE


# There is no way to unregister a hook, so both are registered once and cost a look-up where nobody listens.
register_configure_hook(_observer, inheritable=True)
register_configure_hook(_telemetry, inheritable=True)
register_configure_hook(cast("ContextVar[Any]", _TriggerForModel()), inheritable=False)


@contextmanager
def observed_by(observer: BaseCallbackHandler, *, force_streaming: ForceStreaming) -> Iterator[None]:
    """Within this context, and in tasks and threads that copy it, every model call reports to `observer`."""
    observing = _observer.set(observer)
    triggering = _trigger.set(_Trigger(observer, force_streaming) if force_streaming else None)
    try:
        yield
    finally:
        _trigger.reset(triggering)
        _observer.reset(observing)


def current_observer() -> BaseCallbackHandler | None:
    """Return who observes here, if anyone does."""
    return _observer.get()


@contextmanager
def also_observed_by(handler: BaseCallbackHandler) -> Iterator[None]:
    """Within this context, and in tasks and threads that copy it, every run reports to `handler` as well."""
    token = _telemetry.set(handler)
    try:
        yield
    finally:
        _telemetry.reset(token)


def is_instrumented() -> bool:
    """Whether somebody else tells OpenTelemetry of LangChain's model calls in this process.

    Three public instrumentations (openinference, traceloop, OpenTelemetry's own) wrap this constructor;
    LangSmith is told by its environment. Those of a provider's client, such as openai's, are not seen here.
    """
    if hasattr(BaseCallbackManager.__init__, "__wrapped__"):
        return True
    if not _is_on("TRACING", "TRACING_V2"):
        return False
    mode = next((os.environ[name] for name in _langsmith("TRACING_MODE") if name in os.environ), "")
    return mode.lower() in ("otel", "hybrid") if mode else _is_on("OTEL_ENABLED", "OTEL_ONLY")


def _langsmith(*names: str) -> list[str]:
    return [f"{prefix}_{name}" for name in names for prefix in ("LANGSMITH", "LANGCHAIN")]


def _is_on(*names: str) -> bool:
    return any(os.environ.get(name, "").lower() in ("true", "1") for name in _langsmith(*names))
