"""Answers of OpenAI's protocols in one piece: for a client that waits for the end instead of streaming.

While it waits, blanks keep the connection open; JSON may begin with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from temporal_token_interceptor.gateway.encoder import json_text
from temporal_token_interceptor.gateway.formats.frames import PARTS, name_of
from temporal_token_interceptor.gateway.formats.openai_chunks import ChatCompletionsEncoder
from temporal_token_interceptor.gateway.formats.openai_events import response
from temporal_token_interceptor.gateway.formats.openai_usage import usage_of
from temporal_token_interceptor.views.changes import Change, Item, View
from temporal_token_interceptor.views.difference import difference


class _Whole(ABC):
    """An `Encoder` that writes once, at the end."""

    media_type = "application/json"
    name: str

    def __init__(self) -> None:
        self.view = View()

    def begin(self) -> bytes:
        """Return a blank: the response begins."""
        return b" "

    def late(self, view: View, cursor: str) -> bytes:
        """Take in a state."""
        return self.encode(difference(self.view, view, cursor))

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return nothing, but for the end."""
        for change in changes:
            self.view.fold(change)
        ends = bool(changes) and changes[-1].op == "end"
        return json_text(self.whole()).encode("ascii") if ends else b""

    def ping(self) -> bytes:
        """Return a blank."""
        return b" "

    def reconnect(self, after: int, reason: str) -> bytes:  # noqa: ARG002 - it cannot resume
        """Return an error: the client has to ask again."""
        return self.problem(503, "the server is stopping: ask again")

    def problem(self, status: int, detail: str) -> bytes:
        """Return an error; the status of the response was sent long ago."""
        return json_text({"error": {"message": detail, "type": "server_error", "code": status}}).encode()

    @abstractmethod
    def whole(self) -> Mapping[str, Any]:
        """Return the answer."""


class WholeResponse(_Whole):
    """A response of the Responses API.

    Args:
        facts: See `response_facts`.
    """

    name = "responses"

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self._facts = facts

    def whole(self) -> Mapping[str, Any]:
        """Return the response."""
        return response(self._facts, self.view)


class WholeCompletion(_Whole):
    """A chat completion.

    Args:
        chunks: What would stream it.
    """

    name = "chat-completions"

    def __init__(self, chunks: ChatCompletionsEncoder) -> None:
        super().__init__()
        self._facts = chunks.facts

    def whole(self) -> Mapping[str, Any]:
        """Return the completion, or an error if the workflow did not complete."""
        if self.view.status != "completed":
            ended = f"the workflow ended: {self.view.status}"
            return {"error": {"message": ended, "type": "server_error", "param": None, "code": None}}
        items = [item for item in self.view.items.values() if item.kind in PARTS]
        message: dict[str, Any] = {"role": "assistant", "content": _joined(items, "text"), "refusal": None}
        if reasoning := _joined(items, "reasoning"):
            message["reasoning_content"] = reasoning
        if calls := [_call(item) for item in items if item.kind == "tool_call"]:
            message["tool_calls"] = calls
        used = usage_of(self.view)
        return {
            **self._facts,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": used.as_chat() if used is not None else None,
        }


def _joined(items: Sequence[Item], kind: str) -> str:
    return "".join(item.text for item in items if item.kind == kind)


def _call(item: Item) -> dict[str, Any]:
    function = {"name": name_of(item), "arguments": item.text}
    return {"id": item.id, "type": "function", "function": function}
