"""OpenAI's chat completions, and the many providers that speak like it."""

import json
from dataclasses import dataclass
from typing import Any

from tests.providers.answers import INPUT_TOKENS, MALFORMED_SSE, MODEL, OUTPUT_TOKENS, Answer, sse
from tests.providers.wire import Request

USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
}


@dataclass(frozen=True)
class ChatCompletions:
    """The form; what differs between providers is a field.

    Attributes:
        reasoning: The member that has the reasoning; "" where there is none.
        facts: What the provider adds to each body and each chunk.
        usage_at: Where the stream has its usage: `apart`, in a chunk without choices, if asked for by
            `stream_options`; or in the chunk with the finish `reason`.
        usage: The usage.
        usage_inside: A member that has the usage as well, in the chunk that has it.
    """

    reasoning: str = ""
    facts: tuple[tuple[str, Any], ...] = (("system_fingerprint", "fp_1"), ("service_tier", "default"))
    usage_at: str = "apart"
    usage_inside: str = ""
    plain_message: tuple[tuple[str, Any], ...] = ()
    usage: tuple[tuple[str, Any], ...] = tuple(USAGE.items())
    content_type: str = "text/event-stream"
    malformed: bytes = MALFORMED_SSE

    def asks_to_stream(self, request: Request) -> bool:
        """By a flag in the body."""
        return bool(request.json.get("stream"))

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return one object with one choice."""
        choice = {
            "index": 0,
            "message": self.message(answer),
            "logprobs": None,
            "finish_reason": _finish(answer),
        }
        return json.dumps(self._body("chat.completion", choices=[choice], usage=dict(self.usage))).encode()

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return a chunk for each piece, one with the reason, one with the usage, and `[DONE]`."""
        events = [self._chunk(delta, None) for delta in self.deltas(answer)]
        last = self._chunk({}, _finish(answer))
        if self.usage_at == "reason":
            last["usage"] = dict(self.usage)
            if self.usage_inside:
                last[self.usage_inside] = {"usage": dict(self.usage)}
        events.append(last)
        if self.usage_at == "apart":
            events.append(self._body("chat.completion.chunk", choices=[], usage=dict(self.usage)))
        return [*(sse(event) for event in events), sse("[DONE]")]

    def message(self, answer: Answer) -> dict[str, Any]:
        """Return the message of a plain answer."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(answer.text) or None,
            **dict(self.plain_message),
        }
        if answer.refusal:
            message["refusal"] = "".join(answer.refusal)
        if answer.reasoning and self.reasoning:
            message[self.reasoning] = "".join(answer.reasoning)
        if answer.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.json}}
                for call in answer.calls
            ]
        return message

    def deltas(self, answer: Answer) -> list[dict[str, Any]]:
        """Return its parts."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", **dict(self.plain_message)}]
        if self.reasoning:
            deltas += [{self.reasoning: piece} for piece in answer.reasoning]
        deltas += [{"content": piece} for piece in answer.text]
        deltas += [{"refusal": piece} for piece in answer.refusal]
        for index, call in enumerate(answer.calls):
            head = {"index": index, "id": call.id, "type": "function"}
            deltas.append({"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.args
            ]
        return deltas

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return the error that a body has in place of choices."""
        return json.dumps({"error": self._error(kind, message, status)}).encode()

    def error_event(self, message: str) -> bytes:
        """Return the same as a chunk."""
        return sse({"error": self._error("server_error", message, 502)})

    def _error(self, kind: str, message: str, status: int) -> dict[str, Any]:
        return {"message": message, "type": kind, "param": None, "code": kind or status}

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._body("chat.completion.chunk", choices=[choice])

    def _body(self, kind: str, **members: Any) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1_700_000_000,
            "model": MODEL,
            **dict(self.facts),
            **members,
        }


def _finish(answer: Answer) -> str:
    if answer.finish == "stop" and answer.calls:
        return "tool_calls"
    return {"stop": "stop", "length": "length", "filter": "content_filter"}[answer.finish]
