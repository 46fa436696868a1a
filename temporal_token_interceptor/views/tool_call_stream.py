"""A tool that runs, as LangGraph's run object shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from temporal_token_interceptor.views.projection import Projection


class ToolCallStream:
    """A tool from its start to its end; the members are those of LangGraph's class of this name.

    Iterating waits for the end. It yields nothing: what a tool says by `emit_output_delta` does not travel.

    Attributes:
        tool_call_id: The tool call that it answers; LangChain's run id where there is none.
        tool_name: The tool's name.
        input: What it was given; only with `capture={"tool_input"}`.
        output_deltas: Ends with the tool.
        output: What it returned, as text; only with `capture={"tool_output"}`.
        error: The exception's class name if it failed; `unfinished` if its attempt ended before it did.
        completed: Whether it has ended, well or not.
    """

    def __init__(
        self,
        tool_call_id: str,
        tool_name: str,
        input: Any,  # noqa: A002 - LangGraph's name
        output_deltas: Projection[Any],
    ) -> None:
        self.tool_call_id = tool_call_id
        self.tool_name = tool_name
        self.input = input
        self.output_deltas = output_deltas
        self.output: Any = None
        self.error: str | None = None
        self.completed: bool = False

    def end(self, *, output: Any = None, error: str | None = None) -> None:
        """Note how it ended; the first end counts."""
        if not self.completed:
            self.output, self.error, self.completed = output, error, True
            self.output_deltas.end(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self.output_deltas)

    def __repr__(self) -> str:
        status = "running" if not self.completed else "failed" if self.error else "completed"
        return f"ToolCallStream(tool_call_id={self.tool_call_id!r}, tool_name={self.tool_name!r}, {status})"
