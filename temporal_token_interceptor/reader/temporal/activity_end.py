"""How and when a standalone activity closed, according to Temporal; which of its runs to follow.

The same questions as for a workflow, asked of another API. Its long poll answers as soon as the activity has
closed; what the activity returned is not decoded.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from temporalio.api.workflowservice.v1 import PollActivityExecutionRequest
from temporalio.client import ActivityExecutionStatus, ActivityHandle
from temporalio.service import RPCError, RPCStatusCode

from temporal_token_interceptor.errors import StreamNotFound
from temporal_token_interceptor.events import Status
from temporal_token_interceptor.reader.temporal.asking import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Closed,
    RetryingClient,
)

PREFIX = "activity:"
"""The stream of a standalone activity is filed under this and its id, in place of a workflow's id."""

_STATUS: Final[dict[ActivityExecutionStatus, Status]] = {
    ActivityExecutionStatus.COMPLETED: "completed",
    ActivityExecutionStatus.FAILED: "failed",
    ActivityExecutionStatus.CANCELED: "canceled",
    ActivityExecutionStatus.TERMINATED: "terminated",
    ActivityExecutionStatus.TIMED_OUT: "timed_out",
}


class ActivityCompletion(RetryingClient):
    """Asks Temporal about standalone activities. Ids are those of streams, with `PREFIX`."""

    async def newest_run(self, stream_id: str, *, start_timeout: timedelta) -> str:
        """Return the run id of an activity's newest run; wait for the activity to be started.

        Raises:
            StreamNotFound: not started before the deadline.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + start_timeout.total_seconds()
        pause = FIRST_PAUSE
        while True:
            try:
                description = await self.call(self._handle(stream_id).describe)
            except StreamNotFound as error:
                if (remaining := deadline - loop.time()) <= 0:
                    raise StreamNotFound(
                        f"no activity {stream_id.removeprefix(PREFIX)!r} in namespace "
                        f"{self._client.namespace!r} was started within "
                        f"{start_timeout.total_seconds():g} s: check the id, or raise start_timeout"
                    ) from error.__cause__
                await asyncio.sleep(min(pause, remaining))
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return description.activity_run_id or ""

    async def closed(self, stream_id: str, run_id: str) -> Closed:
        """Wait until a run closes, however long that takes, and return how.

        Raises:
            StreamNotFound: no such run.
            ConfigurationError: Temporal refuses the question.
            TransportUnavailable: Temporal was away for too long.
        """
        request = PollActivityExecutionRequest(
            namespace=self._client.namespace, activity_id=stream_id.removeprefix(PREFIX), run_id=run_id
        )

        async def has_closed() -> bool:
            try:
                answer = await self._client.workflow_service.poll_activity_execution(request, retry=True)
            except RPCError as error:
                if error.status is RPCStatusCode.DEADLINE_EXCEEDED:
                    return False  # the long poll ended without an event
                raise
            return answer.HasField("outcome")

        while not await self.call(has_closed):
            pass
        description = await self.call(self._handle(stream_id, run_id).describe)
        return Closed(_STATUS.get(description.status, "unknown"))

    def _handle(self, stream_id: str, run_id: str | None = None) -> ActivityHandle[object]:
        return self._client.get_activity_handle(stream_id.removeprefix(PREFIX), run_id=run_id)
