"""Every span, metric and attribute name, once, with what it means: docs/telemetry.md is generated from here.

Names that begin with `gen_ai`, `messaging` and `error` are OpenTelemetry's. Its conventions for generative AI
are still in development and left the package that publishes constants, so they stand here as strings.
"""

from __future__ import annotations

from temporal_token_interceptor.telemetry.kinds import Metric, SpanName

SCOPE = "temporal_token_interceptor"
"""The instrumentation scope of all of it."""

ATTRIBUTES: dict[str, str] = {}
"""What each attribute means, by name."""


def _attribute(name: str, meaning: str) -> str:
    ATTRIBUTES[name] = meaning
    return name


OPERATION = _attribute(
    "gen_ai.operation.name", "`chat` (`text_completion` for a text model) or `execute_tool`"
)
PROVIDER = _attribute("gen_ai.provider.name", "who serves the model, such as `openai`")
REQUEST_MODEL = _attribute("gen_ai.request.model", "the model that was asked")
REQUEST_STREAM = _attribute("gen_ai.request.stream", "true if the answer came in chunks")
REQUEST_TEMPERATURE = _attribute("gen_ai.request.temperature", "as LangChain reports it")
REQUEST_MAX_TOKENS = _attribute("gen_ai.request.max_tokens", "as LangChain reports it")
REQUEST_STOP = _attribute("gen_ai.request.stop_sequences", "as LangChain reports it")
RESPONSE_ID = _attribute("gen_ai.response.id", "the provider's id of the answer")
RESPONSE_MODEL = _attribute("gen_ai.response.model", "the model that answered")
FINISH_REASONS = _attribute(
    "gen_ai.response.finish_reasons", "why the model stopped, in the provider's words"
)
FIRST_CHUNK_AFTER = _attribute(
    "gen_ai.response.time_to_first_chunk", "seconds from the request to the first chunk"
)
INPUT_TOKENS = _attribute("gen_ai.usage.input_tokens", "as the provider counted")
OUTPUT_TOKENS = _attribute("gen_ai.usage.output_tokens", "as the provider counted")
CACHE_READ_TOKENS = _attribute(
    "gen_ai.usage.cache_read.input_tokens", "of the input tokens: read from a cache"
)
CACHE_CREATION_TOKENS = _attribute(
    "gen_ai.usage.cache_creation.input_tokens", "of the input tokens: written to a cache"
)
REASONING_TOKENS = _attribute("gen_ai.usage.reasoning.output_tokens", "of the output tokens: reasoning")
TOKEN_TYPE = _attribute("gen_ai.token.type", "`input` or `output`")
TOOL_NAME = _attribute("gen_ai.tool.name", "the tool")
TOOL_TYPE = _attribute("gen_ai.tool.type", "`function`")
TOOL_CALL_ID = _attribute(
    "gen_ai.tool.call.id", "the id of the tool call, where the tool was called by a model"
)
INPUT_MESSAGES = _attribute("gen_ai.input.messages", "the prompt as JSON; **only if asked for**")
OUTPUT_MESSAGES = _attribute("gen_ai.output.messages", "the answer as JSON; **only if asked for**")
TOOL_ARGUMENTS = _attribute("gen_ai.tool.call.arguments", "what the tool was given; **only if asked for**")
TOOL_RESULT = _attribute("gen_ai.tool.call.result", "what the tool returned; **only if asked for**")

ERROR_TYPE = _attribute(
    "error.type",
    "the class of the exception, never its message; `cancelled` if the attempt ended before the call; "
    "`undelivered` if the transport took not all",
)

SYSTEM = _attribute(
    "messaging.system", "the transport: `redis`, `memory`, `temporal` (its history), or the class of your own"
)
OPERATION_NAME = _attribute("messaging.operation.name", "`send` or `receive`")
OPERATION_TYPE = _attribute("messaging.operation.type", "`send` or `receive`")
DESTINATION = _attribute(
    "messaging.destination.name", "the stream: namespace, workflow id and, of `send`, run id"
)
TEMPLATE = _attribute("messaging.destination.template", "the form of all streams' names")
MESSAGE_COUNT = _attribute("messaging.batch.message_count", "how many frames")

