"""From LangChain's callbacks to OpenTelemetry: `chat` and `execute_tool` spans, and the GenAI metrics.

A handler of its own beside the one that captures: without an SDK it is not there at all, and what is captured
does not depend on what is measured. It sees every call, also those that are kept out of the stream.

A call's span cannot be made the current one: callbacks have no block to do so in. So what could be its
children, such as the HTTP requests of the provider's client, are its siblings.
"""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from uuid import UUID

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import LLMResult
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from temporal_token_interceptor._guard import NO_INJECTION, Guard, never_failing
from temporal_token_interceptor.capture.langchain_hooks import (
    InlineHandler,
    also_observed_by,
    is_instrumented,
)
from temporal_token_interceptor.capture.message_parts import finish_reason_of, message_of
from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.instruments import Instruments, fail, live_instruments, live_tracer
from temporal_token_interceptor.telemetry.live_run import LiveRun
from temporal_token_interceptor.telemetry.message_content import (
    PROVIDERS,
    content_is_wanted,
    messages_json,
    said,
)

logger = logging.getLogger(__name__)

GenAISpans = Literal["auto", "on", "off"]
"""Who reports model calls to OpenTelemetry; see `TokenStreamingInterceptor`."""

_CANCELLED = "cancelled"

_DETAILS = (
    (names.CACHE_READ_TOKENS, "input_token_details", "cache_read"),
    (names.CACHE_CREATION_TOKENS, "input_token_details", "cache_creation"),
    (names.REASONING_TOKENS, "output_token_details", "reasoning"),
)


