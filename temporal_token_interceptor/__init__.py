"""Live tokens from LangChain and LangGraph inside Temporal activities: one line on the worker.

An interceptor makes every model call within an activity stream, without a change to graphs, models,
workflows or their history; a subscriber reads the tokens anywhere else, each once, in order, with
retries taken back and the end as Temporal has it. A token costs a few microseconds where it is made, some
bytes in Redis, and under a millisecond to arrive. It may come late; the activity never does: it is
neither failed nor altered, and held up only for the last tokens at its end, within a bound.

    worker = Worker(client, ..., interceptors=[TokenStreamingInterceptor(backend)])

    async for event in TokenSubscriber(client, backend).subscribe(workflow_id): ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal_token_interceptor.capture.call_gate import TextTransform
    from temporal_token_interceptor.capture.manual_handler import TokenCapturingHandler, create_token_handler
    from temporal_token_interceptor.capture.stream_graph import stream_graph
    from temporal_token_interceptor.errors import (
        CallNotCompleted,
        CodecMismatch,
        ConfigurationError,
        IncompleteAnswer,
        InvalidCursor,
        ProtocolError,
        StreamNotFound,
        SubgraphNotCompleted,
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
        RetrieverEnded,
        RetrieverStarted,
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
    from temporal_token_interceptor.reader.blocking import BlockingSubscriber
    from temporal_token_interceptor.reader.blocking_run import (
        BlockingProjection,
        BlockingRun,
        BlockingSubgraph,
        BlockingToolCall,
    )
    from temporal_token_interceptor.reader.blocking_streams import (
        BlockingGraphStream,
        BlockingMany,
        BlockingStream,
        BlockingTree,
    )
    from temporal_token_interceptor.reader.graph_stream import GraphStream
    from temporal_token_interceptor.reader.many import ManyWorkflows, StreamFailed
    from temporal_token_interceptor.reader.request import OnRetry
    from temporal_token_interceptor.reader.statistics import ReaderStatistics
    from temporal_token_interceptor.reader.subscriber import TokenSubscriber
    from temporal_token_interceptor.reader.tree import WorkflowTree
    from temporal_token_interceptor.transport.base import Entry, PositionStore, TokenSink, TokenSource
    from temporal_token_interceptor.transport.memory import MemoryStreamBackend
    from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
    from temporal_token_interceptor.views.model_call import ModelCall
    from temporal_token_interceptor.views.plain_call import BlockingModelCall
    from temporal_token_interceptor.views.projection import Projection
    from temporal_token_interceptor.views.run_scope import SubgraphRun
    from temporal_token_interceptor.views.snapshot import (
        AttemptState,
        CallText,
        NodeState,
        RetrieverState,
        Snapshot,
        ToolCallText,
        ToolState,
    )
    from temporal_token_interceptor.views.tool_call_stream import ToolCallStream
    from temporal_token_interceptor.views.transformers import Transformer
    from temporal_token_interceptor.views.workflow_run import WorkflowRun
    from temporal_token_interceptor.worker.instrument import instrument, uninstrument
    from temporal_token_interceptor.worker.interceptor import TokenStreamingInterceptor
    from temporal_token_interceptor.worker.plugin import TokenStreamingPlugin

# Every public name, and the module that has it, which is imported at first use: a client that only reads
# loads no LangChain, a worker with another transport no Redis. For type checkers the lists are `__all__`, and
# the types are those above. To add a name, add it there and here.
_HOME_OF: dict[str, str] = {}
__all__: list[str] = []


def _found_in(home: str) -> None:
    """The names that were added to `__all__` since the last call are in this module."""
    _HOME_OF.update(dict.fromkeys(__all__[len(_HOME_OF) :], home))


__all__ += ["TextTransform"]
_found_in("capture.call_gate")
__all__ += ["TokenCapturingHandler", "create_token_handler"]
_found_in("capture.manual_handler")
__all__ += ["stream_graph"]
_found_in("capture.stream_graph")
__all__ += [
    "CallNotCompleted",
    "CodecMismatch",
    "ConfigurationError",
    "IncompleteAnswer",
    "InvalidCursor",
    "ProtocolError",
    "StreamNotFound",
    "SubgraphNotCompleted",
    "TokenStreamError",
    "TokensMissing",
    "TransportUnavailable",
    "WorkflowNotCompleted",
]
_found_in("errors")
__all__ += [
    "AttemptEnded",
    "AttemptStarted",
    "Call",
    "CallEnded",
    "CallStarted",
    "ContentBlock",
    "CustomEvent",
    "Event",
    "Gap",
    "GapReason",
    "GraphEvent",
    "NodeEnded",
    "NodeStarted",
    "Origin",
    "Outcome",
    "ReasoningEvent",
    "RetrieverEnded",
    "RetrieverStarted",
    "RunContinued",
    "Status",
    "StreamEnded",
    "TokenEvent",
    "ToolCallChunk",
    "ToolEnded",
    "ToolStarted",
]
_found_in("events")
__all__ += ["event_from_json", "events_schema"]
_found_in("events.json_form")
__all__ += ["summary_events"]
_found_in("protocol.result_items")
__all__ += ["StreamKey"]
_found_in("protocol.stream_key")
__all__ += ["BlockingSubscriber"]
_found_in("reader.blocking")
__all__ += ["BlockingProjection", "BlockingRun", "BlockingSubgraph", "BlockingToolCall"]
_found_in("reader.blocking_run")
__all__ += ["BlockingGraphStream", "BlockingMany", "BlockingStream", "BlockingTree"]
_found_in("reader.blocking_streams")
__all__ += ["GraphStream"]
_found_in("reader.graph_stream")
__all__ += ["ManyWorkflows", "StreamFailed"]
_found_in("reader.many")
__all__ += ["OnRetry"]
_found_in("reader.request")
__all__ += ["ReaderStatistics"]
_found_in("reader.statistics")
__all__ += ["TokenSubscriber"]
_found_in("reader.subscriber")
__all__ += ["WorkflowTree"]
_found_in("reader.tree")
__all__ += ["Entry", "PositionStore", "TokenSink", "TokenSource"]
_found_in("transport.base")
__all__ += ["MemoryStreamBackend"]
_found_in("transport.memory")
__all__ += ["RedisStreamBackend"]
_found_in("transport.redis.backend")
__all__ += ["ModelCall"]
_found_in("views.model_call")
__all__ += ["BlockingModelCall"]
_found_in("views.plain_call")
__all__ += ["Projection"]
_found_in("views.projection")
__all__ += ["SubgraphRun"]
_found_in("views.run_scope")
__all__ += [
    "AttemptState",
    "CallText",
    "NodeState",
    "RetrieverState",
    "Snapshot",
    "ToolCallText",
    "ToolState",
]
_found_in("views.snapshot")
__all__ += ["ToolCallStream"]
_found_in("views.tool_call_stream")
__all__ += ["Transformer"]
_found_in("views.transformers")
__all__ += ["WorkflowRun"]
_found_in("views.workflow_run")
__all__ += ["instrument", "uninstrument"]
_found_in("worker.instrument")
__all__ += ["TokenStreamingInterceptor"]
_found_in("worker.interceptor")
__all__ += ["TokenStreamingPlugin"]
_found_in("worker.plugin")


if not TYPE_CHECKING:  # a type checker that sees it takes every mistyped name for one of ours

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
