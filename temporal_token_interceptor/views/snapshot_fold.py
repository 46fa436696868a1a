"""Folds the events of a run, so far, into a `Snapshot`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, assert_never

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
from temporal_token_interceptor.views.snapshot import (
    AttemptState,
    CallText,
    NodeState,
    RetrieverState,
    Snapshot,
    ToolCallText,
    ToolState,
    mended,
)
from temporal_token_interceptor.views.tool_calls import ToolCalls

_OfCall = TokenEvent | ReasoningEvent | ToolCallChunk | ContentBlock | CallStarted | CallEnded
_Started = NodeStarted | RetrieverStarted | ToolStarted
_Ended = NodeEnded | RetrieverEnded | ToolEnded
_State = NodeState | RetrieverState | ToolState


class Fold:
    """Keeps what stands while events go by; what a superseded attempt said is taken back."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}
        self._gaps: list[Gap] = []

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case (
                TokenEvent()
                | ReasoningEvent()
                | ToolCallChunk()
                | ContentBlock()
                | CallStarted()
                | CallEnded()
            ):
                self._attempt(event.origin).call(event.call).add(event)
            case ToolStarted() | RetrieverStarted() | NodeStarted():
                self._attempt(event.origin).start(event)
            case ToolEnded() | RetrieverEnded() | NodeEnded():
                self._attempt(event.origin).finish(event)
            case AttemptStarted():
                if event.supersedes is not None:
                    self._attempts.pop(event.supersedes.attempt_id, None)
                    self._gaps = [gap for gap in self._gaps if gap.origin != event.supersedes]
                self._attempt(event.origin)
            case AttemptEnded():
                self._attempt(event.origin).end = event
            case Gap():
                self._gaps.append(event)
            case CustomEvent() | GraphEvent() | RunContinued() | StreamEnded():
                pass
            case _:
                assert_never(event)

    def snapshot(self, run_id: str, cursor: str) -> Snapshot:
        """Return what stands."""
        attempts = self._attempts.values()
        runs = [run for attempt in attempts for run in attempt.runs]
        return Snapshot(
            run_id=run_id,
            attempts=tuple(attempt.state() for attempt in attempts),
            calls=tuple(call.state() for attempt in attempts for call in attempt.calls.values()),
            tools=tuple(run for run in runs if isinstance(run, ToolState)),
            retrievers=tuple(run for run in runs if isinstance(run, RetrieverState)),
            nodes=tuple(run for run in runs if isinstance(run, NodeState)),
            gaps=tuple(self._gaps),
            cursor=cursor,
        )

    def _attempt(self, origin: Origin) -> _Attempt:
        attempt = self._attempts.get(origin.attempt_id)
        if attempt is None:  # `setdefault` would make an attempt for each event
            attempt = self._attempts[origin.attempt_id] = _Attempt(origin)
        return attempt


@dataclass(slots=True)
class _Call:
    origin: Origin
    call: Call
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: ToolCalls = field(default_factory=ToolCalls)
    blocks: list[Any] = field(default_factory=list)
    end: CallEnded | None = None

    def add(self, event: _OfCall) -> None:
        match event:
            case TokenEvent(token=token):
                self.text.append(token)
            case ReasoningEvent(token=token):
                self.reasoning.append(token)
            case ToolCallChunk():
                self.tool_calls.add(event)
            case ContentBlock(block=block):
                self.blocks.append(block)
            case CallEnded():
                self.end = event
            case CallStarted():
                pass

    def state(self) -> CallText:
        end = self.end
        return CallText(
            origin=self.origin,
            call=self.call,
            text=mended("".join(self.text)),
            reasoning=mended("".join(self.reasoning)),
            tool_calls=tuple(
                ToolCallText(id=one.id, name=one.name, args=mended(one.args), invalid=one.invalid)
                for one in self.tool_calls.written
            ),
            blocks=tuple(self.blocks),
            ended=end is not None,
            error=end.error if end else None,
            unfinished=end is not None and end.unfinished,
            usage=end.usage if end else None,
            finish_reason=end.finish_reason if end else None,
        )


class _Attempt:
    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.calls: dict[int, _Call] = {}
        self.runs: list[_State] = []
        self.end: AttemptEnded | None = None
        self._open: dict[tuple[type[_State], str], int] = {}  # places in `runs` of what has not ended

    def call(self, call: Call) -> _Call:
        return self.calls.get(call.ordinal) or self.calls.setdefault(call.ordinal, _Call(self.origin, call))

    def start(self, event: _Started) -> None:
        self._open[_run_of(event)] = len(self.runs)
        self.runs.append(_begun(event))

    def finish(self, event: _Ended) -> None:
        """Complete what has begun; what began before the reader's time appears with its end."""
        place = self._open.pop(_run_of(event), None)
        if place is None:
            self.runs.append(_completed(_begun(event), event))
        else:
            self.runs[place] = _completed(self.runs[place], event)

    def state(self) -> AttemptState:
        if self.end is None:
            return AttemptState(origin=self.origin)
        return AttemptState(origin=self.origin, outcome=self.end.outcome, will_retry=self.end.will_retry)


def _run_of(event: _Started | _Ended) -> tuple[type[_State], str]:
    """Return what a start and an end have in common."""
    match event:
        case NodeStarted() | NodeEnded():
            return NodeState, event.run_id
        case ToolStarted() | ToolEnded():
            return ToolState, event.run_id or event.tool_call_id or event.name
        case RetrieverStarted() | RetrieverEnded():
            return RetrieverState, event.run_id or event.name


def _begun(event: _Started | _Ended) -> _State:
    """Return what is known of a tool, retriever or node by one of its events, before its end."""
    place: dict[str, Any] = {
        "origin": event.origin,
        "node_name": event.node_name,
        "path": event.path,
        "step": event.step,
        "run_id": event.run_id,
    }
    if isinstance(event, NodeStarted | NodeEnded):
        return NodeState(**place)
    place |= {"name": event.name, "tool_call_id": event.tool_call_id}
    if isinstance(event, ToolStarted | RetrieverStarted):
        place |= {"input": event.input, "truncated": event.truncated}
    return (ToolState if isinstance(event, ToolStarted | ToolEnded) else RetrieverState)(**place)


def _completed(state: _State, event: _Ended) -> _State:
    """Return the state with what its end says."""
    facts: dict[str, Any] = {
        "ended": True,
        "error": event.error,
        "output": event.output,
        "truncated": state.truncated or event.truncated,
        "unfinished": event.unfinished,
    }
    if isinstance(event, RetrieverEnded):
        facts["document_count"] = event.document_count
    else:
        facts["interrupted"] = event.interrupted
    return replace(state, **facts)
