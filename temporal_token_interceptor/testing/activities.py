"""Activities as a worker with the interceptor runs them, without a server.

Temporal's own `ActivityEnvironment`, with the road that tokens take around it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from temporalio.activity import Info
from temporalio.converter import DataConverter
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput

from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.memory import MemoryStreamBackend
from temporal_token_interceptor.views.snapshot_fold import Fold
from temporal_token_interceptor.worker.activity_run import StreamingActivity
from temporal_token_interceptor.worker.attempt_run import StreamingSetup
from temporal_token_interceptor.worker.once_warnings import OnceWarnings
from temporal_token_interceptor.worker.options import StreamingOptions

if TYPE_CHECKING:
    from temporal_token_interceptor.worker.options import StreamingKeywords


class StreamingActivityEnvironment:
    """Runs activities as a worker with the interceptor does, and keeps what a subscriber would get.

    No server, no worker, no workflow: for tests of what an activity says. Each `run` is a further attempt of
    one activity; so a failed one, and the next, show what a viewer sees of a retry.

    Args:
        options: Those of `TokenStreamingInterceptor`.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(self, **options: Unpack[StreamingKeywords]) -> None:
        self.environment: ActivityEnvironment = ActivityEnvironment()
        """Temporal's: set its `info`, `on_heartbeat`, or cancel the activity."""
        self._backend = MemoryStreamBackend()
        # There is no client to ask for its converter, and frames never leave the test.
        options.setdefault("data_converter", DataConverter.default)
        self._setup = StreamingSetup(self._backend, StreamingOptions(**options))
        self._setup.warnings = _NoServer(self._setup.options)
        self._attempts: dict[StreamKey, Attempts] = {}
        self._read: dict[StreamKey, str] = {}
        self._events: list[Event] = []
        self._runs = 0

    @property
    def events(self) -> list[Event]:
        """All events so far, of all attempts."""
        return list(self._events)

    @property
    def tokens(self) -> list[str]:
        """The answer's text as it came, piece by piece, of all attempts."""
        return [event.token for event in self._events if isinstance(event, TokenEvent)]

    @property
    def text(self) -> str:
        """The answer's text that stands: what superseded attempts said is not in it."""
        fold = Fold()
        for event in self._events:
            fold.add(event)
        return fold.snapshot("", "").text

    async def run(self, activity: Callable[..., Any], *args: Any) -> Any:
        """Run an activity, async or not, as one more attempt; return its result.

        Raises:
            BaseException: whatever the activity raised, as it came; `events` has what it said before.
        """
        info = self.environment.info
        self._runs += 1
        self.environment.info = info = replace(
            info,
            activity_type=getattr(activity, "__name__", info.activity_type),
            attempt=info.attempt + (self._runs > 1),
            started_time=datetime.now(UTC),
            task_token=uuid.uuid4().bytes,
        )
        stream = StreamKey(info.namespace, info.workflow_id or "", info.workflow_run_id or "")
        inbound = StreamingActivity(_Called(), self._setup)
        call = ExecuteActivityInput(fn=activity, args=args, executor=None, headers={})

        async def attempt() -> Any:
            inbound.init(_Outbound())
            return await inbound.execute_activity(call)

        try:
            return await self.environment.run(attempt)
        finally:
            await self._take(stream)

    async def _take(self, stream: StreamKey) -> None:
        attempts = self._attempts.setdefault(stream, Attempts(stream.run_id))
        last, after = await self._backend.last_id(stream), self._read.get(stream, "")
        batches = self._backend.read(stream, after)
        try:
            while after < last:
                for entry in await anext(batches):
                    self._events += attempts.read(entry.id, decode(entry.data))
                    after = entry.id
        finally:
            await batches.aclose()
        self._read[stream] = after


class _NoServer(OnceWarnings):
    """The warnings of a worker that no cancellation has to reach: the test itself cancels."""

    def model_called(self, info: Info) -> None:
        """Log nothing: without a server no heartbeat_timeout is needed."""


class _Called(ActivityInboundInterceptor):
    """The end of the chain: calls the activity."""

    def __init__(self) -> None:
        """Have no next one."""

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Leave the environment's heartbeats as they are."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        if inspect.iscoroutinefunction(input.fn):
            return await input.fn(*input.args)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            None, lambda: context.run(input.fn, *input.args)
        )


class _Outbound(ActivityOutboundInterceptor):
    """The interceptor's automatic heartbeats: there is no server to receive them."""

    def __init__(self) -> None:
        """Have no next one."""

    def heartbeat(self, *details: Any) -> None:
        """Do nothing."""
