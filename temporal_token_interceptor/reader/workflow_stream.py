"""The runs of a workflow, one after another: which to read, its stream, and how it closed.

What the subscriptions of a subscriber share is here; `TokenSubscriber` is what users call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporal_token_interceptor._tasks import joined, replies_handed_over, started, stopping, unless
from temporal_token_interceptor.errors import ConfigurationError, StreamNotFound, TokenStreamError
from temporal_token_interceptor.events import Event, Origin, RunContinued, Status, StreamEnded
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.feed import Feed
from temporal_token_interceptor.reader.request import Fallback, OnRetry, ReadRequest
from temporal_token_interceptor.reader.run_stream import Batches, RunStream
from temporal_token_interceptor.reader.silence import SilenceHint
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.activity_end import ActivityCompletion
from temporal_token_interceptor.reader.temporal.asking import Closed
from temporal_token_interceptor.reader.temporal.found import found
from temporal_token_interceptor.reader.temporal.shared_parts import SharedParts
from temporal_token_interceptor.reader.temporal.workflow_end import Completion
from temporal_token_interceptor.telemetry.subscription import SubscriptionTelemetry, subscription_telemetry
from temporal_token_interceptor.transport.base import TokenSource

if TYPE_CHECKING:
    from temporalio.client import Client

logger = logging.getLogger(__name__)

# How often a client without Temporal asks the transport for a run that has not begun.
_POINTER_PAUSE = 0.1


class Subscription(AsyncGenerator[Event]):
    """The door: what comes here in lists leaves as single events, one for each step of the user's loop.

    A wait for the next event may be cancelled, as `asyncio.wait_for(anext(events), 15)` does. That ends the
    generators beneath, and the loop around would end as if the stream had: here it is an error (`is_cut`).

    Args:
        batches: The lists; none is empty.
    """

    __slots__ = ("_batches", "_coming", "is_cut")

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._coming: Iterator[Event] = iter(())
        self.is_cut = False

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            TokenStreamError: a wait before was cancelled.
        """
        for event in self._coming:
            return event
        if self.is_cut:
            raise cut_error()
        try:
            batch = await anext(self._batches)
        except asyncio.CancelledError:
            self.is_cut = True
            raise
        self._coming = iter(batch)
        return next(self._coming)

    async def asend(self, value: None) -> Event:  # noqa: ARG002 - what is sent goes nowhere, as in the batches
        """Return the next event."""
        return await self.__anext__()

    async def athrow(self, kind: Any, value: Any = None, traceback: Any = None) -> Event:
        """Raise an error where the next list would come."""
        self._coming = iter(await self._batches.athrow(kind, value, traceback))
        return next(self._coming)

    async def aclose(self) -> None:
        """Leave."""
        self._coming = iter(())
        await self._batches.aclose()


def cut_error() -> TokenStreamError:
    """Return the error of who goes on where a cancelled wait has ended the subscription."""
    return TokenStreamError(
        "the subscription has ended: a wait for its next event was cancelled, as by asyncio.wait_for or "
        "asyncio.timeout. Keep one task of anext(events) and wait for that by asyncio.wait, or subscribe "
        "again with the cursor of the last event"
    )


