"""One call of a model as LangChain's `AsyncChatModelStream`.

It is fed with the events of LangChain's protocol, through its public `dispatch`.
"""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.language_models.chat_model_stream import AsyncChatModelStream

from temporal_token_interceptor.errors import CallNotCompleted, TokensMissing
from temporal_token_interceptor.events import Call, CallEnded, Gap, Origin
from temporal_token_interceptor.views.call_metadata import message_id
from temporal_token_interceptor.views.message_events import MessageEvent, MessageEvents, Said


class ModelCall(AsyncChatModelStream):
    """One call of a model: `.text`, `.reasoning`, `.tool_calls` and `.output`, each to iterate or to await.

    A call that failed, was cut off or lost something raises `CallNotCompleted` or `TokensMissing` once what
    there is of it has been read.

    Attributes:
        origin: The attempt.
        call: The call.
        superseded: Whether a newer attempt replaces it, also after it has completed.
    """

    def __init__(self, origin: Origin, call: Call) -> None:
        super().__init__(namespace=list(call.path), node=call.node_name, message_id=message_id(origin, call))
        self.origin = origin
        self.call = call
        self.superseded = False


class CallAdapter:
    """Feeds the stream of one call with its events."""

    def __init__(self, stream: ModelCall) -> None:
        self.stream = stream
        self._events = MessageEvents(stream.origin, stream.call)
        stream.dispatch(self._events.start)

    def add(self, event: Said) -> None:
        """Pass on an event of the call."""
        self._dispatch(self._events.add(event), event.cursor)

    def finish(self, end: CallEnded) -> None:
        """End the stream with its message, or with the reason that it has none."""
        self._dispatch(self._events.finish(end), end.cursor)

    def fail(self, error: Exception) -> None:
        """End the stream with an error."""
        self.stream.fail(error)

    def miss(self, gap: Gap) -> None:
        """Note a gap, if this call may miss something of it."""
        self._events.miss(gap)

    def _dispatch(self, made: Iterable[MessageEvent], cursor: str) -> None:
        for one in made:
            if one["event"] != "error":
                self.stream.dispatch(one)
            elif one["code"] == "missing":
                self.fail(TokensMissing((one["message"],), cursor))
            else:
                self.fail(CallNotCompleted(one["message"]))
