"""Ollama's chat: lines of JSON, tool calls whole, the counts in the last line."""

import json
from typing import Any

from tests.providers.answers import INPUT_TOKENS, MODEL, OUTPUT_TOKENS, Answer
from tests.providers.wire import Request

_COUNTS = {
    "total_duration": 5_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": INPUT_TOKENS,
    "prompt_eval_duration": 1_000_000,
    "eval_count": OUTPUT_TOKENS,
    "eval_duration": 3_000_000,
}


class OllamaChat:
    """A line has a part of the message; its package streams plain calls, too."""

    content_type = "application/x-ndjson"
    malformed = b'{"half\n'

    def asks_to_stream(self, request: Request) -> bool:
        """Unless a flag in the body says not to."""
        return request.json.get("stream") is not False

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return the one line."""
        message = {"content": "".join(answer.text)}
        if answer.reasoning:
            message["thinking"] = "".join(answer.reasoning)
        return _line(message | _calls(answer), done_reason=_reason(answer), **_COUNTS)

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return a line for each piece, and the last, which is empty."""
        return [
            *(_line({"content": "", "thinking": piece}) for piece in answer.reasoning),
            *(_line({"content": piece}) for piece in answer.text),
            *([_line({"content": "", **_calls(answer)})] if answer.calls else []),
            _line({"content": ""}, done_reason=_reason(answer), **_COUNTS),
        ]

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return an object with the text."""
        return json.dumps({"error": message}).encode()

    def error_event(self, message: str) -> bytes:
        """Return the same as a line."""
        return self.error(500, "", message) + b"\n"


def _line(message: dict[str, Any], **end: Any) -> bytes:
    at = {"model": MODEL, "created_at": "2026-01-01T00:00:00.000000Z"}
    return (
        json.dumps({**at, "message": {"role": "assistant", **message}, "done": bool(end), **end}).encode()
        + b"\n"
    )


def _calls(answer: Answer) -> dict[str, Any]:
    calls = [{"function": {"name": call.name, "arguments": json.loads(call.json)}} for call in answer.calls]
    return {"tool_calls": calls} if calls else {}


def _reason(answer: Answer) -> str:
    return "length" if answer.finish == "length" else "stop"
