"""Live tokens from LangChain and LangGraph inside Temporal activities: one line on the worker.

An interceptor makes every model call within an activity stream, without a change to graphs, models,
workflows or their history; a subscriber reads the tokens anywhere else, each once, in order, with
retries taken back and the end told by Temporal. A token costs a few microseconds where it is made, some
bytes in Redis, and under a millisecond to arrive. It may come late; the activity never does: it is
neither failed nor altered, and held up only for the last tokens at its end, within a bound.

    worker = Worker(client, ..., interceptors=[TokenStreamingInterceptor(backend)])

    async for event in TokenSubscriber(client, backend).subscribe(workflow_id): ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal_token_interceptor.capture.manual_handler import TokenCapturingHandler, create_token_handler
    from temporal_token_interceptor.capture.stream_graph import stream_graph
    from temporal_token_interceptor.errors import (
        CallNotCompleted,
        CodecMismatch,
        ConfigurationError,
        InvalidCursor,
        ProtocolError,
        StreamNotFound,
        TokensMissing,
        TokenStreamError,
        TransportUnavailable,
        WorkflowNotCompleted,
    )
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
        RunContinued,
        StreamEnded,
        TokenEvent,
        ToolCallChunk,
        ToolEnded,
        ToolStarted,
    )
    from temporal_token_interceptor.events.json_form import event_from_json, events_schema
    from temporal_token_interceptor.events.lifecycle import GapReason, Outcome, Status
    from temporal_token_interceptor.protocol.result_items import summary_events
    from temporal_token_interceptor.protocol.stream_key import StreamKey
    from temporal_token_interceptor.reader.request import OnRetry
    from temporal_token_interceptor.reader.statistics import ReaderStatistics
    from temporal_token_interceptor.reader.subscriber import TokenSubscriber
    from temporal_token_interceptor.transport.base import Entry, TokenSink, TokenSource
    from temporal_token_interceptor.transport.memory import MemoryStreamBackend
    from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
    from temporal_token_interceptor.views.model_call import ModelCall
    from temporal_token_interceptor.views.snapshot import CallText, Snapshot
    from temporal_token_interceptor.views.workflow_run import WorkflowRun
    from temporal_token_interceptor.worker.interceptor import TokenStreamingInterceptor
    from temporal_token_interceptor.worker.plugin import TokenStreamingPlugin

# Where each public name lives. Imported at first use: a client that only reads loads no LangChain, and a
# worker with another transport no Redis.
_HOMES = {
    "transport.base": ("Entry", "TokenSink", "TokenSource"),
    "transport.memory": ("MemoryStreamBackend",),
    "transport.redis.backend": ("RedisStreamBackend",),
    "errors": (
        "CallNotCompleted",
        "CodecMismatch",
        "ConfigurationError",
        "InvalidCursor",
        "ProtocolError",
        "StreamNotFound",
        "TokensMissing",
        "TokenStreamError",
        "TransportUnavailable",
        "WorkflowNotCompleted",
    ),
    "events": (
        "AttemptEnded",
        "AttemptStarted",
        "Call",
        "CallEnded",
        "CallStarted",
        "ContentBlock",
        "CustomEvent",
        "Event",
        "Gap",
        "NodeStarted",
        "NodeEnded",
        "GraphEvent",
        "Origin",
        "ReasoningEvent",
        "RunContinued",
        "StreamEnded",
        "TokenEvent",
        "ToolCallChunk",
        "ToolStarted",
        "ToolEnded",
        "GapReason",
        "Outcome",
        "Status",
    ),
    "capture.stream_graph": ("stream_graph",),
    "worker.interceptor": ("TokenStreamingInterceptor",),
    "views.model_call": ("ModelCall",),
    "worker.plugin": ("TokenStreamingPlugin",),
    "events.json_form": ("event_from_json", "events_schema"),
    "protocol.stream_key": ("StreamKey",),
    "views.workflow_run": ("WorkflowRun",),
    "reader.statistics": ("ReaderStatistics",),
    "reader.request": ("OnRetry",),
    "views.snapshot": ("CallText", "Snapshot"),
    "reader.subscriber": ("TokenSubscriber",),
    "protocol.result_items": ("summary_events",),
    "capture.manual_handler": ("TokenCapturingHandler", "create_token_handler"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "Call",
    "CallEnded",
    "CallNotCompleted",
    "CallStarted",
    "CallText",
    "CodecMismatch",
    "ConfigurationError",
    "ContentBlock",
    "CustomEvent",
    "Entry",
    "Event",
    "Gap",
    "GapReason",
    "GraphEvent",
    "InvalidCursor",
    "MemoryStreamBackend",
    "ModelCall",
    "NodeEnded",
    "NodeStarted",
    "OnRetry",
    "Origin",
    "Outcome",
    "ProtocolError",
    "ReaderStatistics",
    "ReasoningEvent",
    "RedisStreamBackend",
    "RunContinued",
    "Snapshot",
    "Status",
    "StreamEnded",
    "StreamKey",
    "StreamNotFound",
    "TokenCapturingHandler",
    "TokenEvent",
    "TokenSink",
    "TokenSource",
    "TokenStreamError",
    "TokenStreamingInterceptor",
    "TokenStreamingPlugin",
    "TokenSubscriber",
    "TokensMissing",
    "ToolCallChunk",
    "ToolEnded",
    "ToolStarted",
    "TransportUnavailable",
    "WorkflowNotCompleted",
    "WorkflowRun",
    "create_token_handler",
    "event_from_json",
    "events_schema",
    "stream_graph",
    "summary_events",
]


if not TYPE_CHECKING:  # a type checker that sees it takes every mistyped name for one of ours

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return __all__
