"""The names that LangChain's and LangGraph's users know of streaming: each has a row in docs/langgraph.md.

`KNOWN` is what their guides, class documents and change requests name. `installed` finds what the installed
versions have, so that a name that is new there fails a test until it has a row.
"""

import inspect
from typing import get_args, get_type_hints

import langgraph.stream
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream
from langchain_protocol import protocol
from langgraph.stream import AsyncGraphRunStream, AsyncSubgraphRunStream, StreamChannel, StreamTransformer
from langgraph.stream.transformers import LifecyclePayload
from langgraph.types import StreamMode


def _of(owner: str, *names: str) -> list[str]:
    return [f"{owner}{name}" for name in names]


KNOWN: dict[str, list[str]] = {
    "event types": [
        *_of("on_chain_", "start", "stream", "end", "error"),
        *_of("on_chat_model_", "start", "stream", "end"),
        *_of("on_tool_", "start", "end", "error"),
        *_of("on_retriever_", "start", "end"),
        "on_custom_event",
        *_of("on_llm_", "new_token", "end", "error"),
        "on_stream_event",
    ],
    "members of events": _of("event.", "event", "name", "run_id", "parent_ids", "tags", "metadata", "data"),
    "filters": [
        *_of("include_", "names", "types", "tags"),
        *_of("exclude_", "names", "types", "tags"),
    ],
    "stream modes": [f'stream_mode="{mode}"' for mode in ("values", "updates", "messages", "custom", "debug")]
    + ['stream_mode="tools"', "stream_mode=[...]", "subgraphs=True"],
    "ways out": ["get_stream_writer", "WebSocket", "Server-Sent Events", "EventSource", "batches"],
    "entry points": [
        *_of("astream_events ", "v1", "v2", "v3"),
        *_of("", "stream_v2", "astream_v2", "transformers=[...]", "astream_events(None)", "StreamMux"),
    ],
    "protocol events": [
        *_of("ProtocolEvent.", "type", "seq", "event_id", "method", "params"),
        *_of("params.", "namespace", "timestamp", "data", "interrupts"),
    ],
    "message events": [
        "message-start",
        *_of("content-block-", "start", "delta", "finish"),
        "message-finish",
        "error",
    ],
    "tool events": _of("tool-", "started", "output-delta", "finished", "error"),
    "transformers": [
        *_of("StreamTransformer.", "init", "process", "aprocess", "finalize", "afinalize", "fail", "afail"),
        *_of("StreamTransformer.", "schedule", "scope", "_native", "before_builtins", "requires_async"),
        *_of("StreamTransformer.", "supports_sync", "required_stream_modes"),
        *_of("", "LifecycleTransformer", "SubgraphTransformer", "ToolCallTransformer"),
    ],
    "channels": _of("StreamChannel.", "name", "push", "close", "fail", "tee", "atee", "maxlen"),
    "run objects": [
        *_of("run.", "values", "updates", "messages", "tool_calls", "lifecycle", "custom", "subgraphs"),
        *_of("run.", "tasks", "checkpoints", "debug", "extensions", "output", "interleave"),
        *_of("run.", "interrupted", "interrupts", "abort", "__aiter__"),
        *_of("", "GraphRunStream", "AsyncGraphRunStream", "SubgraphRunStream", "AsyncSubgraphRunStream"),
        *_of("", "AgentStreamer", "AgentRunStream", "AsyncAgentRunStream"),
        *_of("subgraph.", "path", "graph_name", "trigger_call_id", "status", "error"),
        *_of("LifecyclePayload.", "event", "namespace", "graph_name", "trigger_call_id", "cause", "error"),
    ],
    "tool handles": _of(
        "tool.", "tool_call_id", "tool_name", "input", "output_deltas", "output", "error", "completed"
    ),
    "calls": [
        *_of("call.", "text", "reasoning", "tool_calls", "usage", "output", "__aiter__", "__await__"),
        *_of("call.", "namespace", "node", "message_id", "done", "output_message", "dispatch", "fail"),
        *_of("call.", "set_arequest_more", "set_start", "has_events", "set_message_id", "aclose"),
        *_of("", "AsyncProjection", "SyncProjection", "message_to_events"),
    ],
    "content blocks": [
        *_of("block ", "text", "reasoning", "tool_call", "tool_call_chunk", "invalid_tool_call"),
        *_of("block ", "server_tool_call", "server_tool_call_chunk", "server_tool_result"),
        *_of("block ", "image", "audio", "video", "file", "text-plain", "non_standard", "citation"),
    ],
    "messages": [
        *_of("AIMessage.", "content", "id", "tool_calls", "invalid_tool_calls", "usage_metadata"),
        *_of("AIMessage.", "response_metadata", "additional_kwargs"),
    ],
}


def installed() -> dict[str, list[str]]:
    """Return the public names of the installed versions, in the same words."""

    def public(kind: type, owner: str, *also: str) -> list[str]:
        names = {*vars(kind), *getattr(kind, "__annotations__", {}), *also}
        return sorted(f"{owner}{name}" for name in names if not name.startswith("_") or name in also)

    chat = {
        name for base in inspect.getmro(AsyncChatModelStream)[:-1] for name in vars(base) if name[0] != "_"
    }
    return {
        "stream modes": [f'stream_mode="{mode}"' for mode in get_args(StreamMode)],
        "exports": [
            name
            for name in langgraph.stream.__all__
            if name != "ProtocolEvent"  # its members have rows
        ],
        "transformers": public(StreamTransformer, "StreamTransformer."),
        "channels": public(StreamChannel, "StreamChannel."),
        "run objects": public(AsyncGraphRunStream, "run."),
        "subgraphs": sorted(f"subgraph.{name}" for name in _subgraph_members()),
        "lifecycle": public(LifecyclePayload, "LifecyclePayload."),
        "calls": sorted(f"call.{name}" for name in chat),
        "message events": [
            event
            for kind in get_args(protocol.MessagesData)
            for event in get_args(get_type_hints(kind)["event"])
        ],
    }


def _subgraph_members() -> set[str]:
    """The public members of a subgraph's handle that a run has not."""
    bases = inspect.getmro(AsyncSubgraphRunStream)[:-1]
    annotated = {name for base in bases for name in inspect.get_annotations(base)}
    own = annotated - set(inspect.get_annotations(AsyncGraphRunStream))
    return {name for name in own if not name.startswith("_")}
