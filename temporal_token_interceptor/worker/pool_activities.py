"""Activities that Temporal runs in a process pool: what the interceptor does in place of capturing here."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.filters import Selection
from temporal_token_interceptor.capture.forced_call import ForceStreaming
from temporal_token_interceptor.telemetry.attempt import NoTelemetry
from temporal_token_interceptor.worker.process_pool import Capture, Parent

logger = logging.getLogger(__name__)


def leaves_the_process(input: ExecuteActivityInput) -> bool:  # noqa: A002
    """Whether Temporal hands the activity to an executor that is not of threads; as the SDK decides."""
    return input.executor is not None and not isinstance(input.executor, ThreadPoolExecutor)


class ProcessPools:
    """Runs the activities of one worker that leave the process.

    Args:
        selection: What to capture.
        force_streaming: As for `capturing`.
        max_buffered_bytes: Memory in each child for what this process has not taken yet.
        flush_timeout: How long an activity may be held up, at its start and at its end.
    """

    def __init__(
        self,
        *,
        selection: Selection,
        force_streaming: ForceStreaming,
        max_buffered_bytes: int,
        flush_timeout: timedelta,
    ) -> None:
        self._selection = selection
        self._force_streaming = force_streaming
        self._max_buffered_bytes = max_buffered_bytes
        self._flush_timeout = flush_timeout.total_seconds()
        self._warned: set[str] = set()  # activity types; a worker has not many

    async def execute(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002
        input: ExecuteActivityInput,  # noqa: A002
        buffer: Buffer,
        telemetry: NoTelemetry,
    ) -> Any:
        """Run an activity attempt; what its models say in the child goes into the buffer."""
        capture = Capture(
            activity_type=activity.info().activity_type,
            selection=self._selection,
            force_streaming=self._force_streaming,
            max_buffered_bytes=self._max_buffered_bytes,
            flush_timeout=self._flush_timeout,
        )
        function = input.fn
        async with AsyncExitStack() as stack:
            # Whoever looks at the activity afterwards, such as at its return type, sees the user's function.
            stack.callback(setattr, input, "fn", function)
            try:
                parent = await stack.enter_async_context(Parent(buffer, capture, telemetry))
                input.fn = parent.wrap(input.fn)
            except Exception as error:  # noqa: BLE001 - ours: the activity must not suffer
                self._warn(capture.activity_type, error)
                return await next.execute_activity(input)
            result = await next.execute_activity(input)
            if not parent.was_heard_from:
                self._warn(capture.activity_type, "the child process could not connect")
            return result

    def _warn(self, activity_type: str, reason: object) -> None:
        """Say once for each activity type that its tokens do not come out of the process pool."""
        if activity_type not in self._warned:
            self._warned.add(activity_type)
            logger.warning(
                "activity %r runs in a process pool without streaming (%s); run it in threads or make it "
                "async to stream it (said once)",
                activity_type,
                reason,
            )
