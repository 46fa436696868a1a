"""One call of a model as LangChain's `AsyncChatModelStream`.

It is fed with the events of LangChain's protocol, through its public `dispatch`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.language_models.chat_model_stream import (
    AsyncChatModelStream,
    AsyncProjection,
    SyncProjection,
)

from temporal_token_interceptor.events import Call, Origin
from temporal_token_interceptor.views.call_metadata import Source


class ModelCall(AsyncChatModelStream):
    """One call of a model: `.text`, `.reasoning`, `.tool_calls`, `.usage`, `.output`, to iterate or to await.

    A call that failed, was cut off or lost something raises `CallNotCompleted` or `TokensMissing` once what
    there is of it has been read.

    Attributes:
        origin: The attempt.
        call: The call; None of a message that a node returned whole.
        superseded: Whether a newer attempt replaces it, also after it has completed.
        usage: LangChain's `usage_metadata`, once the call has ended; None if the provider reported none.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(namespace=list(source.path), node=source.node, message_id=source.message_id)
        self.origin: Origin = source.origin
        self.call: Call | None = source.call
        self.superseded = False
        self.usage: AsyncProjection = AsyncProjection()

    def dispatch(self, event: Mapping[str, Any]) -> None:
        """Take in an event of LangChain's protocol."""
        super().dispatch(event)
        read_usage(event, self.usage)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        super().fail(error)
        self.usage.fail(error)

    def set_arequest_more(self, cb: Callable[[], Awaitable[bool]] | None) -> None:
        """Say what reads on: each projection calls it while it has nothing."""
        super().set_arequest_more(cb)
        self.usage.set_arequest_more(cb)


def read_usage(event: Mapping[str, Any], usage: AsyncProjection | SyncProjection) -> None:
    """Complete the usage of a call, if an event is its end."""
    if event["event"] == "message-finish":
        used = event.get("usage")
        if used is not None:
            usage.push(used)
        usage.complete(used)
