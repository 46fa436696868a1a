"""A call that is made to stream: the handler that makes it, and the repetition of a call that refuses to.

Importing this module wraps two methods of LangChain's `BaseChatModel`; without a trigger among the handlers
of a call both do nothing but call the original.
"""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult

from temporal_token_interceptor._guard import NO_INJECTION, Guard
from temporal_token_interceptor.capture.forced_result import check_end, mend
from temporal_token_interceptor.capture.forcing import REFUSALS, may_be_refusal

ForceStreaming = Literal["auto"] | bool

_T = TypeVar("_T")


class Trigger(BaseCallbackHandler):
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


MODEL_EVENTS = ("on_chat_model_start", "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error")


class ForcedCall(Trigger):
    """The trigger of one call: knows whether a chunk has come, at no cost for any but the first."""

    def __init__(self, trigger: Trigger, manager: Any) -> None:
        super().__init__(trigger.observer, trigger.force)
        self.has_begun = False
        self._manager = manager
        self.on_llm_new_token = self._on_first_token  # type: ignore[method-assign]
        self.on_stream_event = self._on_first_event  # type: ignore[method-assign]
        self._replace(trigger, self)

    def _on_first_token(self, token: Any, *, run_id: UUID, **facts: Any) -> None:
        self.has_begun = True
        self.observer.on_llm_new_token(token, run_id=run_id, **facts)
        of_call: Callable[[UUID], Any] | None = getattr(self.observer, "on_token_of", None)
        on_token = None if of_call is None else of_call(run_id)
        self.on_llm_new_token = on_token or self.observer.on_llm_new_token  # type: ignore[method-assign]

    def _on_first_event(self, event: Any, **facts: Any) -> None:
        self.has_begun = True
        self.on_stream_event = self.observer.on_stream_event  # type: ignore[method-assign]
        self.on_stream_event(event, **facts)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the call is worth repeating without a stream; never after an injected cancellation."""
        guard: Guard = getattr(self.observer, "guard", NO_INJECTION)
        return not self.has_begun and not guard.is_injected(error) and may_be_refusal(error)

    def streams_anyway(self, model: BaseChatModel) -> bool:
        """Whether the call would have streamed without us: its answer then has the traces of a stream."""
        others = (handler for handler in self._manager.handlers if handler is not self)
        return getattr(model, "streaming", False) is True or any(
            hasattr(handler, "tap_output_aiter") for handler in others
        )

    def release(self) -> None:
        """Let the rest of the call run as it would without us, still observed."""
        self._replace(self, self.observer)

    def _replace(self, old: BaseCallbackHandler, new: BaseCallbackHandler) -> None:
        handlers = self._manager.handlers
        self._manager.handlers = [new if handler is old else handler for handler in handlers]


def _forced(options: Mapping[str, Any]) -> ForcedCall | None:
    manager = options.get("run_manager")
    trigger = next((found for found in getattr(manager, "handlers", ()) if type(found) is Trigger), None)
    return None if trigger is None else ForcedCall(trigger, manager)


def _checked(model: BaseChatModel, call: ForcedCall, result: ChatResult) -> ChatResult:
    if call.has_begun:  # neither a cache hit nor a model that may not stream
        if not call.streams_anyway(model):
            mend(model, result)
        check_end(model, result)
    return result


def _generating(original: Callable[..., ChatResult]) -> Callable[..., ChatResult]:
    @wraps(original)
    def _generate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> ChatResult:
        call = _forced(kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            return _checked(self, call, original(self, *args, **kwargs))
        except Exception as error:
            if not call.may_repeat(error):
                raise
            refusal = error
        call.release()
        result = original(self, *args, **kwargs)
        REFUSALS.add(self, refusal)
        return result

    return _generate_with_cache


def _agenerating(original: Callable[..., Awaitable[ChatResult]]) -> Callable[..., Awaitable[ChatResult]]:
    @wraps(original)
    async def _agenerate_with_cache(self: BaseChatModel, *args: Any, **kwargs: Any) -> ChatResult:
        call = _forced(kwargs)
        if call is None:
            return await original(self, *args, **kwargs)
        try:
            return _checked(self, call, await original(self, *args, **kwargs))
        except asyncio.CancelledError as cancelled:
            # LangChain reports no end of a call that is cancelled; it would stay open until the attempt ends.
            call.observer.on_llm_error(cancelled, run_id=kwargs["run_manager"].run_id)
            raise
        except Exception as error:
            if not call.may_repeat(error):
                raise
            refusal = error
        call.release()
        result = await original(self, *args, **kwargs)
        REFUSALS.add(self, refusal)
        return result

    return _agenerate_with_cache


# The one place between "LangChain decides to stream" and "the call has failed": no callback repeats a call.
_PLAIN = "_generate_with_cache", "_agenerate_with_cache"
setattr(BaseChatModel, _PLAIN[0], _generating(getattr(BaseChatModel, _PLAIN[0])))
setattr(BaseChatModel, _PLAIN[1], _agenerating(getattr(BaseChatModel, _PLAIN[1])))
