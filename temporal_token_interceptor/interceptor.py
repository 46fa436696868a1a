"""The Temporal side: binds a session to every activity attempt, and says how the attempt ended."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Literal

from temporalio import activity
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from temporal_token_interceptor.backends.base import TokenSink
from temporal_token_interceptor.buffer import Budget
from temporal_token_interceptor.capture import Observer, capturing
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.process_pool import Capture, Parent
from temporal_token_interceptor.protocol import StreamKey
from temporal_token_interceptor.selection import Selection, names
from temporal_token_interceptor.session import Session

logger = logging.getLogger(__name__)


class TokenStreamingInterceptor(Interceptor):
    """Makes every LangChain model that runs inside an activity of this worker stream its tokens.

    The activity's result, exception and cancellation leave exactly as they came, and nothing is added to
    the workflow's history. An activity that calls no model pays for one idle task; a token costs a
    few microseconds in the model's callback, and is sent from a task of its own. At its end an activity
    waits until its last tokens are stored: a round trip, or `flush_timeout` if the transport is away.

    Making `ainvoke` stream has consequences that do not depend on this package: the request to the
    provider becomes a streaming one, your own handlers receive `on_llm_new_token`, and what a provider
    leaves out of its stream (usage, often) is missing from the message. See `force_streaming`.

    Args:
        backend: Where the tokens go. It is used on the worker's event loop and not closed.
        nodes: The LangGraph nodes to capture (outside of a graph: activity types); None for all.
        activities: The activity types to capture; None for all.
        tags: LangChain's tags: only calls, tools and nodes with one of these; None for all.
        kinds: Some of `text`, `reasoning`, `tool_call`, `block`, `tool`, `node`, `custom`; None for all.
            That a model call began and ended is always told.
        capture: What is left out unless asked for, because it is large or was never meant for a viewer:
            `tool_input`, `tool_output`, `node_output`, `media` (the bytes of images, audio and files).
        metadata_keys: Of your own metadata, what to send with each model call.
        force_streaming: `"auto"`: calls of `invoke` and `ainvoke` stream where streaming the model runs
            the same code of its author as not streaming it. True: wherever the model can stream. False:
            never; only calls that stream by themselves arrive in pieces, all others when they end. The
            tag `tti:noforce` leaves a single call alone.
        data_converter: The client's. If it has a payload codec, frames are sealed with it, and readers need
            it to open them. None: frames are plain JSON. `TokenStreamingPlugin` passes it by itself.
        flush_timeout: How long an activity that has ended may wait for its last tokens to be stored.
        max_buffered_bytes: Memory for tokens that wait for the transport, all activities of the worker
            together. What does not fit is counted, and readers see a `Gap`.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        backend: TokenSink,
        *,
        nodes: Collection[str] | None = None,
        activities: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        kinds: Collection[str] | None = None,
        capture: Collection[str] = (),
        metadata_keys: Collection[str] = (),
        force_streaming: Literal["auto"] | bool = "auto",
        data_converter: DataConverter | None = None,
        flush_timeout: timedelta = timedelta(seconds=2),
        max_buffered_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        if not isinstance(backend, TokenSink):
            raise ConfigurationError(
                f"backend must be a TokenSink such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        if force_streaming not in ("auto", True, False):
            raise ConfigurationError(
                f'force_streaming must be "auto", True or False, not {force_streaming!r}'
            )
        if data_converter is not None and not isinstance(data_converter, DataConverter):
            raise ConfigurationError(
                f"data_converter must be that of the client, not {type(data_converter).__name__}"
            )
        if not isinstance(flush_timeout, timedelta) or flush_timeout < timedelta(0):
            raise ConfigurationError(
                f"flush_timeout must be a timedelta that is not negative, not {flush_timeout!r}"
            )
        self._backend = backend
        self._activities = names("activities", activities)
        self._selection = Selection.of(
            nodes=nodes, tags=tags, kinds=kinds, capture=capture, metadata_keys=metadata_keys
        )
        self._force_streaming = force_streaming
        self._data_converter = data_converter
        self._flush_timeout = flush_timeout
        self._budget = Budget(max_buffered_bytes)
        self._warned: set[str] = set()

    @property
    def backend(self) -> TokenSink:
        """Where the tokens go."""
        return self._backend

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap an activity attempt. Temporal calls this once for each."""
        return _StreamingActivity(next, self)

    async def execute(self, next: ActivityInboundInterceptor, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Run an activity attempt, streaming what its models say."""
        info = activity.info()
        if self._activities is not None and info.activity_type not in self._activities:
            return await next.execute_activity(input)
        try:
            origin = _origin(info)
            session = Session(
                origin,
                self._backend,
                budget=self._budget,
                flush_timeout=self._flush_timeout,
                codec=FrameCodec.of(self._data_converter, StreamKey.of(origin)),
            )
            observer = Observer(
                session.buffer,
                default_node=info.activity_type,
                selection=self._selection,
                thrown_in=(CancelledError,),
            )
        except Exception:  # ours: the activity must not suffer
            logger.exception("activity %r runs without streaming", info.activity_type)
            return await next.execute_activity(input)
        async with session:
            try:
                if _leaves_the_process(input):
                    result = await self._execute_in_child(session, next, input)
                else:
                    with capturing(observer, force_streaming=self._force_streaming):
                        result = await next.execute_activity(input)
            except BaseException as error:
                await session.finish(_outcome(error), will_retry=_will_retry(info, error))
                raise
            await session.finish("completed_provisional")
            return result

    async def _execute_in_child(
        self,
        session: Session,
        next: ActivityInboundInterceptor,  # noqa: A002
        input: ExecuteActivityInput,  # noqa: A002
    ) -> Any:
        capture = Capture(
            activity_type=session.origin.activity_type,
            selection=self._selection,
            force_streaming=self._force_streaming,
            max_buffered_bytes=self._budget.limit,
            flush_timeout=self._flush_timeout.total_seconds(),
        )
        async with AsyncExitStack() as stack:
            try:
                parent = await stack.enter_async_context(Parent(session.buffer, capture))
                input.fn = parent.wrap(input.fn)
            except Exception as error:  # noqa: BLE001 - ours: the activity must not suffer
                self._warn_of_pool(capture.activity_type, error)
                return await next.execute_activity(input)
            result = await next.execute_activity(input)
            if not parent.was_heard_from:
                self._warn_of_pool(capture.activity_type, "the child process could not connect")
            return result

    def _warn_of_pool(self, activity_type: str, reason: object) -> None:
        """Say once for each activity type that its tokens do not come out of the process pool."""
        if activity_type not in self._warned:
            self._warned.add(activity_type)
            logger.warning(
                "activity %r runs in a process pool without streaming (%s); run it in threads or make it "
                "async to stream it (said once)",
                activity_type,
                reason,
            )

    def __repr__(self) -> str:
        """Tell the state."""
        return f"<TokenStreamingInterceptor to {self._backend!r}, {self._budget!r}>"


class _StreamingActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, interceptor: TokenStreamingInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self._interceptor = interceptor

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return await self._interceptor.execute(self.next, input)


def _leaves_the_process(input: ExecuteActivityInput) -> bool:  # noqa: A002
    """Whether Temporal hands the activity to an executor that is not of threads; as the SDK decides."""
    return input.executor is not None and not isinstance(input.executor, ThreadPoolExecutor)


def _origin(info: activity.Info) -> Origin:
    return Origin(
        namespace=info.namespace,
        # A standalone activity has no workflow; its stream is filed under its own id.
        workflow_id=info.workflow_id or f"activity:{info.activity_id}",
        workflow_type=info.workflow_type or "",
        run_id=info.workflow_run_id or info.activity_run_id or "",
        activity_id=info.activity_id,
        activity_type=info.activity_type,
        attempt=info.attempt,
        attempt_id=hashlib.sha256(info.task_token).hexdigest()[:16],
        started_time=info.started_time,
    )


def _outcome(error: BaseException) -> Outcome:
    """Name how an attempt ended, from the exception that left it and what Temporal told the activity."""
    if isinstance(error, asyncio.CancelledError | CancelledError):
        details = activity.cancellation_details()
        if details is not None and details.paused:
            return "paused"
        if details is not None and details.worker_shutdown:
            return "worker_shutdown"
        return "cancelled"
    # The SDK's private way to say "I will complete it later". Matched by name, so that a change there costs
    # us a wrong word in an advisory event and not an import.
    if type(error).__name__ == "_CompleteAsyncError":
        return "async_pending"
    return "failed"


def _will_retry(info: activity.Info, error: BaseException) -> bool | None:
    """Predict whether Temporal starts another attempt; None where only the server can know."""
    if _outcome(error) != "failed":
        return None
    if isinstance(error, ApplicationError) and error.non_retryable:
        return False
    policy = info.retry_policy
    if policy is None:
        return None
    kind = error.type if isinstance(error, ApplicationError) and error.type else type(error).__name__
    if kind in (policy.non_retryable_error_types or ()):
        return False
    return policy.maximum_attempts == 0 or info.attempt < policy.maximum_attempts
