"""A workflow's events as blocks of text for a terminal: standing, open, or taken back. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    CustomEvent,
    Event,
    Gap,
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
from temporal_token_interceptor.views.tool_calls import ToolCalls


class State(StrEnum):
    """What is known of a block's text."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    TAKEN_BACK = "taken back"


@dataclass(slots=True)
class Block:
    """One model call, or one line about something else, in the order of the stream.

    Attributes:
        title: Where it comes from, such as `agent (attempt 2)`.
        origin: The attempt; None for what concerns the whole stream.
        text: The answer so far, or the line.
        reasoning: The reasoning so far.
        tools: The tool calls that the model writes, as far as they have come.
        state: What is known of it.
        is_note: Whether it is a line about something else than a call.
    """

    title: str
    origin: Origin | None = None
    text: str = ""
    reasoning: str = ""
    tools: ToolCalls = field(default_factory=ToolCalls)
    state: State = State.OPEN
    is_note: bool = False


class Transcript:
    """Keeps the blocks that may still change; hands out those that are final, in order."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._calls: dict[tuple[str, int], Block] = {}
        self._attempts: dict[str, bool] = {}  # by attempt id: whether its text is final

    @property
    def pending(self) -> tuple[Block, ...]:
        """The blocks that may still grow or be taken back."""
        return tuple(self._blocks)

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case TokenEvent(call=call, origin=origin, token=token):
                self._of(call, origin).text += token
            case ReasoningEvent(call=call, origin=origin, token=token):
                self._of(call, origin).reasoning += token
            case ToolCallChunk(call=call, origin=origin):
                self._of(call, origin).tools.add(event)
            case CallStarted(call=call, origin=origin):
                self._of(call, origin)
            case CallEnded(call=call, origin=origin):
                self._end(self._of(call, origin), event)
            case AttemptStarted():
                self._start(event)
            case AttemptEnded():
                self._end_attempt(event)
            case _:
                if line := _line_of(event):
                    self._blocks.append(line)

    def final(self) -> Iterator[Block]:
        """Remove and yield the blocks at the front that will not change any more."""
        while self._blocks and self._is_final(self._blocks[0]):
            yield self._take()

    def rest(self) -> Iterator[Block]:
        """Remove and yield all blocks: the stream is over."""
        while self._blocks:
            yield self._take()

    def _take(self) -> Block:
        block = self._blocks.pop(0)
        for key in [key for key, known in self._calls.items() if known is block]:
            del self._calls[key]
        return block

    def _is_final(self, block: Block) -> bool:
        if block.origin is None or block.is_note or block.state is State.TAKEN_BACK:
            return True
        return block.state is not State.OPEN and self._attempts.get(block.origin.attempt_id, False)

    def _of(self, call: Call, origin: Origin) -> Block:
        key = (origin.attempt_id, call.ordinal)
        if (block := self._calls.get(key)) is None:
            block = self._calls[key] = Block(_title(call, origin), origin)
            self._blocks.append(block)
        return block

    def _start(self, event: AttemptStarted) -> None:
        self._attempts[event.origin.attempt_id] = False
        if event.supersedes is None:
            return
        old = event.supersedes
        for block in self._blocks:
            if block.origin is not None and block.origin.attempt_id == old.attempt_id:
                block.state = State.TAKEN_BACK
        self._blocks.append(
            _note(
                f"attempt {event.origin.attempt} of {event.origin.activity_type or event.origin.activity_id} "
                f"replaces attempt {old.attempt}: its text is taken back",
                event.origin,
            )
        )

    def _end_attempt(self, event: AttemptEnded) -> None:
        final = event.outcome == "completed_provisional" or event.will_retry is False
        self._attempts[event.origin.attempt_id] = final
        if event.outcome != "completed_provisional":
            then = {True: ", Temporal will retry", False: ", no retry", None: ""}[event.will_retry]
            name = event.origin.activity_type or event.origin.activity_id
            text = f"attempt {event.origin.attempt} of {name}: {event.outcome}{then}"
            self._blocks.append(_note(text, event.origin))

    @staticmethod
    def _end(block: Block, event: CallEnded) -> None:
        block.state = State.FAILED if event.error or event.unfinished else State.DONE
        if event.error:
            block.title += f", failed: {event.error}"


def _title(call: Call, origin: Origin) -> str:
    name = "/".join((*call.path, call.node_name))
    if origin.parent is not None:
        name = f"{origin.workflow_id}: {name}"
    return f"{name} (attempt {origin.attempt})" if origin.attempt > 1 else name


def _note(text: str, origin: Origin | None = None) -> Block:
    return Block("", origin, text, state=State.DONE, is_note=True)


def _line_of(event: Event) -> Block | None:
    """Return the line for an event that is not of a call; None for one that a viewer need not see."""
    match event:
        case ToolStarted():
            return _note(f"tool {event.name} started", event.origin)
        case ToolEnded():
            how = f"failed: {event.error}" if event.error else "unfinished" if event.unfinished else "ended"
            return _note(f"tool {event.name} {how}", event.origin)
        case RetrieverEnded(document_count=int(found)):
            return _note(f"retriever {event.name} found {found} documents", event.origin)
        case RetrieverEnded():
            return _note(f"retriever {event.name} {event.error or 'unfinished'}", event.origin)
        case RetrieverStarted() | NodeStarted() | NodeEnded():
            return None
        case CustomEvent():
            return _note(f"event {event.name}", event.origin)
        case Gap():
            count = "an unknown number of" if event.missing is None else event.missing
            return _note(f"gap: {count} tokens or frames are missing ({event.reason})", event.origin)
        case RunContinued():
            return _note(f"the workflow continues in run {event.run_id}")
        case StreamEnded():
            return _note(f"workflow {event.status}")
        case _:
            return None
