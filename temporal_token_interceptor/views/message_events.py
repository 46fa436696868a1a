"""One call of a model in the events of LangChain's protocol: a message's start, its blocks, its end.

Pure, and without LangChain: `run` feeds them to LangChain's own stream of a call, `protocol_events` yields
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Gap,
    Origin,
    ReasoningEvent,
    TextKind,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.views.call_metadata import message_id
from temporal_token_interceptor.views.tool_calls import ToolCalls, WrittenToolCall
from temporal_token_interceptor.views.usage import usage_metadata

MessageEvent = dict[str, Any]
"""`{"event": "message-start" | "content-block-..." | "message-finish" | "error", ...}`."""

Said = TokenEvent | ReasoningEvent | ToolCallChunk | ContentBlock | CallStarted
"""The events of a call but its end."""


class MessageEvents:
    """Translates the events of one call, one by one.

    Args:
        origin: The attempt.
        call: The call.

    Attributes:
        origin: The attempt.
        call: The call.
        start: The event that begins the message.
    """

    def __init__(self, origin: Origin, call: Call) -> None:
        self.origin = origin
        self.call = call
        facts = {"provider": call.provider, "model": call.model, "run_id": call.run_id}
        self.start: MessageEvent = {
            "event": "message-start",
            "role": "ai",
            "id": message_id(origin, call),
            "metadata": {name: fact for name, fact in facts.items() if fact},
        }
        self._made: list[MessageEvent] = []
        self._blocks = 0
        self._missing: Gap | None = None
        self._open_text: _Text | None = None
        self._texts: dict[tuple[str, int], _Text] = {}  # by kind, and number among those of it
        # By their type and the provider's index, by which the pieces of one belong together.
        self._others: dict[tuple[str, int | str] | None, tuple[int, dict[str, Any]]] = {}
        self._tool_calls = ToolCalls()
        self._tool_call_numbers: list[int] = []  # of their blocks, in the same order

    def add(self, event: Said) -> list[MessageEvent]:
        """Return what an event of the call adds."""
        match event:
            case TokenEvent(token=text, block=block):
                self._add_text("text", text, block)
            case ReasoningEvent(token=text, block=block):
                self._add_text("reasoning", text, block)
            case ToolCallChunk():
                self._add_tool_call(event)
            case ContentBlock(block=content):
                self._add_block(content)
            case CallStarted():
                pass
            case _:
                assert_never(event)
        return self._taken()

    def finish(self, end: CallEnded) -> list[MessageEvent]:
        """Return the rest of the message, or the reason that it has none."""
        if end.error is not None or end.unfinished:
            return [failure("failed" if end.error else "unfinished", end.error or "unfinished")]
        if self._missing is not None:
            return [failure("missing", self._missing.reason)]
        self._close_text()
        for number, tool_call in zip(self._tool_call_numbers, self._tool_calls.written, strict=True):
            self._part("finish", number, content=parsed_call(tool_call))
        facts: dict[str, Any] = {"finish_reason": end.finish_reason} if end.finish_reason else {}
        last: MessageEvent = {
            "event": "message-finish",
            "usage": usage_metadata(end.usage),
            "metadata": facts,
        }
        if end.additional_kwargs:
            last["additional_kwargs"] = dict(end.additional_kwargs)
        return [*self._taken(), last]

    def miss(self, gap: Gap) -> None:
        """Note a gap, if this call may miss something of it."""
        is_ours = gap.call is None or gap.call.ordinal == self.call.ordinal
        if is_ours and gap.origin in (None, self.origin):
            self._missing = gap

    def _taken(self) -> list[MessageEvent]:
        made, self._made = self._made, []
        return made

    def _add_text(self, kind: TextKind, text: str, block: int) -> None:
        of = self._turn_to(kind, block)
        of.pieces.append(text)
        self._part("delta", of.place, delta={"type": f"{kind}-delta", kind: text})

    def _turn_to(self, kind: str, block: int) -> _Text:
        of = self._texts.get((kind, block))
        if of is None or of is not self._open_text:
            self._close_text()
        if of is None:
            of = self._texts[kind, block] = _Text(kind, self._open({"type": kind, kind: ""}))
        self._open_text = of
        return of

    def _add_tool_call(self, chunk: ToolCallChunk) -> None:
        self._close_text()
        place = self._tool_calls.add(chunk)
        if place == len(self._tool_call_numbers):
            part: dict[str, Any] = {"type": "tool_call_chunk", "id": chunk.id, "name": chunk.name, "args": ""}
            if chunk.index is not None:
                part["index"] = chunk.index
            self._tool_call_numbers.append(self._open(part))
        number = self._tool_call_numbers[place]
        self._part("delta", number, delta={"type": "tool-call-delta", "args": chunk.args})

    def _add_block(self, block: Mapping[str, Any]) -> None:
        kind, index = str(block.get("type")), block.get("index")
        if kind in ("text", "reasoning") and not block.get(kind) and type(index) is int:
            self._add_facts(kind, index, block)
            return
        self._close_text()
        place = (kind, index) if isinstance(index, int | str) else None
        number, content = self._others.get(place, (0, {}))
        if not content or not _is_same(content, block):
            number, content = self._open(final_block(block)), {}
        content = _merged(content, block)
        if place is not None:
            self._others[place] = number, content
        self._part("finish", number, content=final_block(content))

    def _add_facts(self, kind: str, block: int, said: Mapping[str, Any]) -> None:
        """Add what a text says beside itself; a text that is finished already is finished again."""
        of = self._texts.get((kind, block)) or self._turn_to(kind, block)
        of.facts = _merged(of.facts, {name: said[name] for name in said.keys() - {"type", kind, "index"}})
        if of is not self._open_text:
            self._finish_text(of)

    def _open(self, content: Mapping[str, Any]) -> int:
        number, self._blocks = self._blocks, self._blocks + 1
        self._part("start", number, content=content)
        return number

    def _close_text(self) -> None:
        if self._open_text is not None:
            of, self._open_text = self._open_text, None
            self._finish_text(of)

    def _finish_text(self, of: _Text) -> None:
        self._part("finish", of.place, content={"type": of.kind, of.kind: "".join(of.pieces), **of.facts})

    def _part(self, what: str, number: int, **facts: Any) -> None:
        self._made.append({"event": f"content-block-{what}", "index": number, **facts})


# The blocks that LangChain takes as they are.
_FINAL = ("text", "image", "audio", "video", "file", "server_tool_call", "server_tool_result", "non_standard")


def final_block(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block as LangChain takes it."""
    return block if block.get("type") in _FINAL else {"type": "non_standard", "value": block}


