"""One call of a model as LangChain's `ChatModelStream`, for threads: it is read where it is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models.chat_model_stream import ChatModelStream, SyncProjection

from temporal_token_interceptor.events import Call, Origin
from temporal_token_interceptor.views.model_call import read_usage
from temporal_token_interceptor.views.run_calls import QueuedCall

Take = Callable[[], Sequence[Mapping[str, Any]]]
"""Waits for the next events of a call; none at its end. Raises what it ends with."""


class BlockingModelCall(ChatModelStream):
    """One call of a model: `.text`, `.reasoning`, `.tool_calls`, `.usage`, to iterate, and `.output`.

    What it has so far is what was read: `.output`, `str(call.text)` and a loop read on. For one thread at a
    time. A call that failed, was cut off or lost something raises `CallNotCompleted` or `TokensMissing` once
    what there is of it has been read.

    Attributes:
        origin: The attempt.
        call: The call; None of a message that a node returned whole.
        usage: LangChain's `usage_metadata`, once the call has ended; None if the provider reported none.
    """

    def __init__(self, queued: QueuedCall, take: Take) -> None:
        source = queued.source
        super().__init__(namespace=list(source.path), node=source.node, message_id=source.message_id)
        self.origin: Origin = source.origin
        self.call: Call | None = source.call
        self.usage: SyncProjection = SyncProjection()
        self._queued = queued
        self._take = take
        self.set_request_more(self._read)
        self.usage.set_request_more(self._read)

    @property
    def superseded(self) -> bool:
        """Whether a newer attempt replaces it, also after it has completed."""
        return self._queued.superseded

    def dispatch(self, event: Mapping[str, Any]) -> None:
        """Take in an event of LangChain's protocol."""
        super().dispatch(event)
        read_usage(event, self.usage)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        super().fail(error)
        self.usage.fail(error)

    def _read(self) -> bool:
        """Read on; whether there may be more."""
        if self.done:
            return False
        try:
            events = self._take()
        except Exception as error:  # noqa: BLE001 - each projection raises it
            self.fail(error)
            return False
        for event in events:
            self.dispatch(event)
        return bool(events)
