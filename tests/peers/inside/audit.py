"""Compares what was captured of each model call, as a reader gets it, with what LangChain dispatched."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    Event,
    Frame,
    Gap,
    Origin,
    ReasoningEvent,
    TokenEvent,
)
from temporal_token_interceptor.events.frame import Record
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.views.langgraph_messages import Chunks

from .reference import Answer, Reference, Run, tools_of

_ORIGIN = Origin(
    namespace="default",
    workflow_id="w",
    run_id="r",
    activity_id="1",
    attempt_id="0123456789abcdef",
    started_time=datetime.now(UTC),
)
_NO_TOKENS = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
_NO_STREAM = frozenset({"nostream", "langsmith:nostream"})


def read(records: Sequence[Record]) -> list[Event]:
    """Return the events that a reader makes of records, through their wire form."""
    checks = CallChecks()
    checked = checks.add(records)
    end = (*checks.unfinished(), AttemptEnded(outcome="completed_provisional"))
    frame = encode(Frame(_ORIGIN, 0, (*checked, *end), header=True))
    return Attempts("r").read("1-0", decode(frame))


class Audit:
    """The comparison of one test.

    Attributes:
        counts: How much was compared.
        mismatches: What differs, each in words.
    """

    def __init__(self, reference: Reference, events: Sequence[Event]) -> None:
        self.counts: Counter[str] = Counter()
        self.mismatches: list[str] = [f"gap: {event.reason}" for event in events if isinstance(event, Gap)]
        self._text: defaultdict[int, str] = defaultdict(str)
        self._reasoning: defaultdict[int, str] = defaultdict(str)
        self._ends: dict[int, list[CallEnded]] = {}
        self._views: dict[int, AIMessageChunk] = {}
        started: defaultdict[str, list[int]] = defaultdict(list)
        self._read(events, started)
        for run_id, runs in reference.runs.items():
            taken = [run for run in runs if run.observed and not run.tags & _NO_STREAM]
            ordinals = started.pop(run_id, [])
            if len(taken) != len(ordinals):
                self.mismatches.append(f"calls: {len(taken)} of LangChain, {len(ordinals)} captured")
                continue
            for run, ordinal in zip(taken, ordinals, strict=True):
                self._compare(run, ordinal)
        self.mismatches += [f"calls: captured alone, {len(ordinals)}" for ordinals in started.values()]

    def _read(self, events: Iterable[Event], started: defaultdict[str, list[int]]) -> None:
        chunks = Chunks(subgraphs=True)
        for event in events:
            if isinstance(event, CallStarted):
                started[event.call.run_id].append(event.call.ordinal)
            elif isinstance(event, TokenEvent):
                self._text[event.call.ordinal] += event.token
            elif isinstance(event, ReasoningEvent):
                self._reasoning[event.call.ordinal] += event.token
            elif isinstance(event, CallEnded):
                self._ends.setdefault(event.call.ordinal, []).append(event)
            for chunk, _ in chunks.read(event):
                call = getattr(event, "call", None)
                if call is not None and isinstance(chunk, AIMessageChunk):
                    known = self._views.get(call.ordinal)
                    self._views[call.ordinal] = chunk if known is None else known + chunk

    def _compare(self, run: Run, ordinal: int) -> None:
        self.counts["calls"] += 1
        text, ends = self._text[ordinal], self._ends.get(ordinal, [])
        if len(ends) != 1:
            self.mismatches.append(f"ends: {len(ends)}")
            return
        [end] = ends
        if run.answer is None:
            # A call that is cut off has no error: it is unfinished.
            is_cut_off = run.error in ("CancelledError", "GeneratorExit") and end.unfinished
            self._differ("error", None if is_cut_off else run.error, end.error)
            if not run.has_events:
                self._differ("text before an error", "".join(run.texts), text)
            return
        answer = run.answer
        if self._is_echo(answer, text, ordinal):
            self.counts["echoes"] += 1
            return
        self.counts["texts"] += 1
        self._differ("text", answer.text, text)
        if answer.reasoning is not None:
            self._differ("reasoning", answer.reasoning, self._reasoning[ordinal])
        if answer.is_message:
            self._differ("message id", answer.id, end.message_id)
            self._differ("usage", answer.usage, end.usage or None)
            if view := self._views.get(ordinal):
                self._compare_view(answer, view)

    def _is_echo(self, answer: Answer, text: str, ordinal: int) -> bool:
        """Whether a call repeats the message of a call within it, which began later: it is sent once."""
        within = (end for number, ends in self._ends.items() if number > ordinal for end in ends)
        is_lost = bool(answer.text) and not text
        return is_lost and answer.id is not None and any(end.message_id == answer.id for end in within)

    def _compare_view(self, answer: Answer, view: AIMessageChunk) -> None:
        self.counts["views"] += 1
        self._differ("`.messages()`: text", answer.text, str(view.text))
        self._differ("`.messages()`: tool calls", answer.tools, tools_of(view))
        if answer.usage:
            # Of a cache hit LangChain says nothing but the cost, and a chunk must have all counts.
            self._differ("`.messages()`: usage", {**_NO_TOKENS, **answer.usage}, view.usage_metadata)
        if answer.kinds is not None:
            kinds = Counter(block["type"] for block in view.content_blocks)
            self._differ("`.messages()`: blocks", dict(answer.kinds), dict(kinds))

    def _differ(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            self.mismatches.append(f"{what}: {str(expected)[:200]!r}, not {str(found)[:200]!r}")
