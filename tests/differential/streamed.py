"""Graphs whose streams are compared: what a reader gets across Temporal, beside LangGraph's own."""

import re
from typing import Any

from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import LAST, MODELS
from tests.differential.shapes import GRAPHS, graph, node

SHAPES: dict[str, Any] = {
    **{name: make for name, make in GRAPHS.items() if not re.search("fails|astream_events", name)},
    **{
        f"a node: {name}": lambda name=name: graph(("agent", node(MODELS[name]())))
        for name in (
            "text with usage and finish reason",
            "one chunk",
            "empty answer",
            "empty chunks between",
            "tool call",
            "tool call in fragments",
            "text, then tool calls",
            "blocks of reasoning and text",
            "an image",
            "facts in `llm_output`",
            "a model that will not stream",
            "`disable_streaming=True`",
            "`output_version='v1'`",
            "tag `nostream`",
        )
    },
    "a node: reasoning beside the text": lambda: graph(
        (
            "agent",
            node(
                ScriptedChatModel.saying(
                    AIMessageChunk("", additional_kwargs={"reasoning_content": "hm, "}),
                    AIMessageChunk("", additional_kwargs={"reasoning_content": "so"}),
                    "It is ",
                    "tea.",
                    LAST,
                )
            ),
        )
    ),
}
