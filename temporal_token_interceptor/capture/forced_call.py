"""A call that is made to stream: the handler that makes it, and the repetition of a call that refuses to.

Importing this module wraps two methods of LangChain's `BaseChatModel`; without an observer both do nothing
but call the original. They also note for `nesting.py` that a model's own code runs.
"""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar
from uuid import UUID

from langchain_core.caches import BaseCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from temporal_token_interceptor._guard import NO_INJECTION, Guard
from temporal_token_interceptor.capture.forced_result import (
    NothingSaid,
    check_end,
    check_said,
    has_end,
    has_usage,
    is_of_merging,
    mend,
    says_something,
)
from temporal_token_interceptor.capture.forcing import REFUSALS, failed_in, may_be_refusal
from temporal_token_interceptor.capture.nesting import within
from temporal_token_interceptor.capture.observing import current_observer
from temporal_token_interceptor.errors import IncompleteAnswer

logger = logging.getLogger(__name__)

ForceStreaming = Literal["auto"] | bool

_T = TypeVar("_T")


class Trigger(BaseCallbackHandler):
    """Makes one call stream by being there, and takes the place of the observer in it.

    It passes the call's events on to the observer, which is therefore not called itself: two handlers would
    cost LangChain 7 % more for each token. It is given to chat models only, so that it is never asked from
    `on_llm_start` and can say plainly that it is inline: that is another 4 %.
    """

    run_inline = True
    ignore_llm = False
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, observer: BaseCallbackHandler, force: ForceStreaming) -> None:
        super().__init__()
        self.observer = observer
        self.force: ForceStreaming = force
        self.raise_error = observer.raise_error
        for event in MODEL_EVENTS:
            setattr(self, event, getattr(observer, event))

    def tap_output_iter(self, run_id: UUID, output: Iterator[_T]) -> Iterator[_T]:
        """Pass through."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[_T]) -> AsyncIterator[_T]:
        """Pass through."""
        return output


_CALLBACK = "on_llm_new_token"
MODEL_EVENTS = ("on_chat_model_start", "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error")


class ForcedCall(Trigger):
    """The trigger of one call: knows whether a chunk has come, at no cost for any but the first."""

    def __init__(self, trigger: Trigger, model: BaseChatModel, manager: Any) -> None:
        super().__init__(trigger.observer, trigger.force)
        self.has_begun = False
        self.guard: Guard = getattr(self.observer, "guard", NO_INJECTION)
        self._model = model
        self._manager = manager
        self._first_facts: dict[str, Any] = {}
        self._has_end = False
        self._says_something = False
        self._has_usage = False
        self.on_llm_new_token = self._on_first_token  # type: ignore[method-assign]
        self.on_stream_event = self._on_first_event  # type: ignore[method-assign]
        self._replace(trigger, self)

    def _on_first_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **facts: Any) -> None:
        self.has_begun = True
        self._first_facts = dict(getattr(getattr(chunk, "message", None), "response_metadata", None) or {})
        of_call: Callable[[UUID], Any] | None = getattr(self.observer, "on_token_of", None)
        if _is_cached(self._model):
            self.on_llm_new_token = self._on_cached_token  # type: ignore[method-assign]
            self.on_llm_new_token(token, run_id=run_id, chunk=chunk, **facts)
            return
        self.observer.on_llm_new_token(token, run_id=run_id, chunk=chunk, **facts)
        on_token = None if of_call is None else of_call(run_id)
        self.on_llm_new_token = on_token or self.observer.on_llm_new_token  # type: ignore[method-assign]

    def _on_cached_token(self, token: Any, *, chunk: Any = None, **facts: Any) -> None:
        """Refuse the last chunk of half an answer: after it, LangChain would keep the answer in its cache."""
        if isinstance(chunk, ChatGenerationChunk):
            self._says_something = self._says_something or says_something(chunk)
            self._has_usage = self._has_usage or has_usage(chunk)
            is_end = has_end(chunk)
            self._has_end = self._has_end or is_end
            is_last = getattr(chunk.message, "chunk_position", None) == "last"
            if is_last and not self._has_end:
                check_end(self._model, ())
            if not self._says_something and (is_end or (is_last and not (self._has_end or self._has_usage))):
                check_said(self._model, [chunk])
        self.observer.on_llm_new_token(token, chunk=chunk, **facts)

    def _on_first_event(self, event: Any, **facts: Any) -> None:
        self.has_begun = True
        self.on_stream_event = self.observer.on_stream_event  # type: ignore[method-assign]
        self.on_stream_event(event, **facts)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the call is worth repeating without a stream; never after an injected cancellation."""
        if self.guard.is_injected(error):
            return False
        if isinstance(error, NothingSaid):
            return True
        if failed_in(error) == _CALLBACK:  # of the user's, which a plain call does not call
            return not isinstance(error, IncompleteAnswer) and not self._streams_anyway()
        return may_be_refusal(error) if not self.has_begun else is_of_merging(error)

    def checked(self, result: ChatResult) -> ChatResult:
        """Return the answer of the call, as a plain call returns it.

        Raises:
            IncompleteAnswer: it is half an answer.
            NothingSaid: it may be a refusal, which the stream left out.
        """
        if not self.has_begun:  # a cache hit, or a model that may not stream
            return result
        try:
            if not self._streams_anyway():
                mend(self._model, result, self._first_facts, self._repeated_usage())
                check_said(self._model, result.generations)
            check_end(self._model, result.generations)
        except (IncompleteAnswer, NothingSaid):
            raise
        except Exception as error:  # noqa: BLE001 - a model's attribute may be code of the user's that raises
            self.guard.handle(error, _log_failure)
        return result

    def _repeated_usage(self) -> Mapping[str, Any] | None:
        of_call = getattr(self.observer, "repeated_usage_of", None)
        return None if of_call is None else of_call(self._manager.run_id)

    def _streams_anyway(self) -> bool:
        """Whether the call would have streamed without us: its answer then has the traces of a stream."""
        others = (handler for handler in self._manager.handlers if handler is not self)
        return getattr(self._model, "streaming", False) is True or any(
            hasattr(handler, "tap_output_aiter") for handler in others
        )

    def release(self) -> None:
        """Let the rest of the call run as it would without us, still observed."""
        self._replace(self, self.observer)

    def _replace(self, old: BaseCallbackHandler, new: BaseCallbackHandler) -> None:
        handlers = self._manager.handlers
        self._manager.handlers = [new if handler is old else handler for handler in handlers]


