"""What a subscriber offers beside events: text, LangGraph's messages, and the run as an object.

Each is made of one subscription; `TokenSubscriber` has the subscription.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Collection
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.temporal.asking import RunDescription
from temporal_token_interceptor.reader.workflow_stream import Runs, Subscription, cut_error
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.snapshot import Snapshot
from temporal_token_interceptor.views.snapshot_fold import Fold

if TYPE_CHECKING:
    from temporal_token_interceptor.views.message_stream import Messages
    from temporal_token_interceptor.views.workflow_run import WorkflowRun

_T = TypeVar("_T")


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
        return _View(events, _texts(events))

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

    def messages(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        subgraphs: bool = False,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> Messages:
        """Iterate over `(chunk, metadata)`, as over `graph.astream(..., stream_mode="messages")`.

        When Temporal retries an activity, a `RemoveMessage` takes back each message of the attempt that
        failed, as in LangGraph's own state, before the new attempt sends text under new ids.

        The loop ends without an error only if the workflow completed (or `until` was done) and nothing is
        known to be missing. A `Gap` is an empty chunk in its place, with `metadata["gap"]`, and an error at
        the end.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            cursor: `metadata["cursor"]` of a chunk: goes on right after it. Only good for the same options.
            start: As for `subscribe`.
            on_retry: `"hold"`: nothing of an attempt before it has succeeded, then all of it at once.
            subgraphs: Whether to show what is said within subgraphs, too; `metadata["path"]` says where.
            until: As for `subscribe`.
            runs: As for `subscribe`.

        Raises:
            InvalidCursor: at once, before anything is read.
            WorkflowNotCompleted: at the end: the workflow failed, was canceled or terminated, or timed out.
            TokensMissing: at the end: the workflow completed, but not all that it said arrived.
            TokenStreamError: as of `subscribe`.
        """
        # A process that only reads events loads no LangChain.
        from temporal_token_interceptor.views.message_stream import messages  # noqa: PLC0415

        shown = _of_views(on_retry)
        events = self.subscribe(
            workflow_id, run_id, cursor, start=start, on_retry=shown, until=until, runs=runs
        )
        chunks = messages(
            events,
            lambda attempt: self._runs.stream(workflow_id, attempt.run_id, on_retry=shown).so_far(),
            cursor=cursor,
            subgraphs=subgraphs,
        )
        return _View(events, chunks)

    def events_v2(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        include_names: Collection[str] | None = None,
        include_types: Collection[str] | None = None,
        include_tags: Collection[str] | None = None,
        exclude_names: Collection[str] | None = None,
        exclude_types: Collection[str] | None = None,
        exclude_tags: Collection[str] | None = None,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> AsyncGenerator[dict[str, Any]]:
        """Iterate over dicts as of LangChain's `astream_events(version="v2")`; see docs/langgraph.md.

        `on_chat_model_removed` takes a message back: its call failed, or a retry replaces its attempt.
        `on_gap` says that something is missing. The end and its errors are those of `messages`.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            cursor: `metadata["cursor"]` of an event: goes on right after it. Only good for the same options.
            start: As for `subscribe`.
            on_retry: As for `messages`.
            include_names: Shows events of these names; the includes add up.
            include_types: Of `chat_model`, `tool`, `retriever`, `chain`; of a custom event, its name.
            include_tags: Of models.
            exclude_names: Leaves events out, whatever is included.
            exclude_types: As `include_types`.
            exclude_tags: Of models.
            until: As for `subscribe`.
            runs: As for `subscribe`.

        Raises:
            InvalidCursor: at once, before anything is read.
            ConfigurationError: at once: an argument cannot be used.
            WorkflowNotCompleted: at the end: the workflow failed, was canceled or terminated, or timed out.
            TokensMissing: at the end: the workflow completed, but not all that it said arrived.
            TokenStreamError: as of `subscribe`.
        """
        from temporal_token_interceptor.views.standard_events import Filter, standard_events  # noqa: PLC0415

        shown = _of_views(on_retry)
        filter_ = Filter(
            include_names, include_types, include_tags, exclude_names, exclude_types, exclude_tags
        )
        events = self.subscribe(
            workflow_id, run_id, cursor, start=start, on_retry=shown, until=until, runs=runs
        )
        shaped = standard_events(
            events,
            lambda attempt: self._runs.stream(workflow_id, attempt.run_id, on_retry=shown).so_far(),
            shown=filter_,
            cursor=cursor,
        )
        return _View(events, shaped)

    def run(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        on_retry: Literal["reset", "hold"] = "reset",
        result_type: type | None = None,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> WorkflowRun:
        """Return a workflow as streams of its model calls, tools and updates, and its result.

        For `async with`, as LangGraph's `astream_events(version="v3")` gives a run. A call that a retry
        replaces raises `CallNotCompleted`; if it had ended already, it is marked `superseded`.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            on_retry: As for `messages`.
            result_type: What `await run.output` is to be read as, as for Temporal's workflow handle.
            until: As for `subscribe`.
            runs: As for `subscribe`.
        """
        from temporal_token_interceptor.views.workflow_run import WorkflowRun  # noqa: PLC0415

        return WorkflowRun(
            self.subscribe(workflow_id, run_id, on_retry=_of_views(on_retry), until=until, runs=runs),
            lambda: self._runs.result(workflow_id, run_id, result_type),
        )


class _View(AsyncGenerator[_T], Generic[_T]):
    """A view of a subscription, which raises as that does once a cancelled wait has ended both.

    Args:
        events: The subscription.
        view: What is made of it.
    """

    __slots__ = ("_events", "_view")

    def __init__(self, events: AsyncGenerator[Any], view: AsyncGenerator[_T]) -> None:
        self._events = events
        self._view = view

    async def __anext__(self) -> _T:
        """Return the next item.

        Raises:
            TokenStreamError: a wait before was cancelled.
        """
        if isinstance(self._events, Subscription) and self._events.is_cut:
            raise cut_error()
        return await anext(self._view)

    async def asend(self, value: None) -> _T:  # noqa: ARG002 - what is sent goes nowhere
        """Return the next item."""
        return await self.__anext__()

    async def athrow(self, kind: Any, value: Any = None, traceback: Any = None) -> _T:
        """Raise an error where the next item would come."""
        return await self._view.athrow(kind, value, traceback)

    async def aclose(self) -> None:
        """Leave."""
        await self._view.aclose()


async def _texts(events: AsyncGenerator[Event]) -> AsyncGenerator[TokenEvent]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TokenEvent):
                yield event


def _of_views(on_retry: OnRetry) -> OnRetry:
    """Return a policy that shows one attempt of an activity at a time."""
    if on_retry == "annotate":
        raise ConfigurationError("on_retry must be reset or hold: `subscribe` alone can show all attempts")
    return on_retry
