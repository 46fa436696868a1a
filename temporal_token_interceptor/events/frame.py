"""What a writer sends: a `Frame` of records of one attempt.

Records are the events without origin and cursor, which the reader adds from the frame. Text is the exception:
it travels as `TextRun`, neighbouring tokens of one call together, and the reader unfolds it into one
`TokenEvent` (or `ReasoningEvent`) for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from temporal_token_interceptor.events.graph import (
    CustomEvent,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    RetrieverEnded,
    RetrieverStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.events.lifecycle import AttemptEnded, Gap
from temporal_token_interceptor.events.model import CallEnded, CallStarted, ContentBlock, ToolCallChunk
from temporal_token_interceptor.events.origin import Call, Origin
from temporal_token_interceptor.events.quick_init import quick_init

TextKind = Literal["text", "reasoning"]


@quick_init
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
        block: Which of the call's blocks of this kind the chunks belong to, from 0.
    """

    kind: TextKind
    call: int
    first_index: int
    texts: Sequence[str]
    count: int
    block: int = 0


@dataclass(frozen=True, slots=True)
class TextCheck:
    """What all text of a call adds up to, for readers to verify; a frame has it before the call's end.

    Attributes:
        call: The ordinal of the call.
        count: How many chunks of text were sent.
        digest: `TextDigest.hexdigest` of the text.
    """

    call: int
    count: int
    digest: str


Record = (
    TextRun
    | TextCheck
    | ToolCallChunk
    | ContentBlock
    | CallStarted
    | CallEnded
    | ToolStarted
    | ToolEnded
    | RetrieverStarted
    | RetrieverEnded
    | NodeStarted
    | NodeEnded
    | CustomEvent
    | GraphEvent
    | AttemptEnded
    | Gap
)
"""What a frame may carry."""


@quick_init
@dataclass(frozen=True, slots=True)
class Frame:
    """What an attempt sends in one go.

    Attributes:
        origin: The attempt.
        seq: Counts the frames of the attempt from 0, without holes.
        records: What happened, in order.
        header: Whether the frame has its whole origin and its open calls, so that a reader can
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