def _forced(model: BaseChatModel, manager: Any) -> ForcedCall | None:
    trigger = next((found for found in getattr(manager, "handlers", ()) if type(found) is Trigger), None)
    if trigger is None:
        return None
    call = ForcedCall(trigger, model, manager)
    of_call: Callable[[UUID], Any] | None = getattr(trigger.observer, "on_token_of", None)
    if of_call is not None and of_call(manager.run_id) is None:
        call.release()  # the worker's filters leave it out: it runs as it would without us
        return None
    return call


def _is_refusal(error: Exception) -> bool:
    """Whether the model is to be remembered: not for one answer, or for a callback of the user's."""
    return not isinstance(error, NothingSaid) and failed_in(error) != _CALLBACK


def _is_cached(model: BaseChatModel) -> bool:
    return model.cache is not False and (isinstance(model.cache, BaseCache) or get_llm_cache() is not None)


def _log_failure(error: Exception) -> None:
    logger.warning("could not check the answer of a call that was made to stream (%s)", type(error).__name__)


def _generating(original: Callable[..., ChatResult]) -> Callable[..., ChatResult]:
    @wraps(original)
    def _generate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> ChatResult:
        manager = kwargs.get("run_manager")
        if manager is None or current_observer() is None:
            return original(self, *args, **kwargs)
        call = _forced(self, manager)
        try:
            with within(manager.run_id):
                result = original(self, *args, **kwargs)
            return result if call is None else call.checked(result)
        except Exception as error:
            if call is None or not call.may_repeat(error):
                raise
            refusal = error
        call.release()
        result = _generate_with_cache(self, *args, **kwargs)
        if _is_refusal(refusal):
            REFUSALS.add(self, refusal)
        return result

    return _generate_with_cache


def _agenerating(original: Callable[..., Awaitable[ChatResult]]) -> Callable[..., Awaitable[ChatResult]]:
    @wraps(original)
    async def _agenerate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> ChatResult:
        manager = kwargs.get("run_manager")
        if manager is None or (observer := current_observer()) is None:
            return await original(self, *args, **kwargs)
        call = _forced(self, manager)
        try:
            with within(manager.run_id):
                result = await original(self, *args, **kwargs)
            return result if call is None else call.checked(result)
        except asyncio.CancelledError as cancelled:
            # LangChain reports no end of a cancelled call; it would stay open until the attempt ends.
            observer.on_llm_error(cancelled, run_id=manager.run_id)
            raise
        except Exception as error:
            if call is None or not call.may_repeat(error):
                raise
            refusal = error
        call.release()
        result = await _agenerate_with_cache(self, *args, **kwargs)
        if _is_refusal(refusal):
            REFUSALS.add(self, refusal)
        return result

    return _agenerate_with_cache


# The one place between "LangChain decides to stream" and "the call has failed": no callback repeats a call.
_PLAIN = "_generate_with_cache", "_agenerate_with_cache"
setattr(BaseChatModel, _PLAIN[0], _generating(getattr(BaseChatModel, _PLAIN[0])))
setattr(BaseChatModel, _PLAIN[1], _agenerating(getattr(BaseChatModel, _PLAIN[1])))
