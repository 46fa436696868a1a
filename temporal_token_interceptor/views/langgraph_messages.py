"""A subscription in LangGraph's shape: chunks with metadata, as `stream_mode="messages"` yields them.

What a node returns and no model has streamed comes whole, as there, where the worker sends what nodes return.

A chunk cannot take text back and LangGraph's stream has no holes, so two things needed a decision:

* A retry yields a `RemoveMessage` for each message of the attempt that is superseded, as LangGraph's own
  state takes messages back. A call has another id in every attempt, LangChain's: a client that ignores the
  removal has two messages, as after a node's retry within LangGraph, and never a garbled one.
* The loop ends in peace only if the workflow completed and nothing is missing; else it ends with an error,
  after all that there is.
"""

from __future__ import annotations

import json
from typing import Any, assert_never

from langchain_core.messages import AIMessageChunk, BaseMessage, RemoveMessage
from langchain_core.messages.tool import tool_call_chunk

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
from temporal_token_interceptor.views.call_metadata import Metadata, message_id, of_attempt, of_call, present
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.returned_messages import new_messages, of_node
from temporal_token_interceptor.views.usage import usage_metadata

Message = tuple[BaseMessage, Metadata]
"""An `AIMessageChunk`; or a `RemoveMessage`, which takes back what has its id; or a message that a node
returned, whole; and where it comes from.
"""

_TEXT_INDEXES = 1_000  # behind all that providers number

_SAYS = TokenEvent | ReasoningEvent | ToolCallChunk | ContentBlock
_Around = (
    AttemptStarted
    | AttemptEnded
    | CallStarted
    | ToolStarted
    | ToolEnded
    | RetrieverStarted
    | RetrieverEnded
    | NodeStarted
    | NodeEnded
    | CustomEvent
    | GraphEvent
    | Gap
    | RunContinued
    | StreamEnded
)


