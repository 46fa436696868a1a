"""The client side: joins the transport (fast) with Temporal (true) into one stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakValueDictionary

from temporal_token_interceptor.activity_completion import PREFIX, ActivityCompletion
from temporal_token_interceptor.backends.base import TokenSource
from temporal_token_interceptor.completion import Closed, Completion
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import ConfigurationError, StreamNotFound
from temporal_token_interceptor.events import (
    AttemptStarted,
    Event,
    Origin,
    RunContinued,
    StreamEnded,
    TokenEvent,
)
from temporal_token_interceptor.protocol import Cursor, StreamKey
from temporal_token_interceptor.run_stream import OnRetry, ReaderStatistics, RunStream
from temporal_token_interceptor.snapshot import Fold, Snapshot

if TYPE_CHECKING:
    from temporalio.client import Client

# How often a client without Temporal asks the transport for a run that has not begun.
_POINTER_PAUSE = 0.1


class TokenSubscriber:
    """Reads what workflows say, live: each token once, in order per model call, or a `Gap`.

    A subscription costs a share of the process's two Redis connections, and one long poll to Temporal in 20
    seconds; nothing in the workflow or its history.

    Args:
        client: Says which run is the newest, and how it closed; its data converter opens sealed frames. None:
            subscriptions need `until`, find runs through the transport, and end with the status `unknown`.
        backend: Where workers write to.
        namespace: The Temporal namespace; only without a client, which knows its own.
        start_timeout: How long to wait for a workflow that has not been started.
        patience: How long Temporal may be away before `TransportUnavailable`; the backend has its own.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        client: Client | None,
        backend: TokenSource,
        *,
        namespace: str = "default",
        start_timeout: timedelta = timedelta(seconds=60),
        patience: timedelta = timedelta(seconds=60),
    ) -> None:
        if not isinstance(backend, TokenSource):
            raise ConfigurationError(
                f"backend must be a TokenSource such as RedisStreamBackend(...), not {type(backend).__name__}"
            )
        for name, value in (("start_timeout", start_timeout), ("patience", patience)):
            if not isinstance(value, timedelta) or value < timedelta(0):
                raise ConfigurationError(f"{name} must be a timedelta that is not negative, not {value!r}")
        self.statistics = ReaderStatistics()
        self._source = backend
        self._namespace = client.namespace if client is not None else namespace
        self._start_timeout = start_timeout
        self._workflows = Completion(client, patience=patience) if client is not None else None
        self._activities = ActivityCompletion(client, patience=patience) if client is not None else None
        self._data_converter = client.data_converter if client is not None else None
        self._codecs: WeakValueDictionary[StreamKey, FrameCodec] = WeakValueDictionary()

    def subscribe(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        start: Literal["beginning", "now"] = "beginning",
        on_retry: OnRetry = "reset",
        until: Awaitable[object] | None = None,
    ) -> AsyncGenerator[Event]:
        """Iterate over everything that the workflow's models say, from the start, a cursor, or now on.

        Follows the workflow into further runs (continue-as-new, retries, resets) and ends with
        `StreamEnded`. When an attempt is retried, `AttemptStarted.supersedes` names the attempt whose
        text is to be taken back; nothing of it comes afterwards.

        Args:
            workflow_id: The workflow; it may not have been started yet.
            run_id: The run to begin with; by default the newest.
            cursor: The `.cursor` of an event: goes on right after it. Only good for the same `on_retry`.
            start: Without a cursor: `"now"` leaves out what has been said before.
            on_retry: `"reset"`: `AttemptStarted.supersedes` says which text to take back. `"hold"`: nothing
                of an attempt before it has succeeded, then all of it at once; what failed is never shown.
                `"annotate"`: everything, also what superseded attempts go on to say, by `origin`.
            until: Ends the subscription when done, once what is there has been read.

        Raises:
            InvalidCursor: at once, before anything is read.
            StreamNotFound: no such namespace, or the workflow was not started in time.
            TransportUnavailable: Redis or Temporal was away for longer than its patience.
            CodecMismatch: frames are sealed, and the client's codec cannot open them.
        """
        place = None if cursor is None else Cursor.parse(cursor)
        self._check_end(until)
        for name, value, known in (
            ("start", start, ("beginning", "now")),
            ("on_retry", on_retry, get_args(OnRetry)),
        ):
            if value not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        return self._subscribe(
            workflow_id,
            run_id,
            place,
            until,
            self._workflows,
            on_retry=on_retry,
            skips=start == "now" and place is None,
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
        run = run_id or await self._newest_run(workflow_id, timedelta(0), None, self._workflows)
        if run is None:
            raise StreamNotFound(f"the transport knows no run of workflow {workflow_id!r}")
        key = StreamKey(self._namespace, workflow_id, run)
        stream = RunStream(key, self._source, None, self.statistics, self._codec(key))
        fold = Fold()
        async with aclosing(stream.so_far()) as events:
            async for event in events:
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
        place = None if cursor is None else Cursor.parse(cursor)
        self._check_end(until)
        return self._subscribe(f"{PREFIX}{activity_id}", run_id, place, until, self._activities)

    async def tokens(
        self, workflow_id: str, run_id: str | None = None, cursor: str | None = None
    ) -> AsyncGenerator[TokenEvent]:
        """Iterate over the answer text alone.

        A retry shows as a token whose `attempt` is higher than before: drop what you have of the same
        `call.id`. Where that matters, `subscribe` says it outright.
        """
        async with aclosing(self._closable(workflow_id, run_id, cursor)) as events:
            async for event in events:
                if isinstance(event, TokenEvent):
                    yield event

    async def text(self, workflow_id: str, run_id: str | None = None) -> str:
        """Wait for the workflow to close and return the answer text of all its calls, in order of arrival.

        What superseded attempts said is not in it.
        """
        pieces: dict[str, list[str]] = {}
        async with aclosing(self._closable(workflow_id, run_id, None)) as events:
            async for event in events:
                match event:
                    case AttemptStarted(supersedes=Origin(attempt_id=superseded)):
                        pieces.pop(superseded, None)
                    case TokenEvent():
                        pieces.setdefault(event.origin.attempt_id, []).append(event.token)
        return "".join(piece for attempt in pieces.values() for piece in attempt)

    # ------------------------------------------------------------------ following a workflow

    def _check_end(self, until: Awaitable[object] | None) -> None:
        if self._workflows is None and until is None:
            raise ConfigurationError("without a Temporal client, `until` has to say when a subscription ends")

    def _closable(self, workflow_id: str, run_id: str | None, cursor: str | None) -> AsyncGenerator[Event]:
        place = None if cursor is None else Cursor.parse(cursor)
        return self._subscribe(workflow_id, run_id, place, None, self._workflows)

    async def _subscribe(
        self,
        workflow_id: str,
        run_id: str | None,
        place: Cursor | None,
        until: Awaitable[object] | None,
        completion: Completion | ActivityCompletion | None,
        *,
        on_retry: OnRetry = "reset",
        skips: bool = False,
    ) -> AsyncGenerator[Event]:
        stop = None if until is None else asyncio.ensure_future(until)
        run = (
            place.run_id
            if place
            else run_id or await self._newest_run(workflow_id, self._start_timeout, stop, completion)
        )
        if run is None:  # the caller had enough before there was anything
            yield StreamEnded(status="unknown")
            return
        before: Mapping[str, Origin] = {}
        while True:
            key = StreamKey(self._namespace, workflow_id, run)
            stream = RunStream(
                key,
                self._source,
                place,
                self.statistics,
                self._codec(key),
                on_retry=on_retry,
                before=before,
            )
            if skips:
                await stream.skip()
            closing = asyncio.ensure_future(self._closed(workflow_id, run, stop, completion))
            try:
                async with aclosing(stream.events(closing)) as events:
                    async for event in events:
                        yield event
                closed = await closing
            finally:
                closing.cancel()
            if closed.next_run_id is None:
                yield StreamEnded(status=closed.status, cursor=stream.end)
                return
            run, place, skips = closed.next_run_id, None, False
            before = stream.standing if closed.again else {}
            yield RunContinued(run_id=run, cursor=str(Cursor(run)))

    def _codec(self, stream: StreamKey) -> FrameCodec:
        """Return the codec of a stream: the same for all its subscribers, who share what it has opened."""
        codec = self._codecs.get(stream)
        if codec is None:
            codec = self._codecs[stream] = FrameCodec(self._data_converter, stream)
        return codec

    async def _newest_run(
        self,
        workflow_id: str,
        start_timeout: timedelta,
        stop: asyncio.Future[object] | None,
        completion: Completion | ActivityCompletion | None,
    ) -> str | None:
        """Return the newest run, waiting for it to begin; None if `stop` comes first."""
        if completion is not None:
            return await completion.newest_run(workflow_id, start_timeout=start_timeout)
        deadline = asyncio.get_running_loop().time() + start_timeout.total_seconds()
        while (run := await self._source.newest_run(self._namespace, workflow_id)) is None:
            if stop is not None and stop.done():
                return None
            if asyncio.get_running_loop().time() >= deadline:
                raise StreamNotFound(
                    f"the transport has heard nothing of workflow {workflow_id!r} in namespace "
                    f"{self._namespace!r} within {start_timeout.total_seconds():g} s"
                )
            await asyncio.sleep(_POINTER_PAUSE)
        return run

    async def _closed(
        self,
        workflow_id: str,
        run_id: str,
        until: asyncio.Future[object] | None,
        completion: Completion | ActivityCompletion | None,
    ) -> Closed:
        """Wait for whichever comes first: the run closes, or the caller has had enough."""
        waiting: set[asyncio.Future[Any]] = set()
        asking: asyncio.Task[Closed] | None = None
        if completion is not None:
            asking = asyncio.ensure_future(completion.closed(workflow_id, run_id))
            waiting.add(asking)
        if until is not None:
            waiting.add(until)
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return await asking if asking in done and asking is not None else Closed("unknown")
        finally:
            if asking is not None:
                asking.cancel()
