"""Mistral's chat completions: tool calls come whole, and reasoning is a part of the content."""

import json
from dataclasses import dataclass
from typing import Any

from tests.providers.answers import Answer, sse
from tests.providers.forms.chat_completions import ChatCompletions


@dataclass(frozen=True)
class Mistral(ChatCompletions):
    """The form; its usage comes with the reason."""

    facts: tuple[tuple[str, Any], ...] = ()
    usage_at: str = "reason"

    def message(self, answer: Answer) -> dict[str, Any]:
        """Content is a list only where there is reasoning."""
        text = "".join(answer.text)
        content: Any = text
        if answer.reasoning:
            content = [
                _thought("".join(answer.reasoning)),
                *([{"type": "text", "text": text}] if text else []),
            ]
        return {"role": "assistant", "content": content, "tool_calls": _calls(answer) or None}

    def deltas(self, answer: Answer) -> list[dict[str, Any]]:
        """Thoughts in lists, text as it is, and all calls in one."""
        return [
            {"role": "assistant", "content": ""},
            *({"content": [_thought(piece)]} for piece in answer.reasoning),
            *({"content": piece} for piece in answer.text),
            *([{"content": "", "tool_calls": _calls(answer)}] if answer.calls else []),
        ]

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return Mistral's own object."""
        error = {"object": "error", "message": message, "type": kind, "param": None, "code": None}
        return json.dumps(error).encode()

    def error_event(self, message: str) -> bytes:
        """Return the same as an event."""
        error = {"object": "error", "message": message, "type": "internal_server_error", "code": 3000}
        return sse(error)


def _thought(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "function": {"name": call.name, "arguments": call.json}, "index": index}
        for index, call in enumerate(answer.calls)
    ]