class Runs:
    """Finds the runs of workflows and standalone activities, and follows them to their ends.

    Attributes:
        client: As it was given.
        workflows: Asks Temporal about workflows; None without a client.

    Args:
        client: None: subscriptions end by `until` alone, and runs are found through the transport.
        source: The transport; None: runs are read from history.
        namespace: The Temporal namespace.
        start_timeout: How long to wait for a workflow that has not been started.
        patience: How long Temporal may be away.
        accepts_plain: Whether frames that are not sealed are read although the client has a codec.
        statistics: Counted into; by default, its own.
        fallback: What to read while the transport delivers nothing.
    """

    def __init__(
        self,
        client: Client | None,
        source: TokenSource | None,
        namespace: str,
        *,
        start_timeout: timedelta,
        patience: timedelta,
        accepts_plain: bool = False,
        statistics: ReaderStatistics | None = None,
        fallback: Fallback = "off",
    ) -> None:
        self.statistics: ReaderStatistics = statistics or ReaderStatistics()
        self.client: Client | None = client
        self._source = source
        self._namespace = namespace
        self._start_timeout = start_timeout
        self.workflows: Completion | None = None if client is None else Completion(client, patience=patience)
        self._activities = ActivityCompletion(client, patience=patience) if client is not None else None
        beats = source is None or fallback == "heartbeats"
        self._shared = SharedParts(
            client, self.workflows, reads_heartbeats=beats, accepts_plain=accepts_plain
        )
        self._silence = SilenceHint(self.workflows, has_transport=source is not None)

    async def batches(self, request: ReadRequest) -> Batches:
        """Iterate over the events of a run and of those that it goes on in; see `TokenSubscriber.subscribe`.

        In lists, each of what came at once; none is empty. `Subscription` makes single events of them.
        """
        telemetry = subscription_telemetry(self._namespace, request.workflow_id, self._source)
        with ExitStack() as stack:
            if telemetry is not None:
                stack.enter_context(telemetry.reading())
            try:
                async with aclosing(self._batches(request, telemetry)) as batches:
                    async for events in batches:
                        if telemetry is not None:
                            telemetry.events(events)
                        if events:
                            yield events
            except StreamNotFound as error:
                raise request.not_found(error) from error.__cause__

    async def _batches(self, request: ReadRequest, telemetry: SubscriptionTelemetry | None) -> Batches:
        completion = self._activities if request.is_standalone else self.workflows
        silent = request.place is None and not request.skips
        status: Status = "unknown"
        end = ""
        last: str | None = None
        before: Sequence[Origin] = ()
        if request.place is not None and not request.is_standalone:
            before = await self._stood_before(request, request.place.run_id)
        async with stopping(request.until) as stop:
            run = await self._first(request, stop, completion)
            while run is not None:
                stream = self._stream(request, run, before=before, telemetry=telemetry)
                if request.skips:
                    await stream.skip()
                last = run
                hint = self._watched(stream, request, run) if silent else None
                closing = asyncio.ensure_future(_closed(request.workflow_id, run, stop, completion))
                try:
                    async with aclosing(stream.batches(closing)) as batches:
                        async for events in batches:
                            yield events
                    closed = await closing or Closed("unknown")
                finally:
                    if hint is not None:
                        hint.cancel()  # at once: a second cancellation may cut the joining short
                    await joined(closing)
                    if hint is not None:
                        await joined(hint)
                status, end, run = closed.status, stream.end, closed.next_run_id
                silent &= stream.is_silent
                if run is not None:
                    request = request.next_run(run)
                    before = stream.standing if closed.again else ()
                    yield [RunContinued(run_id=run, cursor=str(Cursor(run)))]
        if silent and status == "completed" and last is not None:
            await self._silence.look(request.workflow_id, last)
        yield [StreamEnded(status=status, cursor=end)]
        if completion is not None:
            await replies_handed_over()

    async def result(self, workflow_id: str, run_id: str | None, result_type: type | None) -> Any:
        """Return the result of a workflow, of the run that a subscription ends with; wait for it to close.

        Raises:
            StreamNotFound: not started in time, or no such namespace.
            ConfigurationError: there is no client to ask.
            TransportUnavailable: Temporal was away for too long.
            Exception: what the workflow's handle raises: it did not complete.
        """
        if self.client is None or self.workflows is None:
            raise ConfigurationError("without a Temporal client there is no result")
        run = run_id or await self.workflows.newest_run(workflow_id, start_timeout=self._start_timeout)
        while (closed := await self.workflows.closed(workflow_id, run)).next_run_id is not None:
            run = closed.next_run_id
        handle = self.client.get_workflow_handle(workflow_id, run_id=run, result_type=result_type)
        return await handle.result(follow_runs=False)

    def found(self, query: str, interval: timedelta) -> Feed:
        """Return the workflows that a query of Temporal finds, now and later.

        Raises:
            ConfigurationError: there is no client to ask.
        """
        if self.client is None or self.workflows is None:
            raise ConfigurationError("query= needs a Temporal client, which finds workflows")
        return found(self.client, self.workflows, query, interval)

    async def newest(self, workflow_id: str) -> str:
        """Return the newest run of a workflow, waiting for nothing.

        Raises:
            StreamNotFound: no such workflow, or it is not known yet.
        """
        ask = self._asked_transport if self.workflows is None else self.workflows.newest_run
        return await ask(workflow_id, start_timeout=timedelta(0))

    def stream(self, workflow_id: str, run_id: str, *, on_retry: OnRetry = "reset") -> RunStream:
        """Return the stream of a run, from its start."""
        return self._stream(ReadRequest(workflow_id=workflow_id, on_retry=on_retry), run_id)

    def _stream(
        self,
        request: ReadRequest,
        run_id: str,
        *,
        before: Sequence[Origin] = (),
        telemetry: SubscriptionTelemetry | None = None,
    ) -> RunStream:
        key = StreamKey(self._namespace, request.workflow_id, run_id)
        history = None if request.is_standalone else self._shared.history(key)
        return RunStream(
            key,
            request,
            self._source,
            history,
            None if request.is_standalone else self._shared.heartbeats(key),
            cache=self._shared.cache(key),
            statistics=self.statistics,
            before=before,
            telemetry=telemetry,
        )

    async def _stood_before(self, request: ReadRequest, run_id: str) -> Sequence[Origin]:
        """Return what stood at the end of the run that this one does again: a reader may have drawn it."""
        again = (
            None if self.workflows is None else await self.workflows.repeated_run(request.workflow_id, run_id)
        )
        if again is None:
            return ()
        before = await self._stood_before(request, again)
        stream = self._stream(replace(request, place=None, start="beginning"), again, before=before)
        async with aclosing(stream.so_far()) as batches:
            async for _ in batches:
                pass
        return stream.standing

    def _watched(self, stream: RunStream, request: ReadRequest, run_id: str) -> asyncio.Task[None] | None:
        """Start to look for activities that complete without a stream, where Temporal can be asked."""
        if self.workflows is None or request.is_standalone:
            return None
        watching = self._silence.watch(stream, request.workflow_id, run_id)
        return started(watching, f"token-stream hint for {request.workflow_id}")

    async def first_run(self, request: ReadRequest) -> str | None:
        """Return the run that a request begins with; wait for it; None if its `until`, a future, comes first.

        Raises:
            StreamNotFound: not started in time, or no such namespace.
        """
        stop = None if request.until is None else asyncio.ensure_future(request.until)
        return await self._first(request, stop, self.workflows)

    async def _first(
        self,
        request: ReadRequest,
        stop: asyncio.Future[object] | None,
        completion: Completion | ActivityCompletion | None,
    ) -> str | None:
        run = request.first_run_id or await self._newest_run(request, stop, completion)
        if run is not None and request.begins_with_first and self.workflows is not None:
            return await self.workflows.first_run(request.workflow_id, run)
        return run

    async def _newest_run(
        self,
        request: ReadRequest,
        stop: asyncio.Future[object] | None,
        completion: Completion | ActivityCompletion | None,
    ) -> str | None:
        """Return the newest run, waiting for it to begin; None if `stop` comes first."""
        wait = self._start_timeout if request.start_timeout is None else request.start_timeout
        ask = self._asked_transport if completion is None else completion.newest_run
        if run := await unless(stop, ask(request.workflow_id, start_timeout=wait)):
            return run
        with suppress(StreamNotFound):
            return await ask(request.workflow_id, start_timeout=timedelta(0))
        return None

    async def _asked_transport(self, workflow_id: str, *, start_timeout: timedelta) -> str:
        """Return the newest run that the transport knows, waiting for one."""
        if self._source is None:
            raise ConfigurationError("without a backend, only workflows can be read: from their history")
        deadline = asyncio.get_running_loop().time() + start_timeout.total_seconds()
        while (run := await self._source.newest_run(self._namespace, workflow_id)) is None:
            if asyncio.get_running_loop().time() >= deadline:
                raise StreamNotFound(
                    f"the transport has nothing of workflow {workflow_id!r} in namespace "
                    f"{self._namespace!r} within {start_timeout.total_seconds():g} s"
                )
            await asyncio.sleep(_POINTER_PAUSE)
        return run


async def _closed(
    workflow_id: str,
    run_id: str,
    stop: asyncio.Future[object] | None,
    completion: Completion | ActivityCompletion | None,
) -> Closed | None:
    """Return how the run closed, as `until` says without Temporal; None if the caller had enough before."""
    if completion is not None:
        return await unless(stop, completion.closed(workflow_id, run_id))
    if stop is not None:
        await asyncio.wait({stop})
    return Closed("unknown")
