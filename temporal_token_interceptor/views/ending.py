"""How a stream ended, for callers who need all of it: well, or with which error."""

from __future__ import annotations

from collections import deque
from typing import assert_never

from temporal_token_interceptor.errors import TokensMissing, WorkflowNotCompleted
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    RetrieverEnded,
    RetrieverStarted,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)

# Of gaps, an error at the end names this many.
_GAPS_KEPT = 100


class Ending:
    """Knows, at the end of a stream, whether its reader has all that was said."""

    def __init__(self) -> None:
        self._gaps: deque[Gap] = deque(maxlen=_GAPS_KEPT)
        self._ended = StreamEnded(status="unknown")

    def note(self, event: Event) -> None:
        """Take in one event. What a superseded attempt missed does not count."""
        match event:
            case Gap():
                self._gaps.append(event)
            case AttemptStarted(supersedes=Origin() as superseded):
                self._gaps = deque((gap for gap in self._gaps if gap.origin != superseded), _GAPS_KEPT)
            case StreamEnded():
                self._ended = event
            case (
                TokenEvent()
                | ReasoningEvent()
                | ToolCallChunk()
                | ContentBlock()
                | CallStarted()
                | CallEnded()
                | ToolStarted()
                | ToolEnded()
                | RetrieverStarted()
                | RetrieverEnded()
                | NodeStarted()
                | NodeEnded()
                | CustomEvent()
                | GraphEvent()
                | AttemptStarted()
                | AttemptEnded()
                | RunContinued()
            ):
                pass
            case _:
                assert_never(event)

    def check(self) -> None:
        """Raise if the stream did not end well.

        Raises:
            WorkflowNotCompleted: as Temporal says.
            TokensMissing: something did not arrive, and was not superseded.
        """
        if self._ended.status not in ("completed", "unknown"):
            raise WorkflowNotCompleted(self._ended.status, self._ended.cursor)
        self.check_whole()

    def check_whole(self) -> None:
        """Raise if something is missing, however the stream ended.

        Raises:
            TokensMissing: something did not arrive, and was not superseded.
        """
        if self._gaps:
            raise TokensMissing(tuple(gap.reason for gap in self._gaps), self._ended.cursor)
