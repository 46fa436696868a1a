"""What travels: the events, and the `Frame` that carries them. Where they come from is `origin.py`'s.

Pure data: frozen, slotted, no I/O and no third party. A reader of a subscription sees the classes of
the `Event` union, each with its `origin` (which attempt of which activity) and its `cursor` (resume
right after it). A writer puts the same classes into frames, still without origin and cursor: the reader
adds them from the frame, so that they are sent once and not once a token.

Text is the exception: in a frame it travels as `TextRun`, neighbouring tokens of one call together, and
is unfolded into one `TokenEvent` (or `ReasoningEvent`) a token on the reader's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from temporal_token_interceptor.events.graph import (
    CustomEvent,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.events.lifecycle import GapReason, Outcome, Status
from temporal_token_interceptor.events.origin import NO_CALL, NO_ORIGIN, AttemptEvent, Call, EventBase, Origin
from temporal_token_interceptor.protocol.text_check import TextCheck

__all__ = [
    "NO_CALL",
    "NO_ORIGIN",
    "AttemptEnded",
    "AttemptEvent",
    "AttemptStarted",
    "Call",
    "CallEnded",
    "CallStarted",
    "ContentBlock",
    "CustomEvent",
    "Event",
    "EventBase",
    "Frame",
    "Gap",
    "GapReason",
    "GraphEvent",
    "NodeEnded",
    "NodeStarted",
    "Origin",
    "Outcome",
    "ReasoningEvent",
    "Record",
    "RunContinued",
    "Status",
    "StreamEnded",
    "TextKind",
    "TextRun",
    "TokenEvent",
    "ToolCallChunk",
    "ToolEnded",
    "ToolStarted",
]

TextKind = Literal["text", "reasoning"]


@dataclass(frozen=True, slots=True)
class TokenEvent(AttemptEvent):
    """A piece of an answer's text. The tokens of one call, joined, are exactly its message's text.

    Field names and `to_dict` are those of `deepagent-temporal`, so that its clients keep working.

    Attributes:
        token: The text; one model chunk, or several if they were merged during an outage.
        node_name: The graph node that produced it.
        index: The position of `token` among the text chunks of its call, from 0. Merged chunks take
            the position of the first.
        is_final: Always False in a subscription (`CallEnded` ends a call); True on the empty closing
            event of `TokenCapturingHandler`.
        attempt: The activity attempt, from 1.
        call: The call that the text belongs to.
    """

    token: str
    node_name: str
    index: int
    is_final: bool = False
    attempt: int = 1
    call: Call = field(default=NO_CALL, kw_only=True)

    def to_dict(self) -> dict[str, str | int]:
        """Return the flat form that `XADD` accepts: strings and integers only, booleans as 1 and 0."""
        return {
            "type": "token",
            "token": self.token,
            "node_name": self.node_name,
            "index": self.index,
            "is_final": "1" if self.is_final else "0",
            "attempt": self.attempt,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(AttemptEvent):
    """An activity attempt began to stream.

    Attributes:
        supersedes: The attempt it replaces: clear what that one drew (events whose `origin.attempt_id` is
            the same). None if no earlier attempt of the activity was seen.
        superseded_by: The newer attempt that had appeared before this one. Always None, but for
            `on_retry="annotate"`, which shows such attempts too.
    """

    supersedes: Origin | None = None
    superseded_by: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(AttemptEvent):
    """A model call began.

    Attributes:
        call: The call: its node, path, model, tags.
    """

    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningEvent(AttemptEvent):
    """A piece of a model's reasoning; never part of the answer's text.

    Attributes:
        token: The text.
        index: Its position among the reasoning chunks of its call, from 0.
        call: The model call.
    """

    token: str
    index: int
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallChunk(AttemptEvent):
    """A fragment of a tool call that a model is writing.

    Attributes:
        index: Which tool call of the message; fragments with the same index belong together.
        id: The tool call's id; usually only in its first fragment.
        name: The tool's name; usually only in its first fragment.
        args: A fragment of the JSON of the arguments.
        call: The model call.
    """

    index: int | str | None
    id: str | None
    name: str | None
    args: str
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentBlock(AttemptEvent):
    """A block of an answer that is neither text, reasoning nor a tool call, as LangChain's v1 block.

    Images, audio, video and files come as references: type, `mime_type`, `id`, `url`, and `size` in bytes in
    place of the bytes, which are sent only if the worker was told so (`capture={"media"}`). Annotations of
    a text come as a text block that has no text.

    Attributes:
        block: The block.
        call: The model call.
    """

    block: Mapping[str, Any]
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(AttemptEvent):
    """A model call ended.

    Attributes:
        call: The call.
        usage: LangChain's `usage_metadata`, where the provider reported it.
        finish_reason: The provider's word for why the model stopped.
        error: The exception's class name if the call failed; never its message, which may hold content.
        message_id: The id of the message that the model returned.
        streamed: Whether the text arrived in pieces; False for a cache hit or a model that cannot
            stream, whose text was sent whole.
        unfinished: Whether the call was still open when its attempt ended.
    """

    call: Call
    usage: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    error: str | None = None
    message_id: str | None = None
    streamed: bool = True
    unfinished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(AttemptEvent):
    """The worker's word on how an attempt ended. Advisory: only history knows what Temporal recorded.

    Attributes:
        outcome: See `Outcome`.
        will_retry: For `failed`: whether the retry policy allows another attempt; None if unknown.
    """

    outcome: Outcome
    will_retry: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(EventBase):
    """Something is missing here, and this is all that is known about it.

    Attributes:
        missing: How many tokens (of `overflow`, `mismatch` and `transport`) or frames (else); None if
            nobody can know.
        reason: See `GapReason`.
        call: The call that misses tokens, where that is known.
        origin: The attempt that misses something; None if the stream as a whole does.
    """

    origin: Origin | None = None
    missing: int | None
    reason: GapReason
    call: Call | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(EventBase):
    """The workflow goes on in another run: continued as new, retried, on a schedule, or reset.

    Attributes:
        run_id: The run that it goes on in.
    """

    origin: None = None
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(EventBase):
    """The last event of every subscription: how the workflow closed, as Temporal says.

    Attributes:
        status: See `Status`. It is Temporal's word, with its spelling: `canceled`, where an `Outcome` is
            `cancelled`.
    """

    origin: None = None
    status: Status


Event = (
    TokenEvent
    | ReasoningEvent
    | ToolCallChunk
    | ContentBlock
    | CallStarted
    | CallEnded
    | ToolStarted
    | ToolEnded
    | NodeStarted
    | NodeEnded
    | CustomEvent
    | GraphEvent
    | AttemptStarted
    | AttemptEnded
    | Gap
    | RunContinued
    | StreamEnded
)
"""Everything that `TokenSubscriber.subscribe` can yield."""


@dataclass(frozen=True, slots=True)
class TextRun:
    """Neighbouring text chunks of one call, as a frame carries them.

    Attributes:
        kind: Answer or reasoning.
        call: The ordinal of the call.
        first_index: The position of the first chunk among the chunks of this kind in its call.
        texts: The chunks; token boundaries survive.
        count: How many chunks the model sent. More than `len(texts)` after an outage, when the
            worker joined chunks to keep within its memory bound.
    """

    kind: TextKind
    call: int
    first_index: int
    texts: Sequence[str]
    count: int


Record = (
    TextRun
    | TextCheck
    | ToolCallChunk
    | ContentBlock
    | CallStarted
    | CallEnded
    | ToolStarted
    | ToolEnded
    | NodeStarted
    | NodeEnded
    | CustomEvent
    | GraphEvent
    | AttemptEnded
    | Gap
)
"""What a frame may carry."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What an attempt sends in one go.

    Attributes:
        origin: The attempt.
        seq: Counts the frames of the attempt from 0, without holes.
        records: What happened, in order.
        header: Whether the frame tells its whole origin and its open calls, so that a reader can
            begin here. True for frame 0, and again from time to time.
        open_calls: In a header: the calls that started in earlier frames and have not ended.
        traceparent: In a header: the attempt's trace, if it is traced.
        waiting_since: When the oldest event was captured, in microseconds since 1970; None if not measured.
    """

    origin: Origin
    seq: int
    records: tuple[Record, ...]
    header: bool = False
    open_calls: tuple[Call, ...] = ()
    traceparent: str | None = None
    waiting_since: int | None = None
