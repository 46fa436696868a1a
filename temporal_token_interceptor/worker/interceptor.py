"""`TokenStreamingInterceptor`: adds streaming to every activity and Nexus operation of a worker."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Literal

from temporalio.converter import DataConverter
from temporalio.worker import (
    ActivityInboundInterceptor,
    Interceptor,
    NexusOperationInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from temporal_token_interceptor.capture.call_gate import HoldCalls, MakeTransform
from temporal_token_interceptor.capture.filters import Content, Kind
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.telemetry.model_calls import GenAISpans
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.activity_run import StreamingActivity
from temporal_token_interceptor.worker.attempt_run import StreamingSetup
from temporal_token_interceptor.worker.heartbeat import Heartbeat
from temporal_token_interceptor.worker.live_session import Fallback, Live
from temporal_token_interceptor.worker.nexus import StreamingOperation
from temporal_token_interceptor.worker.options import StreamingOptions


class TokenStreamingInterceptor(Interceptor):
    """Makes every LangChain model that runs inside an activity of this worker stream its tokens.

    The activity's result, exception and cancellation leave exactly as they came, and nothing is added to
    the workflow's history; but a result that has a field `custom_data` gets a summary there, and an
    activity with a heartbeat timeout beats. An activity that calls no model pays for one idle task at
    most; a token costs a few microseconds in the model's callback, and is sent by another task. At its end
    an activity waits until its last tokens are stored: a round trip, or `flush_timeout` if the transport is
    away.

    Making `ainvoke` stream has consequences that do not depend on this package: the request to the
    provider becomes a streaming one, your own handlers receive `on_llm_new_token`, and what a provider
    leaves out of its stream (usage, often) is missing from the message. See `force_streaming`.

    Args:
        backend: Where the tokens go. It is used on the worker's event loop and not closed. None: they travel
            in the activity's heartbeats (`live`) and go into its result, whole if 128 KiB are enough.
        nodes: The LangGraph nodes to capture (outside of a graph: activity types); None for all.
        activities: The activity types to capture; None for all.
        tags: LangChain's tags: only calls, tools and nodes with one of these; None for all.
        kinds: Some of `text`, `reasoning`, `tool_call`, `block`, `tool`, `node`, `custom`; None for all.
            The start and end of a model call are always sent.
        capture: What is left out unless asked for, because it is large or was never meant for a viewer:
            `tool_input`, `tool_output`, `node_output`, `retriever_input`, `retriever_output`, `media` (the
            bytes of images, audio and files).
        metadata_keys: Of your own metadata, what to send with each model call.
        retrievers: Whether retrievers are reported: that they search, and how many documents they found.
        hold_calls: Which calls are sent only once they have ended, and not at all if they failed: True for
            all, or names of tags and nodes. For content that a check within the call may still refuse.
        transform: Given a call, returns what changes its text before it leaves (`TextTransform`), or None;
            called once for the answer and once for the reasoning. It runs in the model's callback. If it
            fails, the rest of the text is withheld, and readers see a `Gap`. Tool calls, blocks, node
            outputs and custom events do not go through it; `CallEnded.additional_kwargs` is left out.
        force_streaming: `"auto"`: calls of `invoke` and `ainvoke` stream where streaming the model runs
            the same code of its author as not streaming it. True: wherever the model can stream. False:
            never; only calls that stream by themselves arrive in pieces, all others when they end. The
            tag `tti:noforce` leaves a single call alone.
        data_converter: If it has a payload codec, frames are sealed with it, and readers need it to open
            them. None: that of the worker's client. `DataConverter.default` leaves frames plain.
        heartbeat: `"auto"`: from its first model call on, an activity with a `heartbeat_timeout` beats by
            itself, at a third of it, so that
            a slow first token does not trip it; your own latest details are repeated, never replaced. An
            interval: every activity beats, at that interval or the third, whichever is shorter. `"off"`:
            none does. **An activity that beats learns of cancellation**, at the next beat that the SDK sends
            (every 0.8 timeouts), and one that hangs no longer times out: see `stall_timeout`.
        stall_timeout: How long nothing may be captured before the activity stops to beat by itself, so that
            a model call that hangs still times out. It goes on once something is captured. Longer than the
            longest wait for a first token, and than the longest pause between two calls. None: never.
        live: Without a backend: `"auto"`: the newest tokens (64 KiB) travel in the details of heartbeats,
            behind your own, from the first model call on, every 0.2 s while tokens come; readers find them at
            Temporal. An interval: as often as that. The worker has to let them through: set its
            `max_heartbeat_throttle_interval` and `default_heartbeat_throttle_interval` to the interval, as
            `TokenStreamingPlugin` does. At its end an activity waits up to two intervals, at most
            `flush_timeout`. `"off"`, or `heartbeat="off"`: tokens come with the result only.
        fallback: With a backend: `"heartbeats"`: while it is away, the tokens travel in heartbeats as `live`
            says, and go to the backend, too, once it is back. Readers need the same option. The worker has
            to let the heartbeats through, as `live` says. `"off"`: tokens wait for the backend.
        summary: `"auto"`: a result that has a field `custom_data`, None or a list, gets an item there: counts
            of what was said (at most 4 KiB), or, of what no backend took, the tokens (at most 128 KiB).
            It is left alone where the item would not survive decoding by the activity's return type, or
            Temporal's limit for payloads. `"off"`: every result is left alone.
        flush_timeout: How long an activity that has ended may wait for its last tokens to be stored.
        genai_spans: Whether `chat` and `execute_tool` spans and the GenAI metrics are made for OpenTelemetry,
            where an SDK is installed: `"on"`, `"off"`, or `"auto"`: unless another instrumentation of
            LangChain does it.
        max_buffered_bytes: Memory for what waits for the transport, all activities of the worker together:
            the bytes of all that it holds. What does not fit is counted, and readers see a `Gap`; starts and
            ends may use 4 MiB more.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        backend: TokenSink | None = None,
        *,
        nodes: Collection[str] | None = None,
        activities: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        kinds: Collection[Kind] | None = None,
        capture: Collection[Content] = (),
        metadata_keys: Collection[str] = (),
        retrievers: bool = False,
        hold_calls: HoldCalls = False,
        transform: MakeTransform | None = None,
        force_streaming: Literal["auto"] | bool = "auto",
        data_converter: DataConverter | None = None,
        heartbeat: Heartbeat = "auto",
        stall_timeout: timedelta | None = None,
        live: Live = "auto",
        fallback: Fallback = "off",
        summary: Literal["auto", "off"] = "auto",
        flush_timeout: timedelta = timedelta(seconds=2),
        genai_spans: GenAISpans = "auto",
        max_buffered_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        if backend is not None and not isinstance(backend, TokenSink):
            raise ConfigurationError(
                f"backend must be a TokenSink such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        if backend is None and summary == "off":
            raise ConfigurationError('without a backend, summary="off" leaves nowhere for the tokens to go')
        options = StreamingOptions(
            nodes=nodes,
            activities=activities,
            tags=tags,
            kinds=kinds,
            capture=capture,
            metadata_keys=metadata_keys,
            retrievers=retrievers,
            hold_calls=hold_calls,
            transform=transform,
            force_streaming=force_streaming,
            data_converter=data_converter,
            heartbeat=heartbeat,
            stall_timeout=stall_timeout,
            live=live,
            fallback=fallback,
            summary=summary,
            flush_timeout=flush_timeout,
            genai_spans=genai_spans,
            max_buffered_bytes=max_buffered_bytes,
        )
        self._setup = StreamingSetup(backend, options)
        self._is_run_by_plugin = False

    @property
    def backend(self) -> TokenSink | None:
        """Where the tokens go; None for `custom_data`."""
        return self._setup.backend

    @property
    def options(self) -> StreamingOptions:
        """What this interceptor was made with."""
        return self._setup.options

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap an activity attempt. Temporal calls this once for each."""
        self._report()
        return StreamingActivity(next, self._setup)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - Temporal's name
    ) -> None:
        """Leave workflows as they are. Temporal calls this when a worker with workflows is made."""
        self._report()

    def _report(self) -> None:
        if not self._is_run_by_plugin:
            self._setup.startup.report_and_check()

    def intercept_nexus_operation(
        self,
        next: NexusOperationInboundInterceptor,  # noqa: A002
    ) -> NexusOperationInboundInterceptor:
        """Wrap a Nexus operation. Temporal calls this once for each."""
        return StreamingOperation(next, self._setup)

    def __repr__(self) -> str:
        """Describe where the tokens go."""
        backend = self._setup.backend
        where = "custom_data" if backend is None else f"{backend!r}, {self._setup.budget!r}"
        return f"<TokenStreamingInterceptor to {where}>"


def managed(interceptor: TokenStreamingInterceptor) -> StreamingSetup:
    """Return what runs an interceptor, to a plugin that reports its start and closes it."""
    # Private to users, who see only the interceptor: the plugin beside it may look.
    interceptor._is_run_by_plugin = True  # pyright: ignore[reportPrivateUsage]
    return interceptor._setup  # pyright: ignore[reportPrivateUsage]
