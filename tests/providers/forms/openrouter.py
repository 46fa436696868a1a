"""OpenRouter's chat completions: reasoning in details, comments while it waits, errors within a choice."""

from dataclasses import dataclass
from typing import Any

from tests.providers.answers import Answer, sse
from tests.providers.forms.chat_completions import USAGE, ChatCompletions
from tests.providers.wire import Request


@dataclass(frozen=True)
class OpenRouter(ChatCompletions):
    """The form; its last chunk has the usage, beside a choice that says nothing."""

    reasoning: str = "reasoning"
    facts: tuple[tuple[str, Any], ...] = (("system_fingerprint", "fp_1"),)
    usage: tuple[tuple[str, Any], ...] = (*USAGE.items(), ("cost", 0.25))

    def stream(self, answer: Answer, request: Request) -> list[bytes]:
        """Begin with a comment, which keeps the connection open."""
        return [b": OPENROUTER PROCESSING\n\n", *super().stream(answer, request)]

    def message(self, answer: Answer) -> dict[str, Any]:
        """Return a message that has its reasoning twice: as text, and with its details."""
        details = _details("".join(answer.reasoning)) if answer.reasoning else {}
        return {**super().message(answer), **details}

    def deltas(self, answer: Answer) -> list[dict[str, Any]]:
        """Return parts, those with reasoning alike."""
        return [
            {**delta, **_details(delta[self.reasoning])} if self.reasoning in delta else delta
            for delta in super().deltas(answer)
        ]

    def _error(self, kind: str, message: str, status: int) -> dict[str, Any]:
        return {"code": status, "message": message}

    def error_event(self, message: str) -> bytes:
        """Return a chunk with the error, and a choice that ends by it."""
        chunk = self._chunk({"role": "assistant", "content": ""}, "error")
        return sse({**chunk, "error": {"code": 502, "message": message}})


def _details(text: str) -> dict[str, Any]:
    detail = {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0}
    return {"reasoning_details": [detail]}
