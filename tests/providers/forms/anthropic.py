"""Anthropic's messages."""

import json
from typing import Any

from tests.providers.answers import INPUT_TOKENS, MALFORMED_SSE, MODEL, OUTPUT_TOKENS, Answer, sse
from tests.providers.wire import Request

_INPUT = {
    "input_tokens": INPUT_TOKENS,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
    "inference_geo": "not_available",
}


class Messages:
    """A message has blocks; each is opened, filled and closed by events."""

    content_type = "text/event-stream"
    malformed = MALFORMED_SSE

    def asks_to_stream(self, request: Request) -> bool:
        """By a flag in the body."""
        return bool(request.json.get("stream"))

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return the message."""
        message = {**_message(), "content": [block for block, _ in _blocks(answer)]}
        end = {"stop_reason": _reason(answer), "stop_sequence": None}
        return json.dumps({**message, **end, "usage": {**_INPUT, "output_tokens": OUTPUT_TOKENS}}).encode()

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return the events of each block between those of the message."""
        start = {**_message(), "content": [], "usage": {**_INPUT, "output_tokens": 1}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**start, "stop_reason": None, "stop_sequence": None}},
            {"type": "ping"},
        ]
        for index, (block, deltas) in enumerate(_blocks(answer)):
            empty = {
                name: ({} if name == "input" else "" if name in ("text", "thinking", "signature") else value)
                for name, value in block.items()
            }
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        usage = {
            "input_tokens": INPUT_TOKENS,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 3,
            "output_tokens": OUTPUT_TOKENS,
        }
        delta = {"stop_reason": _reason(answer), "stop_sequence": None}
        events += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
        return [sse(event, event["type"]) for event in events]

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return an error object."""
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()

    def error_event(self, message: str) -> bytes:
        """Return the event of that name."""
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")


def _message() -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}


def _blocks(answer: Answer) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        thought = {"type": "thinking", "thinking": "".join(answer.reasoning), "signature": "c2ln"}
        blocks.append((thought, deltas))
    if answer.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.text]
        blocks.append(({"type": "text", "text": "".join(answer.text)}, deltas))
    for call in answer.calls:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *call.args)]
        use = {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.json)}
        blocks.append((use, deltas))
    return blocks


def _reason(answer: Answer) -> str:
    if answer.finish == "stop" and answer.calls:
        return "tool_use"
    return {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"}[answer.finish]
