"""What stands now: the events of a run so far, folded into the text of each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallText:
    """What one model call has said so far.

    Attributes:
        origin: The attempt that made the call.
        call: The call.
        text: The answer's text.
        reasoning: The text of the reasoning, apart.
        ended: Whether the call is over.
        error: The exception's class name if the call failed: its text does not stand, because the graph
            retried it, fell back to another model, or failed.
        unfinished: Whether the call was cut off with its attempt.
    """

    origin: Origin
    call: Call
    text: str = ""
    reasoning: str = ""
    ended: bool = False
    error: str | None = None
    unfinished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the newest attempts of one run have said so far.

    Where there is a backend, as far as that has it: what only the history has comes to a reader that goes on
    from the cursor.

    Attributes:
        run_id: The run.
        calls: One for each call, in the order in which they first appeared.
        gaps: What is known to be missing.
        cursor: Subscribe with it to go on right after what is in here.
    """

    run_id: str
    calls: tuple[CallText, ...]
    gaps: tuple[Gap, ...]
    cursor: str

    @property
    def text(self) -> str:
        """The text of all calls that have not failed, joined."""
        return mended("".join(call.text for call in self.calls if call.error is None))


def mended(text: str) -> str:
    """Join the halves of characters that came apart; half a character alone becomes a replacement mark."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class _Growing:
    def __init__(self, call: Call) -> None:
        self.call = call
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.end: CallEnded | None = None


class Fold:
    """Keeps what stands while events go by; what a superseded attempt said is taken back."""

    def __init__(self) -> None:
        self._attempts: dict[str, tuple[Origin, dict[int, _Growing]]] = {}
        self._gaps: list[Gap] = []

    def add(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, AttemptStarted) and event.supersedes is not None:
            self._attempts.pop(event.supersedes.attempt_id, None)
            self._gaps = [gap for gap in self._gaps if gap.origin != event.supersedes]
        match event:
            case Gap():
                self._gaps.append(event)
            case TokenEvent(token=token, call=call, origin=origin):
                self._of(origin, call).text.append(token)
            case ReasoningEvent(token=token, call=call, origin=origin):
                self._of(origin, call).reasoning.append(token)
            case CallStarted(call=call, origin=origin):
                self._of(origin, call)
            case CallEnded(call=call, origin=origin):
                self._of(origin, call).end = event
            case (
                ToolCallChunk()
                | ContentBlock()
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
                | StreamEnded()
            ):
                pass
            case _:
                assert_never(event)

    def snapshot(self, run_id: str, cursor: str) -> Snapshot:
        """Return what stands."""
        return Snapshot(
            run_id=run_id,
            calls=tuple(
                CallText(
                    origin=origin,
                    call=growing.call,
                    text=mended("".join(growing.text)),
                    reasoning=mended("".join(growing.reasoning)),
                    ended=growing.end is not None,
                    error=growing.end.error if growing.end else None,
                    unfinished=growing.end is not None and growing.end.unfinished,
                )
                for origin, calls in self._attempts.values()
                for growing in calls.values()
            ),
            gaps=tuple(self._gaps),
            cursor=cursor,
        )

    def _of(self, origin: Origin, call: Call) -> _Growing:
        _, calls = self._attempts.setdefault(origin.attempt_id, (origin, {}))
        return calls.setdefault(call.ordinal, _Growing(call))
