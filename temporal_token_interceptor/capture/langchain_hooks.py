"""The only door to what LangChain may change: its configure hooks, and our answers to its quirks.

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

import inspect
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.tracers.context import register_configure_hook

from temporal_token_interceptor._guard import NO_INJECTION, Guard
from temporal_token_interceptor.capture.forced_call import ForceStreaming, Trigger
from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.capture.nesting import note_caller
from temporal_token_interceptor.capture.observing import OBSERVER, current_observer
from temporal_token_interceptor.capture.same_author import has_own_methods, streams_as_it_generates
from temporal_token_interceptor.capture.several_answers import asks_for_several

NO_FORCE_TAG = "tti:noforce"
"""A call with this tag is left to stream or not as it would without us."""

logger = logging.getLogger(__name__)

_getframe = sys._getframe  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented


class InlineHandler(BaseCallbackHandler):
    """A handler that LangChain calls where the event happens.

    A sync handler that is not inline is called on a thread pool: 30 times the cost, and without a running
    loop. In calls of completion models LangChain sees it through `_BesideOthers`.
    """

    run_inline = True


class _BesideOthers:
    """An inline handler within one call of a completion model, where it must not make others miss its start.

    `AsyncCallbackManager.on_llm_start` skips every other handler once one is inline (langchain#39633), so
    there, and only there, this one denies it; it is called inline all the same.
    """

    def __init__(self, handler: InlineHandler) -> None:
        self.handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handler, name)

    @property
    def run_inline(self) -> bool:
        """Whether to be called inline: yes, but see the class."""
        caller = _getframe(1)
        if id(caller.f_code) not in _ON_LLM_START:
            return True
        return any(_is_foreign_inline(handler) for handler in _handlers_of(caller))


def _wrap_inline_handlers(manager: AsyncCallbackManager) -> None:
    """Put ours into `_BesideOthers`: not for chat models, which are asked about them for each token."""
    manager.handlers = [
        cast("BaseCallbackHandler", _BesideOthers(handler)) if isinstance(handler, InlineHandler) else handler
        for handler in manager.handlers
    ]


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
    return not isinstance(handler, _BesideOthers) and handler.run_inline


_telemetry: ContextVar[BaseCallbackHandler | None] = ContextVar("tti_telemetry", default=None)
_trigger: ContextVar[Trigger | None] = ContextVar("tti_trigger", default=None)


class _ForEachCall:
    """Stands in for a ContextVar of the trigger: its value depends on the call that asks.

    LangChain asks from `_configure`, called by `configure`, called by the model's `generate` or `agenerate`,
    when all other handlers of the call are known. Others wrap any of these (Sentry wraps `_configure`), so
    frames that are not LangChain's are passed over; the first frame of LangChain that is neither ends the
    search: what asks is no model. Without a model the answer is no trigger, and the call arrives whole at
    its end.
    """

    def get(self) -> BaseCallbackHandler | None:
        try:
            return self._handler(_getframe(1))
        except Exception as error:  # noqa: BLE001 - a model's attribute may be code of the user's that raises
            guard: Guard = getattr(current_observer(), "guard", NO_INJECTION)
            guard.handle(error, _log_failure)
            return None

    @staticmethod
    def _handler(asking: FrameType) -> BaseCallbackHandler | None:
        frame = model_frame(asking)
        manager = None if frame is None else asking.f_locals.get("callback_manager")
        if frame is None or not isinstance(manager, BaseCallbackManager):
            return None
        if frame.f_code.co_filename == _COMPLETION_MODELS_FILE:
            if isinstance(manager, AsyncCallbackManager):
                _wrap_inline_handlers(manager)
            return None
        if (observer := current_observer()) is None:
            return None
        trigger = _trigger.get()
        if trigger is not None and observer not in manager.handlers:
            return trigger  # LangChain asks again at once, where it was given one
        note_caller(frame)
        _models_found.set()
        if trigger is None or not _may_stream(frame, trigger):
            return None
        # Of this call only: its children still inherit the observer.
        manager.handlers = [handler for handler in manager.handlers if handler is not observer]
        return trigger


def _log_failure(error: Exception) -> None:
    logger.warning(
        "could not find out whether a model may be made to stream (%s): its call arrives whole, at its end",
        type(error).__name__,
    )


def _may_stream(frame: FrameType, trigger: Trigger) -> bool:
    """Whether a call may be made to stream."""
    if frame.f_code.co_name not in _PLAIN_CALLS:
        return False  # the caller streams by itself, or something within the model asks
    found = frame.f_locals
    model = found.get("self")
    if not isinstance(model, BaseChatModel):
        return False
    is_async = frame.f_code.co_name == "agenerate"
    if trigger.force == "auto" and (
        has_own_methods(model) or not streams_as_it_generates(type(model), is_async=is_async)
    ):
        return False
    if NO_FORCE_TAG in _tags(found, model) or model in REFUSALS:
        return False
    return not asks_for_several(model, found.get("kwargs") or {})


_models_found = threading.Event()
_warned_of_hidden_models = threading.Event()


def warn_of_hidden_model() -> None:
    """Log once that streaming cannot be forced: a model began to run, and no call of one was ever found."""
    if _trigger.get() is not None and not _models_found.is_set() and not _warned_of_hidden_models.is_set():
        _warned_of_hidden_models.set()
        logger.warning(
            "a model runs and its call was not found on the stack: another library has changed how LangChain "
            "calls models, so `invoke` does not stream and text arrives at the end of each call; remove that "
            "patch, or call `stream`/`astream` (LangChain's files are expected in %s)",
            _CHAT_MODELS_FILE,
        )


_PLAIN_CALLS = frozenset({"generate", "agenerate"})
_CONFIGURING = frozenset({"configure", "_configure"})
_MOST_FOREIGN = 32  # frames of other libraries between the hook and the model


def model_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the model's call above one that asks; None if no model asks."""
    foreign = 0
    while frame is not None and foreign <= _MOST_FOREIGN:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if file in _MODEL_FILES:
            return frame
        if file.startswith(_LANGCHAIN_FOLDER):
            if name not in _CONFIGURING:
                return None
        else:
            foreign += 1
        frame = frame.f_back
    return None


_CHAT_MODELS_FILE = inspect.getfile(BaseChatModel)
_COMPLETION_MODELS_FILE = inspect.getfile(BaseLLM)
_MODEL_FILES = frozenset({_CHAT_MODELS_FILE, _COMPLETION_MODELS_FILE})
_LANGCHAIN_FOLDER = os.path.dirname(os.path.dirname(_CHAT_MODELS_FILE)) + os.sep  # noqa: PTH120 - code names are text


def _tags(found: dict[str, Any], model: BaseChatModel) -> set[str]:
    callbacks = found.get("callbacks")
    return {*(found.get("tags") or ()), *(model.tags or ()), *(getattr(callbacks, "tags", None) or ())}


# There is no way to unregister a hook, so each is registered once; without an observer they cost a look-up.
register_configure_hook(OBSERVER, inheritable=True)
register_configure_hook(_telemetry, inheritable=True)
register_configure_hook(
    cast("ContextVar[Any]", _ForEachCall()), inheritable=False
)  # last: it sees the others


@contextmanager
def observed_by(observer: BaseCallbackHandler, *, force_streaming: ForceStreaming) -> Iterator[None]:
    """Within this context, and in tasks and threads that copy it, every model call reports to `observer`."""
    observing = OBSERVER.set(observer)
    triggering = _trigger.set(Trigger(observer, force_streaming) if force_streaming else None)
    try:
        yield
    finally:
        _trigger.reset(triggering)
        OBSERVER.reset(observing)


@contextmanager
def also_observed_by(handler: BaseCallbackHandler) -> Iterator[None]:
    """Within this context, and in tasks and threads that copy it, every run reports to `handler` as well."""
    token = _telemetry.set(handler)
    try:
        yield
    finally:
        _telemetry.reset(token)


def is_instrumented() -> bool:
    """Whether another library reports LangChain's model calls to OpenTelemetry in this process.

    Three public instrumentations (openinference, traceloop, OpenTelemetry's own) wrap this constructor;
    LangSmith is recognized by its environment. Those of a provider's client, such as openai's, are not seen.
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
