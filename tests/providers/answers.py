"""What models answer in these tests, whatever the provider: each form of the wire says it in its own way."""

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tests.providers.wire import Request

INPUT_TOKENS, OUTPUT_TOKENS = 11, 7
MALFORMED_SSE = b'data: {"half\n\n'
MODEL = "model-1"


@dataclass(frozen=True)
class ToolUse:
    """A call of a tool, its arguments cut into pieces."""

    id: str
    name: str
    args: tuple[str, ...]

    @property
    def json(self) -> str:
        """The arguments."""
        return "".join(self.args)


@dataclass(frozen=True)
class Answer:
    """An answer, in the pieces in which it is streamed."""

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[ToolUse, ...] = ()
    finish: Literal["stop", "length", "filter"] = "stop"
    refusal: tuple[str, ...] = ()


class Form(Protocol):
    """How a provider says an answer: as a whole body, and as a stream of events."""

    @property
    def content_type(self) -> str:
        """Of a stream."""

    @property
    def malformed(self) -> bytes:
        """An event that cannot be read."""

    def asks_to_stream(self, request: Request) -> bool:
        """Whether a request is for a stream."""

    def whole(self, answer: Answer, request: Request) -> bytes:
        """Return the body of a plain answer."""

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Return the events of a streamed answer; the last ones say that, and why, it ended."""

    def error(self, status: int, kind: str, message: str) -> bytes:
        """Return the body of a refusal."""

    def error_event(self, message: str) -> bytes:
        """Return the event by which a stream says that it fails."""


SEARCH = ToolUse("call_0001", "search", ('{"que', 'ry": "te', 'a"}'))
MILK = ToolUse("call_0002", "search", ('{"query": ', '"milk"}'))
VERDICT = ToolUse("call_0003", "Verdict", ('{"score": 7, ', '"reason": "good"}'))

TEXT = Answer(text=("Tea ", "is ", "hot ", "\U0001f375."))
TOOL_CALL = Answer(calls=(SEARCH,))
TOOL_CALLS = Answer(text=("I ", "look."), calls=(SEARCH, MILK))
REASONING = Answer(reasoning=("Hm, ", "leaves."), text=("Tea", "."))
REASONED_CALL = Answer(reasoning=("Hm, ", "leaves."), calls=(SEARCH,))
LINES = Answer(text=("Tea.\n", "\nHot.", "\n"))
CUT_SHORT = Answer(text=("Tea ", "is"), finish="length")
FILTERED = Answer(text=("Tea ", "is"), finish="filter")
NOTHING = Answer()
REFUSAL = Answer(refusal=("I ", "can", "not."))
JSON_TEXT = Answer(text=VERDICT.args)
FOUND = Answer(text=("It ", "is ", "tea."))

ANSWERS = {
    "text": TEXT,
    "a tool call": TOOL_CALL,
    "text and two tool calls": TOOL_CALLS,
    "reasoning": REASONING,
    "reasoning and a tool call": REASONED_CALL,
    "lines": LINES,
    "cut short by `max_tokens`": CUT_SHORT,
    "nothing": NOTHING,
    "a refusal": REFUSAL,
}
"""What is asked for plainly, without tools or a schema."""


def structured(request: Request) -> Answer:
    """Answer as the request wants its structure: by a tool, or by a text that is JSON."""
    body = request.json
    wanted = json.dumps(body.get("tools") or body.get("toolConfig") or "")
    return Answer(calls=(VERDICT,)) if "Verdict" in wanted else JSON_TEXT


def agent(request: Request) -> Answer:
    """Call the tool, and answer once there is what it found."""
    return FOUND if "found tea" in request.body else TOOL_CALLS


def sse(data: Any, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n" if event else ""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"{name}data: {text}\n\n".encode()