NODE = _attribute(
    "temporal_token_interceptor.node", "the LangGraph node; outside of a graph, the activity type"
)
CALL_ID = _attribute("temporal_token_interceptor.call.id", "LangChain's run id of the model call")
ATTEMPT = _attribute("temporal_token_interceptor.attempt", "Temporal's number of the attempt, from 1")
GAP_REASON = _attribute("temporal_token_interceptor.gap.reason", "the `reason` of the `Gap`")
GATEWAY_FORMAT = _attribute(
    "temporal_token_interceptor.gateway.format", "the format of the stream, such as `sse` or `ai-sdk`"
)
GATEWAY_REFUSAL = _attribute(
    "temporal_token_interceptor.gateway.refusal",
    "the HTTP status of the answer; `408` if a client accepted nothing for too long",
)
ACTIVITY_TYPE = _attribute("activity_type", "the activity type, under the name that Temporal's metrics use")

STREAM_TEMPLATE = "{namespace}/{workflow_id}/{run_id}"

_REQUEST = (OPERATION, PROVIDER, REQUEST_MODEL)


CHAT = SpanName(
    "chat {model}",
    "CLIENT",
    "One for each model call, from request to last chunk; a child of the span that is current where the "
    "model is called: Temporal's `RunActivity`, your own, or the client's.",
    (
        *_REQUEST,
        REQUEST_STREAM,
        REQUEST_TEMPERATURE,
        REQUEST_MAX_TOKENS,
        REQUEST_STOP,
        RESPONSE_ID,
        RESPONSE_MODEL,
        FINISH_REASONS,
        FIRST_CHUNK_AFTER,
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        CACHE_READ_TOKENS,
        CACHE_CREATION_TOKENS,
        REASONING_TOKENS,
        NODE,
        ERROR_TYPE,
        INPUT_MESSAGES,
        OUTPUT_MESSAGES,
    ),
)
EXECUTE_TOOL = SpanName(
    "execute_tool {tool}",
    "INTERNAL",
    "One for each tool that LangChain runs; a sibling of the `chat` spans.",
    (OPERATION, TOOL_NAME, TOOL_TYPE, TOOL_CALL_ID, NODE, ERROR_TYPE, TOOL_ARGUMENTS, TOOL_RESULT),
)
SEND = SpanName(
    f"send {STREAM_TEMPLATE}",
    "PRODUCER",
    "One for each model call that is streamed, from its start until its last frame is stored; a sibling of "
    "its `chat` span.",
    (
        SYSTEM,
        OPERATION_NAME,
        OPERATION_TYPE,
        DESTINATION,
        TEMPLATE,
        MESSAGE_COUNT,
        NODE,
        CALL_ID,
        ATTEMPT,
        ERROR_TYPE,
    ),
)
RECEIVE = SpanName(
    f"receive {STREAM_TEMPLATE}",
    "CLIENT",
    "One for each subscription, from its start to its end; a child of the span that is current there, with a "
    "link to the trace of every attempt that it reads.",
    (SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION, TEMPLATE, MESSAGE_COUNT, ERROR_TYPE),
)
SPANS = (CHAT, EXECUTE_TOOL, SEND, RECEIVE)


