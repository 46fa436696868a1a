"""LangChain's providers and messages as OpenTelemetry writes them; and whether messages are wanted."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OpenTelemetry's switch for prompts and answers: `SPAN_ONLY` or `SPAN_AND_EVENT` puts them into spans."""

# OpenTelemetry's names for those that LangChain names otherwise.
PROVIDERS = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}


def content_is_wanted() -> bool:
    """Whether the environment asks for prompts, answers and arguments in spans."""
    return os.environ.get(CONTENT_VARIABLE, "").upper() in ("SPAN_ONLY", "SPAN_AND_EVENT")


_ROLES = {"human": "user", "ai": "assistant"}


def messages_json(messages: Sequence[BaseMessage]) -> str:
    """Return messages in the form that OpenTelemetry's conventions give them."""
    return json.dumps([_message(message) for message in messages], default=_named)


def _named(value: object) -> str:
    """Stand in for an argument that JSON cannot hold: its type, because its text is the user's code."""
    return f"<{type(value).__name__}>"


def _message(message: BaseMessage) -> dict[str, Any]:
    written = said(_ROLES.get(message.type, message.type), message.text)
    if isinstance(message, AIMessage):
        written["parts"] += [
            {"type": "tool_call", "id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in message.tool_calls
        ]
    elif isinstance(message, ToolMessage):
        written["parts"] = [
            {"type": "tool_call_response", "id": message.tool_call_id, "response": message.text}
        ]
    return written


def said(role: str, text: str) -> dict[str, Any]:
    """Return a message of text alone."""
    return {"role": role, "parts": [{"type": "text", "content": text}] if text else []}
