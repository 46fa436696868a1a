"""Models inside Nexus operation handlers: their tokens go to the workflow that called the operation.

A handler is no activity: it has no task token, no attempt number, no start by the server's clock. What it
has is a request id, the same for each attempt, and a link to its caller. So the stream is the caller's, the
request takes the place of the activity, and the worker's clock orders the attempts.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from nexusrpc.handler import StartOperationContext, StartOperationResultAsync, StartOperationResultSync
from temporalio import nexus
from temporalio.worker import ExecuteNexusOperationStartInput, NexusOperationInboundInterceptor

from temporal_token_interceptor.events import Origin, Outcome
from temporal_token_interceptor.worker.attempt_run import AttemptRun, StreamingSetup

logger = logging.getLogger(__name__)

# The link that Temporal adds when a workflow calls: `temporal:///namespaces/<>/workflows/<>/<>/history?...`.
_CALLER = re.compile(r"/namespaces/(?P<namespace>[^/]+)/workflows/(?P<workflow>[^/]+)/(?P<run>[^/]+)/history")


def operation_type(context: StartOperationContext) -> str:
    """Return what stands for the activity type: `<service>/<operation>`."""
    return f"{context.service}/{context.operation}"


def origin_of(context: StartOperationContext) -> Origin | None:
    """Return the origin of an attempt of an operation's handler; None if no workflow called it."""
    for link in context.inbound_links:
        # Not urlsplit: it raises on some URLs, and a link may come from any program.
        scheme, _, path = link.url.partition("://")
        if scheme == "temporal" and (caller := _CALLER.fullmatch(path.partition("?")[0])):
            return Origin(
                namespace=unquote(caller["namespace"]),
                workflow_id=unquote(caller["workflow"]),
                run_id=unquote(caller["run"]),
                activity_id=f"nexus:{context.request_id}",
                activity_type=operation_type(context),
                attempt_id=secrets.token_hex(8),
                started_time=datetime.now(UTC),
            )
    return None


class StreamingOperation(NexusOperationInboundInterceptor):
    """Runs the handler of one Nexus operation with streaming, or as it is where no workflow called it.

    Args:
        next: The rest of the chain.
        setup: What the attempts of the worker share.
    """

    def __init__(self, next: NexusOperationInboundInterceptor, setup: StreamingSetup) -> None:  # noqa: A002
        super().__init__(next)
        self._setup = setup

    async def execute_nexus_operation_start(
        self,
        input: ExecuteNexusOperationStartInput,  # noqa: A002 - Temporal's name
    ) -> StartOperationResultSync[Any] | StartOperationResultAsync:
        """Return or raise what the handler does."""
        setup, kind, origin = self._setup, operation_type(input.ctx), origin_of(input.ctx)
        if origin is None or not setup.options.captures(kind):
            return await self.next.execute_nexus_operation_start(input)
        try:
            run = OperationRun(setup, origin, self.next, input)
        except Exception:  # ours: the operation must not fail because of it
            logger.exception("operation %r runs without streaming: could not prepare it", kind)
            return await self.next.execute_nexus_operation_start(input)
        result: StartOperationResultSync[Any] | StartOperationResultAsync = await run.run()
        return result


class OperationRun(AttemptRun):
    """One attempt of a Nexus operation's handler; its tokens go to the workflow that called it.

    Args:
        setup: What the attempts of the worker share.
        origin: The attempt.
        next: The rest of the chain, which runs the handler.
        input: The call.
    """

    def __init__(
        self,
        setup: StreamingSetup,
        origin: Origin,
        next: NexusOperationInboundInterceptor,  # noqa: A002 - Temporal's name
        input: ExecuteNexusOperationStartInput,  # noqa: A002
    ) -> None:
        super().__init__(setup, setup.session(origin, nexus.metric_meter, setup.converter.of_operation()))
        self._next = next
        self._input = input

    def model_called(self) -> None:
        """Warn, once, where there is no backend: an operation has neither heartbeats nor a `custom_data`."""
        if self.setup.backend is None:
            self.setup.warnings.unstreamed_operation(self.session.origin.activity_type)

    async def call(self) -> Any:
        """Run the handler."""
        with self.observing():
            result = await self._next.execute_nexus_operation_start(self._input)
            await self.last_ends()
            return result

    def ended_by(self, error: BaseException) -> tuple[Outcome, bool | None]:
        """Return how the attempt ended; whether another follows only the server knows."""
        return ("cancelled" if isinstance(error, asyncio.CancelledError) else "failed"), None