def failure(code: str, message: str) -> MessageEvent:
    """Return the event that ends a message without its end.

    Args:
        code: `failed`, `unfinished`, `superseded` or `missing`.
        message: The exception's class, the reason of a gap, or the code again.
    """
    return {"event": "error", "message": message, "code": code}


@dataclass(slots=True)
class _Text:
    """A block of text: its number, its text, and what it says beside it."""

    kind: str
    place: int
    pieces: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def _merged(block: Mapping[str, Any], more: Mapping[str, Any], *, depth: int = 2) -> dict[str, Any]:
    """Return a block with what comes later of it: texts joined, lists appended, objects merged."""
    whole = dict(block)
    for name, new in more.items():
        known = whole.get(name)
        if isinstance(known, str) and isinstance(new, str):
            whole[name] = new if name in _ONCE else known + new
        elif isinstance(known, list) and isinstance(new, list):
            whole[name] = [*known, *new]
        elif isinstance(known, Mapping) and isinstance(new, Mapping) and depth:
            whole[name] = _merged(known, new, depth=depth - 1)
        elif new is not None:
            whole[name] = new
    return whole


_ONCE = frozenset({"type", "id", "index"})


def _is_same(block: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two blocks with one index are one: they are, unless they have different ids."""
    ids = {name for name in (block.get("id"), other.get("id")) if name and isinstance(name, str)}
    return len(ids) < 2


def parsed_call(written: WrittenToolCall) -> dict[str, Any]:
    """Return a tool call as LangChain has it once it is whole; invalid if its arguments are no object."""
    tool_call = {"id": written.id, "name": written.name or "", "args": written.args}
    try:
        args = None if written.invalid else json.loads(written.args or "{}")
    except (ValueError, RecursionError):  # nested too deep, or a number of thousands of digits
        args = None
    if isinstance(args, dict):
        return {"type": "tool_call", **tool_call, "args": args}
    error = "the model's message says so" if written.invalid else "the arguments are no JSON object"
    return {"type": "invalid_tool_call", **tool_call, "error": error}
