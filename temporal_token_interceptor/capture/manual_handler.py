"""The handler of `deepagent-temporal`, for code that attaches one by hand; same signatures and behaviour.

With the interceptor on the worker it is not needed. It differs from its model in one thing: it is called
inline, so that tokens arrive in order and also where no event loop runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from temporal_token_interceptor._arguments import positive_number
from temporal_token_interceptor.capture.langchain_hooks import InlineHandler
from temporal_token_interceptor.events import TokenEvent


class TokenCapturingHandler(InlineHandler):
    """Hands every token of the model calls it is attached to to a function, as it comes.

    Calls are distinguished by order alone: with calls that run at the same time, use the interceptor.

    Args:
        node_name: Stands in every event.
        publish: Called with each event, in the model's own thread; it must not block.
        heartbeat_fn: Called with a word on progress every `heartbeat_interval` tokens, such as
            `activity.heartbeat`. It replaces the heartbeat details of the activity.
        heartbeat_interval: In tokens.
        attempt: The activity attempt, from 1.

    Raises:
        ConfigurationError: `heartbeat_interval` is not positive.
    """

    def __init__(
        self,
        node_name: str,
        publish: Callable[[TokenEvent], None],
        *,
        heartbeat_fn: Callable[..., None] | None = None,
        heartbeat_interval: int = 50,
        attempt: int = 1,
    ) -> None:
        super().__init__()
        positive_number("heartbeat_interval", heartbeat_interval, unit="tokens")
        self._node_name = node_name
        self._publish = publish
        self._heartbeat_fn = heartbeat_fn
        self._heartbeat_interval = heartbeat_interval
        self._attempt = attempt
        self._index = 0

    @property
    def token_count(self) -> int:
        """How many tokens of the current call were captured so far."""
        return self._index

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._index = 0

    def on_llm_new_token(
        self,
        token: str | list[Any],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        if not isinstance(chunk, ChatGenerationChunk):
            return
        text = token if isinstance(token, str) else chunk.text  # a list where content comes in blocks
        self._publish(TokenEvent(text, self._node_name, self._index, attempt=self._attempt))
        self._index += 1
        if self._heartbeat_fn is not None and self._index % self._heartbeat_interval == 0:
            with suppress(RuntimeError):  # outside of an activity there is nothing to beat
                self._heartbeat_fn(f"node={self._node_name} tokens={self._index}")

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._publish(TokenEvent("", self._node_name, self._index, is_final=True, attempt=self._attempt))


def create_token_handler(
    node_name: str,
    sink: Callable[[TokenEvent], None],
    *,
    heartbeat_fn: Callable[..., None] | None = None,
    heartbeat_interval: int = 50,
    attempt: int = 1,
) -> TokenCapturingHandler:
    """Return a `TokenCapturingHandler`; `sink` is its `publish`."""
    return TokenCapturingHandler(
        node_name,
        sink,
        heartbeat_fn=heartbeat_fn,
        heartbeat_interval=heartbeat_interval,
        attempt=attempt,
    )
