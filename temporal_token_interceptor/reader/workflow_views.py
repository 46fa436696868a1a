"""What a subscriber offers beside events that needs no LangChain: text, tokens, a snapshot.

Each is made of one subscription; `TokenSubscriber` has the subscription.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from datetime import timedelta

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.temporal.asking import RunDescription
from temporal_token_interceptor.reader.view import View
from temporal_token_interceptor.reader.workflow_stream import Runs
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.snapshot import Snapshot
from temporal_token_interceptor.views.snapshot_fold import Fold


class WorkflowViews(ABC):
    """The shapes of a workflow that are made of its events; the base of `TokenSubscriber`."""

    _runs: Runs

    @abstractmethod
    def subscribe(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: OnRetry = "reset",
        until: Awaitable[object] | None = None,
        start_timeout: timedelta | None = None,
        runs: FirstRun = "newest",
    ) -> AsyncGenerator[Event]:
        """Iterate over the events; see `TokenSubscriber.subscribe`."""

    async def snapshot(self, workflow_id: str, run_id: str | None = None) -> Snapshot:
        """Return what the models of a run have said so far, and the cursor to go on from; waits for nothing.

        Args:
            workflow_id: The workflow.
            run_id: The run; by default the newest.

        Raises:
            StreamNotFound: no such workflow or namespace, or nothing was said yet and no client knows it.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
        """
        run = run_id or await self._runs.newest(workflow_id)
        stream = self._runs.stream(workflow_id, run)
        fold = Fold()
        async with aclosing(stream.so_far()) as batches:
            async for events in batches:
                for event in events:
                    fold.add(event)
        return fold.snapshot(run, stream.here)

    async def events_so_far(
        self, workflow_id: str, run_id: str | None = None, *, on_retry: OnRetry = "reset"
    ) -> AsyncGenerator[Event]:
        """Iterate over what is stored of a run at present, and end; it waits for nothing to come.

        The cursor of the last event goes on from there. What is still open is left open.

        Args:
            workflow_id: The workflow.
            run_id: The run; by default the newest.
            on_retry: As for `subscribe`.

        Raises:
            StreamNotFound: no such workflow or namespace, or nothing was said yet and no client knows it.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        run = run_id or await self._runs.newest(workflow_id)
        async with aclosing(self._runs.stream(workflow_id, run, on_retry=on_retry).so_far()) as batches:
            async for events in batches:
                for event in events:
                    yield event

    async def describe(self, workflow_id: str, run_id: str | None = None) -> RunDescription:
        """Return when a run began and whether it has closed, as Temporal knows it; waits for nothing.

        Args:
            workflow_id: The workflow.
            run_id: The run; by default the newest.

        Raises:
            StreamNotFound: no such workflow, run or namespace.
            ConfigurationError: there is no Temporal client to ask.
            TransportUnavailable: Temporal was away for longer than its patience.
        """
        if self._runs.workflows is None:
            raise ConfigurationError("without a Temporal client there is nothing to describe a run by")
        return await self._runs.workflows.describe(workflow_id, run_id)

    def tokens(
        self, workflow_id: str, run_id: str | None = None, cursor: str | None = None
    ) -> AsyncGenerator[TokenEvent]:
        """Iterate over the answer text alone.

        A retry shows as a token whose `attempt` is higher than before: drop what you have of the same
        `call.id`. A call that fails within an attempt (a retry or a fallback inside the graph) does
        not show at all. Where either matters, `subscribe` reports it, and `text` and `messages` take it back.

        Raises:
            ConfigurationError: there is no Temporal client to say when it ends; `subscribe` takes `until`.
            TokenStreamError: as of `subscribe`.
        """
        events = self.subscribe(workflow_id, run_id, cursor)
        return View(events, _texts(events))

    async def text(self, workflow_id: str, run_id: str | None = None, *, runs: FirstRun = "newest") -> str:
        """Wait for the workflow to close, however it does, and return the text of all its calls, whole.

        Of the run, by default the newest, and of those that it goes on in; `runs`: as for `subscribe`. Call
        by call, in the order in which they began; what superseded attempts said is not in it.

        Raises:
            TokensMissing: something is known to be missing; `snapshot` has the rest.
            ConfigurationError: there is no Temporal client to say when it ends; `subscribe` takes `until`.
            TokenStreamError: as of `subscribe`.
        """
        fold, ending = Fold(), Ending()
        async with aclosing(self.subscribe(workflow_id, run_id, runs=runs)) as events:
            async for event in events:
                fold.add(event)
                ending.note(event)
        ending.check_whole()
        return fold.snapshot("", "").text


async def _texts(events: AsyncGenerator[Event]) -> AsyncGenerator[TokenEvent]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TokenEvent):
                yield event