class Chunks:
    """Turns events into chunks, one by one; pure.

    Args:
        subgraphs: Whether calls within subgraphs are shown.
        cursor: Where the events begin.
        returned: Whether messages are shown that nodes return and no model has streamed.
    """

    def __init__(self, *, subgraphs: bool = False, cursor: str = "", returned: bool = True) -> None:
        self._subgraphs = subgraphs
        self._returned = returned
        self._runs: list[dict[str, _Attempt]] = [{}]  # by attempt id: of the run before, and of this one
        self._ending = Ending()
        self._cursor = cursor

    def read(self, event: Event) -> list[Message]:
        """Return what an event adds: a chunk, removals, or nothing."""
        if isinstance(event, Gap) and event.call is not None and not self._shows(event.call):
            return []  # no call of this reader misses it
        said = self._said(event)
        self._ending.note(event)
        self._cursor = event.cursor
        return said

    def _said(self, event: Event) -> list[Message]:
        match event:
            case TokenEvent(token=text, block=block):
                # As LangChain merges chunks: plain text is one block, those of a list differ by their index.
                in_list = [{"type": "text", "text": text, "index": _index("text", block)}]
                return self._chunk(event, content=in_list if block else text)
            case ReasoningEvent(token=text, block=block):
                index = _index("reasoning", block)
                return self._chunk(event, content=[{"type": "reasoning", "reasoning": text, "index": index}])
            case ToolCallChunk():
                return self._tool_call(event)
            case ContentBlock():
                return self._chunk(event, content=[self._block(event)])
            case CallEnded():
                return self._last(event)
            case _:
                return self._around(event)

    def _around(self, event: _Around) -> list[Message]:
        said: list[Message] = []
        match event:
            case AttemptStarted():
                said = self._begun(event)
            case Gap():
                said = self._gap(event)
            case NodeEnded():
                said = self._whole(event) if self._returned else []
            case RunContinued():
                self._runs = [self._runs[-1], {}]
            case (
                CallStarted()
                | ToolStarted()
                | ToolEnded()
                | RetrieverStarted()
                | RetrieverEnded()
                | NodeStarted()
                | CustomEvent()
                | GraphEvent()
                | AttemptEnded()
                | StreamEnded()
            ):
                pass
            case _:
                assert_never(event)
        return said

    def recall(self, event: Event) -> None:
        """Take note of what the viewer already has."""
        if isinstance(event, _SAYS | CallEnded) and self._shows(event.call):
            self._drawn(event.origin, event.call)
            if isinstance(event, CallEnded) and event.error is not None:
                self._forget(event)
        elif isinstance(event, NodeEnded) and self._returned:
            self._whole(event)

    def knows_all(self, origin: Origin) -> bool:
        """Whether all that an attempt said was read."""
        return any(run[origin.attempt_id].is_whole for run in self._runs if origin.attempt_id in run)

    def end(self) -> None:
        """Raise if the stream did not end well; see `Ending.check`."""
        self._ending.check()

    # ------------------------------------------------------------------ one event

    def _begun(self, event: AttemptStarted) -> list[Message]:
        said = [] if event.supersedes is None else self._removals(event.supersedes, event)
        self._runs[-1][event.origin.attempt_id] = _Attempt(is_whole=True)
        return said

    def _chunk(self, event: _SAYS | CallEnded, **content: Any) -> list[Message]:
        if not self._shows(event.call):
            return []
        drawn = self._drawn(event.origin, event.call)
        return [(AIMessageChunk(id=drawn.id, **content), {**drawn.metadata, "cursor": event.cursor})]

    def _whole(self, event: NodeEnded) -> list[Message]:
        """Return the messages that a node returned; the last alone has the event's cursor, as a removal."""
        found = new_messages(event, subgraphs=self._subgraphs)
        if not found:
            return []
        metadata = of_node(event)
        held = self._attempt_of(event.origin).messages
        held.update({str(message.id): _Shown(str(message.id), metadata) for message in found})
        cursors = [self._cursor] * (len(found) - 1) + [event.cursor]
        return [
            (message, {**metadata, "cursor": cursor}) for message, cursor in zip(found, cursors, strict=True)
        ]

    def _tool_call(self, event: ToolCallChunk) -> list[Message]:
        # LangChain reads even half an object as one, but not a text.
        args = json.dumps(event.args) if event.invalid else event.args
        part = tool_call_chunk(id=event.id, name=event.name, args=args, index=self._tool_index(event))
        return self._chunk(event, content="", tool_call_chunks=[part])

    def _tool_index(self, event: ToolCallChunk) -> int | None:
        """Return a number for the tool call: LangChain merges fragments by one, and refuses a text."""
        if not isinstance(event.index, str) or not self._shows(event.call):
            return event.index if isinstance(event.index, int) else None
        numbers = self._drawn(event.origin, event.call).tool_indexes
        return numbers.setdefault(event.index, _TEXT_INDEXES + len(numbers))

    def _block(self, event: ContentBlock) -> dict[str, Any]:
        """Return a block; what one says beside its text has the index of that, and so is merged with it."""
        block = dict(event.block)
        kind, number = block.get("type"), block.get("index")
        if kind in ("text", "reasoning") and not block.get(kind) and type(number) is int:
            if kind == "text" and not number:
                del block["index"]  # of plain text, which has none
            else:
                block["index"] = _index(kind, number)
        return block

    def _last(self, event: CallEnded) -> list[Message]:
        """Close a message; one that broke off without `last`, which says that its tool calls are whole.

        A call that failed within its attempt is taken back: the graph tried again, fell back, or failed.
        """
        broke_off = event.error is not None or event.unfinished
        facts = {"error": event.error, "unfinished": event.unfinished, "message_id": event.message_id}
        said = self._chunk(
            event,
            content="",
            usage_metadata=usage_metadata(event.usage),
            additional_kwargs=dict(event.additional_kwargs or {}),
            response_metadata={"finish_reason": event.finish_reason} if event.finish_reason else {},
            chunk_position=None if broke_off else "last",
        )
        if event.error is not None:
            self._forget(event)
            return [
                (RemoveMessage(id=str(chunk.id)), {**metadata, **present(facts)}) for chunk, metadata in said
            ]
        return [(chunk, {**metadata, **present(facts)}) for chunk, metadata in said]

    def _gap(self, gap: Gap) -> list[Message]:
        facts: Metadata = {"langgraph_node": "", "gap": gap, "cursor": gap.cursor}
        if gap.origin is None:
            return [(AIMessageChunk(content=""), facts)]
        if gap.call is None:
            return [(AIMessageChunk(content=""), {**facts, **of_attempt(gap.origin)})]
        drawn = self._drawn(gap.origin, gap.call)
        return [(AIMessageChunk(content="", id=drawn.id), {**facts, **drawn.metadata})]

    def _removals(self, superseded: Origin, event: AttemptStarted) -> list[Message]:
        """Take back what an attempt said.

        Only the last removal has a new cursor: a reader that resumes before it gets all of them again.
        """
        drawn = [
            message
            for run in self._runs
            for message in run.pop(superseded.attempt_id, _Attempt()).messages.values()
        ]
        cursors = [self._cursor] * (len(drawn) - 1) + [event.cursor]
        return [
            (RemoveMessage(id=message.id), {**message.metadata, "cursor": cursor})
            for message, cursor in zip(drawn, cursors, strict=False)
        ]

    def _forget(self, event: CallEnded) -> None:
        """Drop the message of a call: it was taken back, and a retry need not do so again."""
        for run in self._runs:
            if (attempt := run.get(event.origin.attempt_id)) is not None:
                attempt.messages.pop(event.call.ordinal, None)

    def _shows(self, call: Call) -> bool:
        return self._subgraphs or not call.path

    def _drawn(self, origin: Origin, call: Call) -> _Drawn:
        """Return the message of a call, a new one if nothing of it was shown so far."""
        messages = self._attempt_of(origin).messages
        drawn = messages.get(call.ordinal)
        if not isinstance(drawn, _Drawn):
            drawn = messages[call.ordinal] = _Drawn(origin, call)
        return drawn

    def _attempt_of(self, origin: Origin) -> _Attempt:
        run = next((run for run in self._runs if origin.attempt_id in run), self._runs[-1])
        return run.setdefault(origin.attempt_id, _Attempt())


class _Attempt:
    """What a viewer has of an attempt."""

    def __init__(self, *, is_whole: bool = False) -> None:
        self.is_whole = is_whole
        self.messages: dict[int | str, _Shown] = {}  # by ordinal; whole ones by id


class _Shown:
    """A message that a viewer has."""

    def __init__(self, message_id: str, metadata: Metadata) -> None:
        self.id = message_id
        self.metadata = metadata


class _Drawn(_Shown):
    """What a viewer has of a call."""

    def __init__(self, origin: Origin, call: Call) -> None:
        super().__init__(message_id(origin, call), of_call(origin, call))
        self.tool_indexes: dict[str, int] = {}  # of tool calls whose index is a text


def _index(kind: str, number: int) -> str:
    """Return an index by which LangChain merges the pieces of a block, as it makes them itself."""
    return f"lc_{kind}_{number}"