_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4.0**power for power in range(14))
_DELIVERY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "How long a model call took, failed and cancelled ones included.",
    (*_REQUEST, RESPONSE_MODEL, ERROR_TYPE),
    _SECONDS,
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "From the request to the first chunk of the answer; calls that stream.",
    _REQUEST,
    _SECONDS,
)
TIME_PER_OUTPUT_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "From each chunk to the next; calls that stream.",
    _REQUEST,
    _SECONDS,
)
TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of a call as the provider counted them; nothing where it did not.",
    (*_REQUEST, RESPONSE_MODEL, TOKEN_TYPE),
    _TOKENS,
)
FRAMES_PUBLISHED = Metric(
    f"{SCOPE}.frames.published", "counter", "{frame}", "Frames that the transport stored.", (ACTIVITY_TYPE,)
)
TOKENS_PUBLISHED = Metric(
    f"{SCOPE}.tokens.published", "counter", "{token}", "Text chunks in them.", (ACTIVITY_TYPE,)
)
TOKENS_MERGED = Metric(
    f"{SCOPE}.tokens.merged",
    "counter",
    "{token}",
    "Of the text chunks published: joined to others while the transport was away. The text is whole.",
    (ACTIVITY_TYPE,),
)
TOKENS_DROPPED = Metric(
    f"{SCOPE}.tokens.dropped",
    "counter",
    "{token}",
    "What did not fit into `max_buffered_bytes`; readers saw a `Gap`.",
    (ACTIVITY_TYPE,),
)
TOKENS_SUPERSEDED = Metric(
    f"{SCOPE}.tokens.superseded",
    "counter",
    "{token}",
    "Waste: text chunks published by attempts that failed and are retried. A killed worker cannot count.",
    (ACTIVITY_TYPE,),
)
FRAMES_UNDELIVERED = Metric(
    f"{SCOPE}.frames.undelivered",
    "counter",
    "{frame}",
    "What was left when an attempt ended and `flush_timeout` was over: frames, and records not yet in one.",
    (ACTIVITY_TYPE,),
)
FRAMES_DROPPED = Metric(
    f"{SCOPE}.frames.dropped",
    "counter",
    "{frame}",
    "Undelivered frames of ended activities that are lost: no result holds them, and the transport did not "
    "take them within ten minutes, or before the worker stopped.",
)
FLUSH_DURATION = Metric(
    f"{SCOPE}.flush.duration",
    "histogram",
    "s",
    "From handing a frame to the transport until it is stored.",
    (SYSTEM,),
    _DELIVERY_SECONDS,
)
BUFFER_SIZE = Metric(
    f"{SCOPE}.buffer.size",
    "observable_up_down_counter",
    "By",
    "Memory that tokens which wait for the transport hold, all activities of the process together.",
)
DELIVERY_DELAY = Metric(
    f"{SCOPE}.delivery.delay",
    "histogram",
    "s",
    "From the model's callback in the worker to the reader, the oldest event of each frame; by the clocks of "
    "both machines. What was sent before the subscription began is left out.",
    (SYSTEM,),
    _DELIVERY_SECONDS,
)
READER_GAPS = Metric(
    f"{SCOPE}.reader.gaps", "counter", "{gap}", "`Gap` events that subscriptions yielded.", (GAP_REASON,)
)
READER_TOKENS_SUPERSEDED = Metric(
    f"{SCOPE}.reader.tokens.superseded",
    "counter",
    "{token}",
    "Text chunks that a subscription yielded and then took back; of killed workers, too.",
)
GATEWAY_CONNECTIONS = Metric(
    f"{SCOPE}.gateway.connections",
    "up_down_counter",
    "{connection}",
    "Streams that the gateway serves now.",
    (GATEWAY_FORMAT,),
)
GATEWAY_BYTES = Metric(
    f"{SCOPE}.gateway.bytes", "counter", "By", "What the gateway wrote to its clients.", (GATEWAY_FORMAT,)
)
GATEWAY_RESYNCS = Metric(
    f"{SCOPE}.gateway.resyncs",
    "counter",
    "{resync}",
    "How often a client was given the whole state, because it fell behind.",
    (GATEWAY_FORMAT,),
)
GATEWAY_DELAY = Metric(
    f"{SCOPE}.gateway.delay",
    "histogram",
    "s",
    "From the storing of an entry in Redis, by its id, to the write to a client; by the clocks of both, in "
    "whole milliseconds. What was stored before the connection began is left out.",
    (GATEWAY_FORMAT,),
    _DELIVERY_SECONDS,
)
GATEWAY_REFUSALS = Metric(
    f"{SCOPE}.gateway.refusals",
    "counter",
    "{refusal}",
    "Streams that were refused, or cut off because their client accepted nothing.",
    (GATEWAY_FORMAT, GATEWAY_REFUSAL),
)
METRICS = (
    DURATION,
    TIME_TO_FIRST_CHUNK,
    TIME_PER_OUTPUT_CHUNK,
    TOKEN_USAGE,
    FRAMES_PUBLISHED,
    TOKENS_PUBLISHED,
    TOKENS_MERGED,
    TOKENS_DROPPED,
    TOKENS_SUPERSEDED,
    FRAMES_UNDELIVERED,
    FRAMES_DROPPED,
    FLUSH_DURATION,
    BUFFER_SIZE,
    DELIVERY_DELAY,
    READER_GAPS,
    READER_TOKENS_SUPERSEDED,
    GATEWAY_CONNECTIONS,
    GATEWAY_BYTES,
    GATEWAY_RESYNCS,
    GATEWAY_DELAY,
    GATEWAY_REFUSALS,
)
