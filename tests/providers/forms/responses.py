"""OpenAI's Responses."""

import json
from typing import Any

from tests.providers.answers import INPUT_TOKENS, MALFORMED_SSE, MODEL, OUTPUT_TOKENS, Answer, sse
from tests.providers.wire import Request

_USAGE = {
    "input_tokens": INPUT_TOKENS,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": OUTPUT_TOKENS,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


class Responses:
    """A response has items; an item has parts; each is opened, filled and closed by events."""

    content_type = "text/event-stream"
    malformed = MALFORMED_SSE

    def asks_to_stream(self, request: Request) -> bool:
        """By a flag in the body."""
        return bool(request.json.get("stream"))

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return the response that the last event of a stream has, too."""
        return json.dumps(_response(answer, request)).encode()

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return the events of each item, between those of the response."""
        opened = {**_response(Answer(), request), "status": "in_progress", "usage": None}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": opened},
            {"type": "response.in_progress", "response": opened},
        ]
        for index, item in enumerate(_items(answer, request)):
            events += _item_events(index, item, answer)
        end = "response.completed" if answer.finish == "stop" else "response.incomplete"
        events.append({"type": end, "response": _response(answer, request)})
        return [
            sse({**event, "sequence_number": number}, event["type"]) for number, event in enumerate(events)
        ]

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return the error that all of OpenAI's endpoints share."""
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": kind}
        return json.dumps({"error": error}).encode()

    def error_event(self, message: str) -> bytes:
        """Return the event of that name."""
        event = {"type": "error", "code": "server_error", "message": message, "param": None}
        return sse({**event, "sequence_number": 9}, "error")


def _item_events(index: int, item: dict[str, Any], answer: Answer) -> list[dict[str, Any]]:
    place = {"output_index": index, "item_id": item["id"]}
    opened = {"type": "response.output_item.added", "output_index": index}
    closed = {"type": "response.output_item.done", "output_index": index, "item": item}
    match item["type"]:
        case "reasoning":
            [part] = item["summary"]
            at = {**place, "summary_index": 0}
            return [
                {**opened, "item": {**item, "summary": []}},
                {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}},
                *(
                    {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
                    for piece in answer.reasoning
                ),
                {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]},
                {"type": "response.reasoning_summary_part.done", **at, "part": part},
                closed,
            ]
        case "message":
            [part] = item["content"]
            at = {**place, "content_index": 0}
            if part["type"] == "refusal":
                return [
                    {**opened, "item": {**item, "content": [], "status": "in_progress"}},
                    {"type": "response.content_part.added", **at, "part": {**part, "refusal": ""}},
                    *({"type": "response.refusal.delta", **at, "delta": piece} for piece in answer.refusal),
                    {"type": "response.refusal.done", **at, "refusal": part["refusal"]},
                    {"type": "response.content_part.done", **at, "part": part},
                    closed,
                ]
            return [
                {**opened, "item": {**item, "content": [], "status": "in_progress"}},
                {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
                *(
                    {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
                    for piece in answer.text
                ),
                {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", **at, "part": part},
                closed,
            ]
        case _:
            call = next(call for call in answer.calls if call.id == item["call_id"])
            kind = "response.function_call_arguments"
            return [
                {**opened, "item": {**item, "arguments": "", "status": "in_progress"}},
                *({"type": f"{kind}.delta", **place, "delta": piece} for piece in call.args),
                {"type": f"{kind}.done", **place, "arguments": call.json, "name": call.name},
                closed,
            ]


def _items(answer: Answer, request: Request) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": "".join(answer.reasoning)}]
        items.append({"type": "reasoning", "id": _id(request, "rs"), "summary": summary, "status": None})
    if answer.text or answer.refusal:
        part = {"type": "output_text", "text": "".join(answer.text), "annotations": [], "logprobs": []}
        if answer.refusal:
            part = {"type": "refusal", "refusal": "".join(answer.refusal)}
        message = {"type": "message", "id": _id(request, "msg"), "role": "assistant", "status": "completed"}
        items.append({**message, "content": [part]})
    for number, call in enumerate(answer.calls):
        item = {
            "type": "function_call",
            "id": _id(request, f"fc_{number}"),
            "call_id": call.id,
            "status": "completed",
        }
        items.append({**item, "name": call.name, "arguments": call.json})
    return items


def _response(answer: Answer, request: Request) -> dict[str, Any]:
    reason = {"length": "max_output_tokens", "filter": "content_filter"}.get(answer.finish)
    return {
        "id": _id(request, "resp"),
        "object": "response",
        "created_at": 1_700_000_000,
        "completed_at": 1_700_000_001,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "error": None,
        "model": MODEL,
        "output": _items(answer, request),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": {},
        "instructions": None,
        "service_tier": "default",
        "text": request.json.get("text") or {"format": {"type": "text"}},
        "usage": _USAGE,
    }


def _id(request: Request, kind: str) -> str:
    """Return an id that no other turn of a conversation has: LangGraph merges messages by it."""
    return f"{kind}_{len(request.json.get('input') or ())}"
