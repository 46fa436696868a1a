"""What was reported: the events of a stream, and the records that a frame carries. Pure data.

Frozen, slotted, no I/O, no third party. A reader of a subscription receives the classes of the `Event` union,
each with its `origin` (which attempt of which activity) and its `cursor` (resume right after it). Import them
from here; the modules of this folder group them: `origin`, `model`, `graph`, `lifecycle`, `frame`.
"""

from temporal_token_interceptor.events.frame import Frame, Record, TextCheck, TextKind, TextRun
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
from temporal_token_interceptor.events.lifecycle import (
    AttemptEnded,
    AttemptStarted,
    Gap,
    GapReason,
    Outcome,
    RunContinued,
    Status,
    StreamEnded,
)
from temporal_token_interceptor.events.model import (
    CallEnded,
    CallStarted,
    ContentBlock,
    ReasoningEvent,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.events.origin import (
    NO_CALL,
    NO_ORIGIN,
    AttemptEvent,
    Call,
    EventBase,
    Origin,
)

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
    "RetrieverEnded",
    "RetrieverStarted",
    "RunContinued",
    "Status",
    "StreamEnded",
    "TextCheck",
    "TextKind",
    "TextRun",
    "TokenEvent",
    "ToolCallChunk",
    "ToolEnded",
    "ToolStarted",
]

Event = (
    TokenEvent
    | ReasoningEvent
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
    | AttemptStarted
    | AttemptEnded
    | Gap
    | RunContinued
    | StreamEnded
)
"""Everything that `TokenSubscriber.subscribe` can yield."""
