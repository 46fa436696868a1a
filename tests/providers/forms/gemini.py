"""Gemini's generateContent: candidates of parts, tool calls whole, counts that grow from chunk to chunk."""

import json
from typing import Any

from tests.providers.answers import INPUT_TOKENS, MODEL, OUTPUT_TOKENS, Answer, sse
from tests.providers.wire import Request

_THOUGHTS = 3


class GenerateContent:
    """A chunk is a whole response with some of the parts."""

    content_type = "text/event-stream"
    malformed = b'data: {"half\r\n\r\n'

    def asks_to_stream(self, request: Request) -> bool:
        """By the method in the path."""
        return "streamGenerateContent" in request.path

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return one response with all parts."""
        parts = [
            *([_thought("".join(answer.reasoning))] if answer.reasoning else []),
            *([{"text": "".join(answer.text)}] if answer.text else []),
            *_calls(answer),
        ]
        return json.dumps(_response(parts, answer, OUTPUT_TOKENS, is_last=True)).encode()

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return a response for each piece; the last has the reason."""
        parts = [
            *([_thought(piece)] for piece in answer.reasoning),
            *([{"text": piece}] for piece in answer.text),
            *([_calls(answer)] if answer.calls else []),
            [{"text": ""}],
        ]
        last = len(parts) - 1
        return [
            sse(
                _response(
                    part, answer, OUTPUT_TOKENS if number == last else number + 4, is_last=number == last
                )
            )
            for number, part in enumerate(parts)
        ]

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return Google's error object."""
        return json.dumps({"error": {"code": status, "message": message, "status": kind.upper()}}).encode()

    def error_event(self, message: str) -> bytes:
        """Return the same as a chunk."""
        return sse({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})


def _response(parts: list[dict[str, Any]], answer: Answer, tokens: int, *, is_last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if is_last:
        candidate["finishReason"] = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}[
            answer.finish
        ]
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": tokens - _THOUGHTS,
            "thoughtsTokenCount": _THOUGHTS,
            "cachedContentTokenCount": 2,
            "totalTokenCount": INPUT_TOKENS + tokens,
        },
        "modelVersion": MODEL,
        "responseId": "response-1",
    }


def _thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"functionCall": {"name": call.name, "args": json.loads(call.json)}, "thoughtSignature": "c2ln"}
        for call in answer.calls
    ]
