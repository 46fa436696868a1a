"""Bedrock's Converse: JSON plainly, and a stream of binary messages with checksums."""

import json
from binascii import crc32
from typing import Any

from tests.providers.answers import INPUT_TOKENS, OUTPUT_TOKENS, Answer
from tests.providers.wire import Request

_USAGE = {
    "inputTokens": INPUT_TOKENS - 2,
    "outputTokens": OUTPUT_TOKENS,
    "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "cacheReadInputTokens": 2,
    "cacheWriteInputTokens": 0,
}


class Converse:
    """A message has blocks; each is opened, filled and closed by events."""

    content_type = "application/vnd.amazon.eventstream"

    @property
    def malformed(self) -> bytes:
        """An event whose checksum is right, and its JSON broken."""
        return _message({":message-type": "event", ":event-type": "contentBlockDelta"}, b'{"half')

    def asks_to_stream(self, request: Request) -> bool:
        """By the operation in the path."""
        return request.path.endswith("/converse-stream")

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return the message, the reason and the usage."""
        content = [block for block, _, _ in _blocks(answer)]
        return json.dumps(
            {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": _reason(answer),
                "usage": _USAGE,
                "metrics": {"latencyMs": 21},
            }
        ).encode()

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return the events of each block between those of the message."""
        events: list[bytes] = [_event("messageStart", role="assistant")]
        for index, (_, start, deltas) in enumerate(_blocks(answer)):
            if start:
                events.append(_event("contentBlockStart", start=start, contentBlockIndex=index))
            events += [_event("contentBlockDelta", delta=delta, contentBlockIndex=index) for delta in deltas]
            events.append(_event("contentBlockStop", contentBlockIndex=index))
        events.append(_event("messageStop", stopReason=_reason(answer)))
        events.append(_event("metadata", usage=_USAGE, metrics={"latencyMs": 21}))
        return events

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return what AWS has in the body; the kind is in `__type`."""
        return json.dumps({"__type": _KINDS.get(status, "ValidationException"), "message": message}).encode()

    def error_event(self, message: str) -> bytes:
        """Return an exception in place of an event."""
        headers = {":message-type": "exception", ":exception-type": "modelStreamErrorException"}
        return _message(headers, json.dumps({"message": message}).encode())


_KINDS = {429: "ThrottlingException", 500: "InternalServerException"}


def _event(kind: str, **members: Any) -> bytes:
    headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    return _message(headers, json.dumps(members).encode())


def _message(headers: dict[str, str], payload: bytes) -> bytes:
    """Lengths and their checksum, headers of strings, the payload, and the checksum of all."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2) + value.encode()
        for name, value in headers.items()
    )
    prelude = (16 + len(head) + len(payload)).to_bytes(4) + len(head).to_bytes(4)
    body = prelude + crc32(prelude).to_bytes(4) + head + payload
    return body + crc32(body).to_bytes(4)


_Block = tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]


def _blocks(answer: Answer) -> list[_Block]:
    """Each block whole, how it is opened (only tools are), and its pieces."""
    blocks: list[_Block] = []
    if answer.reasoning:
        thought = {"reasoningText": {"text": "".join(answer.reasoning), "signature": "c2ln"}}
        deltas = [{"reasoningContent": {"text": piece}} for piece in answer.reasoning]
        blocks.append(
            ({"reasoningContent": thought}, {}, [*deltas, {"reasoningContent": {"signature": "c2ln"}}])
        )
    if answer.text:
        blocks.append(({"text": "".join(answer.text)}, {}, [{"text": piece} for piece in answer.text]))
    for call in answer.calls:
        use = {"toolUseId": call.id, "name": call.name}
        pieces = [{"toolUse": {"input": piece}} for piece in call.args]
        blocks.append(({"toolUse": {**use, "input": json.loads(call.json)}}, {"toolUse": use}, pieces))
    return blocks


def _reason(answer: Answer) -> str:
    if answer.finish == "stop" and answer.calls:
        return "tool_use"
    return {"stop": "end_turn", "length": "max_tokens", "filter": "content_filtered"}[answer.finish]
