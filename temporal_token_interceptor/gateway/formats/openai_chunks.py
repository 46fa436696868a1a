"""Changes as chunks of OpenAI's chat completions: what `client.chat.completions` and many chat pages read.

The protocol has one text and no way to take anything back, so it is read with `on_retry="hold"`. Where models
write side by side, one is sent after the other, in the order in which they began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from temporal_token_interceptor.gateway.formats.frames import PARTS, Frame, FrameEncoder, name_of
from temporal_token_interceptor.gateway.formats.openai_usage import usage_of
from temporal_token_interceptor.views.changes import Change, Item, after_units

_LOST = "text that was sent has been taken back, which chat completions cannot do: ask again"


class ChatCompletionsEncoder(FrameEncoder):
    """Encodes for `chat.completions.create(stream=True)`.

    Args:
        completion_id: The id of the completion.
        model: What the client is shown as the model.
        created: Seconds since 1970.
        with_usage: Whether the client asked for what the calls used (`stream_options.include_usage`).
    """

    name = "chat-completions"

    def __init__(self, completion_id: str, *, model: str, created: int, with_usage: bool = False) -> None:
        super().__init__()
        self.facts = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._with_usage = with_usage
        self._waiting: deque[str] = deque()  # what was opened and is not sent whole, in order
        self._sent = -1  # UTF-16 units of the first of these; -1 before its beginning
        self._tool_calls = 0
        self._has_ended = False

    def first(self) -> Iterable[Frame]:
        """Return the role, which clients want to have before anything else."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its chunks; after an end there are none."""
        if self._has_ended:
            return
        if change.op == "remove" and self._was_sent(change):
            self._has_ended = True
            yield _error(_LOST)
            return
        self.view.fold(change)
        if change.op == "open" and change.kind in PARTS:
            self._waiting.append(change.id)
        elif change.op == "remove":
            self._waiting = deque(one for one in self._waiting if one in self.view.items)
        yield from self._ready()
        if change.op == "end":
            self._has_ended = True
            yield from self._end(change.data)

    def failed(self, status: int, detail: str) -> Iterable[Frame]:  # noqa: ARG002 - it has no place for it
        """Return an error, which clients raise."""
        return [_error(detail)]

    def event(self, frame: Frame) -> bytes:
        """Return a chunk; after the last one, the protocol's own end."""
        return super().event(frame) + (b"data: [DONE]\n\n" if self._is_last(frame) else b"")

    def _is_last(self, frame: Frame) -> bool:
        if "error" in frame:
            return True
        if self._with_usage:
            return not frame["choices"]
        return frame["choices"][0]["finish_reason"] is not None

    def _was_sent(self, change: Change) -> bool:
        """Whether something is taken back that the client has."""
        waiting = set(self._waiting)
        if self._sent >= 0:
            waiting.discard(self._waiting[0])
        gone = [self.view.items[one] for one in change.data if one in self.view.items]
        return any(item.kind in PARTS and item.id not in waiting for item in gone)

    def _ready(self) -> Iterator[Frame]:
        """Send what can be sent: of one item at a time."""
        while self._waiting:
            item = self.view.items[self._waiting[0]]
            if self._sent < 0:
                self._sent = 0
                if item.kind == "tool_call":
                    yield self._chunk({"tool_calls": [self._tool_call(item)]})
            if item.length > self._sent:
                text, self._sent = after_units(item.text, self._sent), item.length
                yield self._chunk(self._delta(item, text))
            if item.open:
                return
            self._waiting.popleft()
            self._sent = -1
            self._tool_calls += item.kind == "tool_call"

    def _tool_call(self, item: Item) -> Frame:
        function = {"name": name_of(item), "arguments": ""}
        return {"index": self._tool_calls, "id": item.id, "type": "function", "function": function}

    def _delta(self, item: Item, text: str) -> Frame:
        match item.kind:
            case "text":
                return {"content": text}
            case "reasoning":
                return {"reasoning_content": text}
            case _:
                return {"tool_calls": [{"index": self._tool_calls, "function": {"arguments": text}}]}

    def _end(self, status: str) -> Iterator[Frame]:
        if status != "completed":
            yield _error(f"the workflow ended: {status}")
            return
        # `stop`, also where tools were called: the workflow has run them.
        yield self._chunk({}, finish_reason="stop")
        if self._with_usage:
            used = usage_of(self.view)
            yield {**self.facts, "choices": [], "usage": used.as_chat() if used is not None else None}

    def _chunk(self, delta: Frame, *, finish_reason: str | None = None) -> Frame:
        return {**self.facts, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _error(message: str) -> Frame:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
