"""The client side: joins the transport (fast) with Temporal (true) into one stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from temporal_token_interceptor import environment
from temporal_token_interceptor._arguments import duration
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event, TokenEvent
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, ReadRequest, Start
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.activity_end import PREFIX
from temporal_token_interceptor.reader.workflow_stream import Runs
from temporal_token_interceptor.telemetry.subscription import subscription_telemetry
from temporal_token_interceptor.transport.base import TimedSource, TokenSource
from temporal_token_interceptor.views.ending import Ending
from temporal_token_interceptor.views.snapshot import Fold, Snapshot

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_token_interceptor.views.langgraph_messages import Messages
    from temporal_token_interceptor.views.workflow_run import WorkflowRun


class TokenSubscriber:
    """Reads what workflows say, live: each token once, in order per model call, or a `Gap`.

    A subscription costs a share of the process's two Redis connections, and one long poll to Temporal in 20
    seconds; nothing in the workflow or its history. What no transport has of a run is read from its history.

    Args:
        client: Says which run is the newest, and how it closed; its data converter opens sealed frames. None:
            subscriptions need `until`, find runs through the transport, and end with the status `unknown`.
        backend: Where workers write to. None: what activities say is read from the workflow's history when
            they complete, if their results have a `custom_data` to hold it. So it is, too, for a run of
            which the backend has nothing or cannot be asked, and for last words that it did not take.
        namespace: The Temporal namespace; only without a client, which knows its own.
        start_timeout: How long to wait for a workflow that has not been started.
        patience: How long Temporal may be away before `TransportUnavailable`; the backend has its own.
        accept_plain_frames: Whether a client with a payload codec also reads unsealed frames: while
            some workers have the codec and some do not. Any writer to the backend can forge those.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        client: Client | None,
        backend: TokenSource | None = None,
        *,
        namespace: str = "default",
        start_timeout: timedelta = timedelta(seconds=60),
        patience: timedelta = timedelta(seconds=60),
        accept_plain_frames: bool = False,
    ) -> None:
        if client is None and backend is None:
            raise ConfigurationError("without a client and a backend there is nothing to read from")
        if client is not None and not hasattr(client, "data_converter"):
            raise ConfigurationError(
                "client must be a connected Temporal client, as `await Client.connect(...)` returns it, "
                f"not {type(client).__name__}"
            )
        if backend is not None and not isinstance(backend, TokenSource):
            raise ConfigurationError(
                f"backend must be a TokenSource such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        duration("start_timeout", start_timeout)
        duration("patience", patience)
        self._client = client
        self._source = backend
        self._namespace = client.namespace if client is not None else namespace
        self._runs = Runs(
            client,
            backend,
            self._namespace,
            start_timeout=start_timeout,
            patience=patience,
            accepts_plain=accept_plain_frames,
        )
        self.statistics: ReaderStatistics = self._runs.statistics

    @classmethod
    def from_environment(
        cls,
        client: Client | None,
        backend: TokenSource | None = None,
        environ: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Self:
        """Return a subscriber whose options are those of the environment; see docs/operations.md.

        Args:
            client: As of the constructor.
            backend: As of the constructor, such as `RedisStreamBackend.from_environment()`.
            environ: Instead of `os.environ`.
            more: Options that come before those of the environment.

        Raises:
            ConfigurationError: a variable cannot be used; the message names it.
        """
        return environment.made(partial(cls, client, backend), environment.SUBSCRIBER, environ, **more)

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
        """Iterate over everything that the workflow's models say, from the start, a cursor, or now on.

        Follows the workflow into further runs (continue-as-new, retries, resets) and ends with
        `StreamEnded`. When an attempt is retried, `AttemptStarted.supersedes` names the attempt whose
        text is to be taken back; nothing of it comes afterwards.

        To do something while nothing comes, keep one task of `anext(events)` and wait for it by
        `asyncio.wait({task}, timeout=15)`: `asyncio.wait_for(anext(events), 15)` ends the subscription.

        Args:
            workflow_id: The workflow; it may not have been started yet.
            run_id: The run to begin with; by default the newest.
            cursor: The `.cursor` of an event: goes on right after it. Only good for the same `on_retry`. None
                or empty: from the start.
            start: Without a cursor: `"now"` leaves out what has been said before.
            on_retry: `"reset"`: `AttemptStarted.supersedes` says which text to take back. `"hold"`: nothing
                of an attempt before it has succeeded, then all of it at once; what failed is never shown.
                `"annotate"`: everything, also what superseded attempts go on to say, by `origin`.
            until: Ends the subscription when done, once what is there has been read. A coroutine is the
                subscription's: cancelled when that ends, and what it raises is raised here. A future or a
                task stays yours: neither cancelled nor asked for its result.
            start_timeout: How long to wait for a workflow that has not been started, if not as long as the
                subscriber says; `timedelta(0)` where an unknown id is to be an error at once.
            runs: Without a run and a cursor: `"newest"` begins with the newest run, so a late reader gets
                nothing of those before it; `"all"` with the first of them that Temporal still knows.

        Raises:
            InvalidCursor: at once, before anything is read.
            StreamNotFound: no such namespace, or the workflow was not started in time.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        return self._read(
            ReadRequest(
                workflow_id=workflow_id,
                run_id=run_id,
                place=_place(cursor),
                start=start,
                on_retry=on_retry,
                until=until,
                start_timeout=start_timeout,
                runs=runs,
            )
        )

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

    def subscribe_activity(
        self,
        activity_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        until: Awaitable[object] | None = None,
    ) -> AsyncGenerator[Event]:
        """Iterate over everything that the models of a standalone activity say (`Client.start_activity`).

        As `subscribe`, but for the id; `run_id` is the activity's. Needs a server that has standalone
        activities, and ends with how the activity closed.
        """
        return self._read(
            ReadRequest(
                workflow_id=f"{PREFIX}{activity_id}",
                run_id=run_id,
                place=_place(cursor),
                until=until,
                is_standalone=True,
            )
        )

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
        return _texts(self.subscribe(workflow_id, run_id, cursor))

    async def text(self, workflow_id: str, run_id: str | None = None, *, runs: FirstRun = "newest") -> str:
        """Wait for the workflow to close, however it does, and return the text of all its calls, whole.

        Of the run, by default the newest, and of those that it goes on in; `runs`: as for `subscribe`. Call
        by call, in the order in which they began; what superseded attempts said is not in it.

        Raises:
            TokensMissing: something is; `snapshot` has the rest.
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
        missing. A `Gap` is an empty chunk in its place, with `metadata["gap"]`, and an error at the end.

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
            StreamNotFound: no such namespace, or the workflow was not started in time.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        # A process that only reads events loads no LangChain.
        from temporal_token_interceptor.views.langgraph_messages import messages  # noqa: PLC0415

        shown = _of_views(on_retry)
        return messages(
            self.subscribe(workflow_id, run_id, cursor, start=start, on_retry=shown, until=until, runs=runs),
            lambda attempt: self._runs.stream(workflow_id, attempt.run_id, on_retry=shown).so_far(),
            cursor=cursor,
            subgraphs=subgraphs,
        )

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

    def _read(self, request: ReadRequest) -> AsyncGenerator[Event]:
        if self._client is None and request.until is None:
            raise ConfigurationError("without a Temporal client, subscribe(until=...) has to say the end")
        if request.place is not None and request.place.transport and isinstance(self._source, TimedSource):
            self._source.stored_time(request.place.transport)  # a cursor of another transport is refused here
        telemetry = subscription_telemetry(self._namespace, request.workflow_id, self._source)
        return self._runs.follow(request, telemetry)


async def _texts(events: AsyncGenerator[Event]) -> AsyncGenerator[TokenEvent]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TokenEvent):
                yield event


def _place(cursor: str | None) -> Cursor | None:
    return Cursor.parse(cursor) if cursor else None


def _of_views(on_retry: OnRetry) -> OnRetry:
    """Return a policy that shows one attempt of an activity at a time."""
    if on_retry == "annotate":
        raise ConfigurationError("on_retry must be reset or hold: `subscribe` alone can show all attempts")
    return on_retry
