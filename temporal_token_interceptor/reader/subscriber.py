"""The client side: joins the transport (fast) with Temporal (true) into one stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from temporal_token_interceptor import environment
from temporal_token_interceptor._arguments import duration, one_of, positive_duration
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.reader.feed import given
from temporal_token_interceptor.reader.langchain_views import LangChainViews
from temporal_token_interceptor.reader.many import ManyWorkflows
from temporal_token_interceptor.reader.namespaces import Namespaces
from temporal_token_interceptor.reader.request import Fallback, FirstRun, OnRetry, ReadRequest, Start
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.activity_end import PREFIX
from temporal_token_interceptor.reader.tree import WorkflowTree
from temporal_token_interceptor.reader.workflow_stream import Runs, Subscription
from temporal_token_interceptor.transport.base import TokenSource

if TYPE_CHECKING:
    from temporalio.client import Client


class TokenSubscriber(LangChainViews):
    """Reads what workflows say, live: each token once, in order per model call, or a `Gap`.

    docs/guarantees.md has the limits of that, and the losses that no reader can know of.

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
        fallback: With a backend: `"heartbeats"`: while it delivers nothing of a run, the run is described
            once a second, and what workers with the same option put into heartbeats is read. `"off"`: not.

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
        fallback: Fallback = "off",
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
        one_of("fallback", fallback, ("off", "heartbeats"))
        self._client = client
        self._source = backend
        self._namespace = client.namespace if client is not None else namespace
        make = partial(
            Runs,
            source=backend,
            start_timeout=start_timeout,
            patience=patience,
            accepts_plain=accept_plain_frames,
            statistics=ReaderStatistics(),
            fallback=fallback,
        )
        self._runs = make(client, namespace=self._namespace)
        self._namespaces = Namespaces(self._runs, lambda other: make(other, namespace=other.namespace))
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

    @overload
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
        children: Literal[False] = False,
    ) -> AsyncGenerator[Event]: ...

    @overload
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
        children: Literal[True],
    ) -> WorkflowTree: ...

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
        children: bool = False,
    ) -> AsyncGenerator[Event]:
        """Iterate over everything that the workflow's models say, from the start, a cursor, or now on.

        Follows the workflow into further runs (continue-as-new, retries, resets) and ends with
        `StreamEnded`. When an attempt is retried, `AttemptStarted.supersedes` names the attempt whose
        text is to be taken back; nothing of it comes afterwards.

        To do something while nothing comes, keep one task of `anext(events)` and wait for it by
        `asyncio.wait({task}, timeout=15)`. `asyncio.wait_for(anext(events), 15)` cancels the wait, which ends
        the subscription: the next `anext` raises `TokenStreamError`, and does not end the loop.

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
            children: Whether to read all that the workflow starts, too; see `WorkflowTree`. The cursor is
                then the tree's, `event.origin.parent` is the workflow that started another one, and the end
                is that of the workflow itself.

        Raises:
            InvalidCursor: at once, before anything is read.
            StreamNotFound: no such namespace, or the workflow was not started in time.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
            TokenStreamError: a wait for an event before was cancelled.
        """
        request = ReadRequest(
            workflow_id=workflow_id,
            run_id=run_id,
            place=None if children else _place(cursor),
            start=start,
            on_retry=on_retry,
            until=until,
            start_timeout=start_timeout,
            runs=runs,
        )
        if children:
            return WorkflowTree(request, self._namespace, self._namespaces, self._source, cursor)
        return self._read(request)

    def subscribe_batches(
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
        on_caught_up: Callable[[], None] | None = None,
    ) -> AsyncGenerator[list[Event]]:
        """Iterate over the same events in lists, as they came together; none is empty. As `subscribe`.

        `on_caught_up` is called once, when all lists of what the backend had of the run when the reading
        began have been taken: from then on events are new. Without a backend it is called at once.
        """
        return self._lists(
            ReadRequest(
                workflow_id=workflow_id,
                run_id=run_id,
                place=_place(cursor),
                start=start,
                on_retry=on_retry,
                until=until,
                start_timeout=start_timeout,
                runs=runs,
                on_caught_up=on_caught_up,
            )
        )

    def subscribe_many(
        self,
        workflows: Iterable[str] | AsyncIterable[str] = (),
        cursor: str | None = None,
        *,
        query: str | None = None,
        query_interval: timedelta = timedelta(seconds=2),
        start: Start = "beginning",
        on_retry: OnRetry = "reset",
        until: Awaitable[object] | None = None,
        start_timeout: timedelta | None = None,
        runs: FirstRun = "newest",
        at_once: int = 500,
        keep_open: bool = False,
    ) -> ManyWorkflows:
        """Return many workflows as one stream of `(workflow_id, event)`, for `async with`.

        A workflow whose stream ends early does not end the others: `StreamFailed` comes in place of its end.
        The stream ends once all workflows have ended and no more can come.

        Args:
            workflows: Their ids. From an async iterable they come while others are read already; what it
                raises ends the stream.
            cursor: `.cursor` or `.short_cursor()` of such a stream: each of the workflows that are named
                again goes on where it was. A cursor names none by itself.
            query: A list filter of Temporal, such as `"ExecutionStatus = 'Running'"`: what it finds, now and
                later, is read. Such a stream ends by `until` alone.
            query_interval: From one look at the query to the next.
            start: As for `subscribe`, for workflows of which the cursor has nothing.
            on_retry: As for `subscribe`.
            until: Ends all, once what is there has been read.
            start_timeout: As for `subscribe`.
            runs: As for `subscribe`.
            at_once: So many workflows are read at the same time, at most; others wait until one ends.
            keep_open: Whether to wait for `add` when all have ended.

        Raises:
            InvalidCursor: at once; or by `async with`, where a short cursor has expired.
            ConfigurationError: an argument cannot be used; the message names it.
        """
        if isinstance(workflows, str):
            raise ConfigurationError("workflows must be ids, such as [handle.id], not one string")
        if query is not None and workflows != ():
            raise ConfigurationError(
                "workflows and query cannot both be used: `add` adds to what a query finds"
            )
        template = ReadRequest(
            workflow_id="",
            start=start,
            on_retry=on_retry,
            until=until,
            start_timeout=start_timeout,
            runs=runs,
        )
        if self._client is None and until is None:
            raise ConfigurationError(
                "without a Temporal client, subscribe_many(until=...) has to say the end"
            )
        positive_duration("query_interval", query_interval)
        return ManyWorkflows(
            template,
            self._lists,
            self._source,
            given(workflows) if query is None else self._runs.found(query, query_interval),
            cursor=cursor,
            at_once=at_once,
            keep_open=keep_open,
        )

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

    def _read(self, request: ReadRequest) -> AsyncGenerator[Event]:
        return Subscription(self._lists(request))

    def _lists(self, request: ReadRequest) -> AsyncGenerator[list[Event]]:
        request.check(self._source, has_client=self._client is not None)
        return self._runs.batches(request)


def _place(cursor: str | None) -> Cursor | None:
    return Cursor.parse(cursor) if cursor else None
