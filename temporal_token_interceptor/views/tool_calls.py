"""The tool calls of one message, put together from their fragments: for `.run()` and the terminal tool.

The projector (`views.projected`) joins by rules of its own, because it shows a tool call before it is whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporal_token_interceptor.events import ToolCallChunk


@dataclass(slots=True)
class WrittenToolCall:
    """A tool call as far as the model has written it.

    Attributes:
        id: Its id, where one has come.
        name: The tool's name so far.
        args: The JSON of the arguments so far.
        invalid: Whether it is invalid whatever its arguments.
    """

    id: str | None = None
    name: str | None = None
    args: str = ""
    invalid: bool = False


class ToolCalls:
    """Puts fragments together: by index, and where two ids share an index, by id."""

    def __init__(self) -> None:
        self.written: list[WrittenToolCall] = []
        """In the order in which they began."""
        self._open: dict[int | str | None, int] = {}

    def add(self, chunk: ToolCallChunk) -> int:
        """Add a fragment; return the place in `written` of its tool call."""
        place = self._open.get(chunk.index)
        if place is None or (chunk.id and self.written[place].id not in (None, chunk.id)):
            place = self._open[chunk.index] = len(self.written)
            self.written.append(WrittenToolCall())
        written = self.written[place]
        written.id = written.id or chunk.id
        if chunk.name:  # it may come in pieces
            written.name = (written.name or "") + chunk.name
        written.args += chunk.args
        written.invalid = written.invalid or chunk.invalid
        return place
