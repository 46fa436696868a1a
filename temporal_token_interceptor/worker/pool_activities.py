"""Activities that Temporal runs in a process pool: how the interceptor runs them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporal_token_interceptor.capture.call_gate import gated
from temporal_token_interceptor.worker.offline_session import OfflineSession
from temporal_token_interceptor.worker.options import StreamingOptions
from temporal_token_interceptor.worker.process_pool import Capture, Parent
from temporal_token_interceptor.worker.session import Session

logger = logging.getLogger(__name__)


def leaves_the_process(input: ExecuteActivityInput) -> bool:  # noqa: A002
    """Whether Temporal hands the activity to an executor that is not of threads; as the SDK decides."""
    return input.executor is not None and not isinstance(input.executor, ThreadPoolExecutor)


class ProcessPools:
    """Runs the activities of one worker that leave the process.

    Args:
        options: Those of the worker. `max_buffered_bytes` holds for each child, too; `flush_timeout` bounds
            how long an activity waits for its connection at its start, and for its last tokens at its end.
    """

    def __init__(self, options: StreamingOptions) -> None:
        self._options = options
        self._warned: set[str] = set()  # activity types; a worker has not many

    async def execute(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002
        input: ExecuteActivityInput,  # noqa: A002
        session: Session | OfflineSession,
        *,
        on_first_call: Callable[[], None],
    ) -> Any:
        """Run an activity attempt; what is captured in the child goes into the session's buffer.

        Args:
            next: The rest of the chain.
            input: The call.
            session: That of the attempt.
            on_first_call: Is called when the child reports something for the first time.
        """
        options = self._options
        capture = Capture(
            activity_type=activity.info().activity_type,
            selection=options.selection,
            force_streaming=options.force_streaming,
            max_buffered_bytes=options.max_buffered_bytes,
            flush_timeout=options.flush_timeout.total_seconds(),
        )
        outlet = gated(session.buffer, hold=options.hold_calls, transform=options.transform)
        function = input.fn
        async with AsyncExitStack() as stack:
            # Code that looks at the activity afterwards, as at its return type, gets the user's function.
            stack.callback(setattr, input, "fn", function)
            try:
                parent = await stack.enter_async_context(
                    Parent(outlet, capture, session.telemetry, on_first_call)
                )
                input.fn = parent.wrap(input.fn)
            except Exception as error:  # noqa: BLE001 - ours: the activity must not fail because of it
                self._warn(capture.activity_type, error)
                return await next.execute_activity(input)
            result = await next.execute_activity(input)
            if not parent.is_connected:
                self._warn(capture.activity_type, "the child process could not connect")
            return result

    def _warn(self, activity_type: str, reason: object) -> None:
        """Log, once for each activity type, that its tokens are not captured."""
        if activity_type not in self._warned:
            self._warned.add(activity_type)
            logger.warning(
                "activity %r runs in a process pool without streaming (%s); run it in threads or make it "
                "async to stream it (logged once)",
                activity_type,
                reason,
            )