class ModelTelemetry(InlineHandler):
    """Reports the model calls and tool runs of one activity attempt.

    Args:
        default_node: The node's name outside of a graph.
        tracer: For spans; None for none.
        instruments: For metrics; None for none.
        content: Whether prompts, answers and arguments are recorded.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """

    ignore_chain = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True
    raise_error = True

    def __init__(
        self,
        *,
        default_node: str,
        tracer: trace.Tracer | None,
        instruments: Instruments | None,
        content: bool,
        guard: Guard = NO_INJECTION,
    ) -> None:
        super().__init__()
        self.guard = guard
        self._logged = False
        self._default_node = default_node
        self._tracer = tracer
        self._instruments = instruments
        self._per_chunk: Callable[..., None] | None = (
            None if instruments is None else instruments[names.TIME_PER_OUTPUT_CHUNK]
        )
        self._content = content
        self._live: dict[int, LiveRun] = {}  # by `run_id.int`, as in capture.py
        self._closed = False

    # ------------------------------------------------------------------ model calls

    @never_failing
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        run = self._call_started("chat", run_id, metadata or {})
        if run is not None and self._content:
            run.span.set_attribute(
                names.INPUT_MESSAGES, messages_json([m for turn in messages for m in turn])
            )

    @never_failing
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        run = self._call_started("text_completion", run_id, metadata or {})
        if run is not None and self._content:
            run.span.set_attribute(names.INPUT_MESSAGES, json.dumps([said("user", text) for text in prompts]))

    @never_failing
    def on_llm_new_token(
        self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        run = self._live.get(run_id.int)
        if run is None or run.by_events or (run.chunks and self._per_chunk is None):
            return
        if not token and getattr(getattr(chunk, "message", None), "chunk_position", None) == "last":
            return  # LangChain's own, to mark the end
        run.by_events = False
        self._chunk(run)

    @never_failing
    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        run = self._live.get(run_id.int)
        if run is not None and run.by_events is not False and event["event"] == "content-block-delta":
            run.by_events = True
            self._chunk(run)

    @never_failing
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        run = self._live.pop(run_id.int, None)
        if run is None:
            return
        message = message_of(response)
        facts: Mapping[str, Any] = message.response_metadata if message is not None else {}
        found = {
            names.RESPONSE_MODEL: facts.get("model_name") or facts.get("model"),
            names.RESPONSE_ID: facts.get("id"),
        }
        if (reason := finish_reason_of(message, response)) is not None:
            found[names.FINISH_REASONS] = [reason]
        usage: Mapping[str, Any] = (message.usage_metadata if message is not None else None) or {}
        found[names.INPUT_TOKENS] = usage.get("input_tokens")
        found[names.OUTPUT_TOKENS] = usage.get("output_tokens")
        for name, details, detail in _DETAILS:
            found[name] = (usage.get(details) or {}).get(detail)
        run.span.set_attributes({name: value for name, value in found.items() if value is not None})
        if self._content and message is not None:
            run.span.set_attribute(names.OUTPUT_MESSAGES, messages_json([message]))
        if found[names.RESPONSE_MODEL]:
            run.attributes = {**run.attributes, names.RESPONSE_MODEL: found[names.RESPONSE_MODEL]}
        if self._instruments is not None:
            for kind, name in (("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
                if found[name] is not None:
                    self._instruments[names.TOKEN_USAGE](
                        found[name], {**run.attributes, names.TOKEN_TYPE: kind}
                    )
        self._call_ended(run)

    @never_failing
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        run = self._live.pop(run_id.int, None)
        if run is not None:
            self._call_ended(run, type(error).__name__)

    def _call_started(self, operation: str, run_id: UUID, metadata: Mapping[str, Any]) -> LiveRun | None:
        if self._closed:
            return None
        model, provider = metadata.get("ls_model_name"), metadata.get("ls_provider")
        attributes = {names.OPERATION: operation, names.REQUEST_MODEL: model}
        attributes[names.PROVIDER] = PROVIDERS.get(provider, provider) if provider else None
        attributes = {name: value for name, value in attributes.items() if value is not None}
        more = {
            names.REQUEST_TEMPERATURE: metadata.get("ls_temperature"),
            names.REQUEST_MAX_TOKENS: metadata.get("ls_max_tokens"),
            names.REQUEST_STOP: metadata.get("ls_stop"),
            names.NODE: metadata.get("langgraph_node") or self._default_node,
        }
        span = self._start(
            f"{operation} {model}" if model else operation,
            SpanKind.CLIENT,
            {**attributes, **{name: value for name, value in more.items() if value is not None}},
        )
        run = self._live[run_id.int] = LiveRun(span, attributes)
        return run

    def _chunk(self, run: LiveRun) -> None:
        now = time.monotonic()
        if not run.chunks:
            after = now - run.started
            run.span.set_attributes({names.REQUEST_STREAM: True, names.FIRST_CHUNK_AFTER: after})
            if self._instruments is not None:
                self._instruments[names.TIME_TO_FIRST_CHUNK](after, run.attributes)
        elif self._per_chunk is not None:
            self._per_chunk(now - run.last_chunk, run.attributes)
        run.chunks += 1
        run.last_chunk = now

    def _call_ended(self, run: LiveRun, error_type: str | None = None) -> None:
        attributes = run.attributes
        if error_type is not None:
            fail(run.span, error_type)
            attributes = {**attributes, names.ERROR_TYPE: error_type}
        run.span.end()
        if self._instruments is not None:
            self._instruments[names.DURATION](time.monotonic() - run.started, attributes)

    # ------------------------------------------------------------------ tools

    @never_failing
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._closed:
            return
        name = (serialized or {}).get("name") or kwargs.get("name") or "unknown"
        attributes = {
            names.OPERATION: "execute_tool",
            names.TOOL_NAME: name,
            names.TOOL_TYPE: "function",
            names.NODE: (metadata or {}).get("langgraph_node") or self._default_node,
        }
        if call_id := kwargs.get("tool_call_id"):
            attributes[names.TOOL_CALL_ID] = call_id
        if self._content:
            attributes[names.TOOL_ARGUMENTS] = input_str
        self._live[run_id.int] = LiveRun(
            self._start(f"execute_tool {name}", SpanKind.INTERNAL, attributes), {}
        )

    @never_failing
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        run = self._live.pop(run_id.int, None)
        if run is None:
            return
        if self._content:
            run.span.set_attribute(
                names.TOOL_RESULT, output.text if isinstance(output, BaseMessage) else str(output)
            )
        if isinstance(output, ToolMessage) and output.status == "error":
            fail(run.span, "ToolError")
        run.span.end()

    @never_failing
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        run = self._live.pop(run_id.int, None)
        if run is not None:
            fail(run.span, type(error).__name__)
            run.span.end()

    # ------------------------------------------------------------------ both

    def _start(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Span:
        if self._tracer is None:
            return trace.INVALID_SPAN
        return self._tracer.start_span(name, kind=kind, attributes=attributes)

    def log_error(self, error: Exception) -> None:
        """Log an exception, the first of this attempt."""
        if not self._logged:
            self._logged = True
            logger.error(
                "telemetry of model calls failed; the calls go on (logged once an attempt)", exc_info=error
            )

    @never_failing
    def close(self) -> None:
        """End what is open, as cancelled: a cancelled `ainvoke` fires no callback. Ignore what follows."""
        self._closed = True
        for run_id in list(self._live):
            run = self._live.pop(run_id, None)
            if run is None:
                continue
            if run.attributes:
                self._call_ended(run, _CANCELLED)
            else:
                fail(run.span, _CANCELLED)
                run.span.end()


@contextmanager
def models_reported(
    *, genai_spans: GenAISpans, default_node: str, guard: Guard = NO_INJECTION
) -> Iterator[None]:
    """Report every model call and tool run made within the context, if an SDK is installed.

    Args:
        genai_spans: `"on"`; `"off"`; `"auto"`: unless another instrumentation of LangChain does it.
        default_node: The node's name outside of a graph.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """
    tracer, instruments = live_tracer(), live_instruments()
    no_sdk = tracer is None and instruments is None
    if no_sdk or genai_spans == "off" or (genai_spans == "auto" and is_instrumented()):
        yield
        return
    handler = ModelTelemetry(
        default_node=default_node,
        tracer=tracer,
        instruments=instruments,
        content=content_is_wanted(),
        guard=guard,
    )
    try:
        with also_observed_by(handler):
            yield
    finally:
        handler.close()
