"""What a subscriber offers in LangChain's and LangGraph's own shapes: messages, events, the run as an object.

A process that reads events alone loads no LangChain: each shape is imported by its method.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.reader.request import FirstRun, OnRetry, Start
from temporal_token_interceptor.reader.view import View
from temporal_token_interceptor.reader.workflow_views import WorkflowViews

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.graph_stream import GraphStream
    from temporal_token_interceptor.views.message_stream import Messages, Past
    from temporal_token_interceptor.views.stream_modes import StreamMode
    from temporal_token_interceptor.views.workflow_run import WorkflowRun


class LangChainViews(WorkflowViews):
    """The shapes of a workflow that LangChain and LangGraph have in process."""

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

        What a node returns and no model has streamed is a message of its own class, whole, if the worker has
        `capture={"node_output"}`.

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
        from temporal_token_interceptor.views.message_stream import messages  # noqa: PLC0415

        shown = _of_views(on_retry)
        events = self.subscribe(
            workflow_id, run_id, cursor, start=start, on_retry=shown, until=until, runs=runs
        )
        chunks = messages(
            events,
            self._past(workflow_id, shown),
            cursor=cursor,
            subgraphs=subgraphs,
        )
        return View(events, chunks)

    def astream(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        stream_mode: StreamMode | Sequence[StreamMode] = "updates",
        subgraphs: bool = False,
        start: Start = "beginning",
        on_retry: Literal["reset", "hold"] = "reset",
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> GraphStream:
        """Iterate over what `graph.astream(stream_mode=..., subgraphs=...)` yields; see docs/langgraph.md.

        For graphs that an activity runs by `stream_graph`, with these modes. Of a plain `ainvoke`:
        `messages`; `updates`, if the worker has `capture={"node_output"}`; and in `custom`, what
        `dispatch_custom_event` sent, as `{"name": ..., "data": ...}`.

        Chunks are JSON values, with LangChain's messages among them. One of `{"__retry__": ...}` takes back
        what an attempt of an activity has said: the attempt that it names says it again. `{"__gap__": ...}`
        says that something is missing, `{"__truncated__": True}` stands for what was too large to be sent.
        In `messages` these are as for `messages`. The end and its errors are those of `messages`, too.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            cursor: `.cursor` of such a stream: goes on right after its last item. Only good for the same
                options.
            stream_mode: One mode; or a list, then items are pairs `(mode, chunk)`.
            subgraphs: Whether to show subgraphs, too; items then begin with their namespace.
            start: As for `subscribe`.
            on_retry: As for `messages`.
            until: As for `subscribe`.
            runs: As for `subscribe`.

        Raises:
            InvalidCursor: at once, before anything is read.
            ConfigurationError: at once: no such mode. At the end: graphs ran, and no worker sends the mode.
            WorkflowNotCompleted: at the end: the workflow failed, was canceled or terminated, or timed out.
            TokensMissing: at the end: the workflow completed, but not all that it said arrived.
            TokenStreamError: as of `subscribe`.
        """
        from temporal_token_interceptor.reader.graph_stream import GraphStream  # noqa: PLC0415
        from temporal_token_interceptor.views.graph_items import graph_items  # noqa: PLC0415
        from temporal_token_interceptor.views.stream_modes import Choice  # noqa: PLC0415

        shown = _of_views(on_retry)
        choice = Choice.of(stream_mode, subgraphs=subgraphs)
        events = self.subscribe(
            workflow_id, run_id, cursor, start=start, on_retry=shown, until=until, runs=runs
        )
        items = graph_items(
            events,
            self._past(workflow_id, shown),
            choice,
            cursor=cursor,
            is_whole=not cursor and start == "beginning",
        )
        return GraphStream(events, items, choice, cursor or "")

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
            self._past(workflow_id, shown),
            shown=filter_,
            cursor=cursor,
        )
        return View(events, shaped)

    def protocol_events(
        self,
        workflow_id: str,
        run_id: str | None = None,
        cursor: str | None = None,
        *,
        since: int | None = None,
        on_retry: Literal["reset", "hold"] = "reset",
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> AsyncGenerator[dict[str, Any]]:
        """Iterate over LangGraph's protocol events, v3: `{type, seq, event_id, method, params}`.

        `params` has `namespace`, `timestamp` (when the event was stored), `data`, and the `origin` of what an
        attempt says. `seq` grows with each event, in 53 bits. It is the same for all readers of what a
        Redis stream holds. Where that was trimmed it still grows from reader to reader, but counts otherwise
        in a millisecond in which a message goes on whose beginning is gone. Where there is no Redis, it
        counts what this reader read from its beginning on.

        The data of `messages` are pairs of a message event and its metadata. A message that a node returned,
        and no model has streamed, is in place of the event, as in LangGraph, if the worker has
        `capture={"node_output"}`.

        To resume reads the run again from its beginning: events build on what came before.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            cursor: `event_id` of an event, or a cursor of `subscribe`: goes on right after it. Only good for
                the same options. If its place is not stored any more, a message that goes on begins again.
            since: `seq` of an event: reads from the same beginning, and leaves out what is not behind it.
            on_retry: As for `messages`. A message that is replaced while it is open ends with an `error`; of
                what had ended, `custom:temporal` says that the attempt is replaced.
            until: As for `subscribe`.
            runs: As for `subscribe`.

        Raises:
            InvalidCursor: at once, before anything is read.
            ConfigurationError: at once: `cursor` and `since` are both given.
            WorkflowNotCompleted: at the end: the workflow failed, was canceled or terminated, or timed out.
            TokensMissing: at the end: the workflow completed, but not all that it said arrived.
            TokenStreamError: as of `subscribe`.
        """
        from temporal_token_interceptor.views.protocol_stream import EventId, protocol_events  # noqa: PLC0415

        if cursor is not None and since is not None:
            raise ConfigurationError("resume by cursor or since, not by both")
        shown = _of_views(on_retry)
        after = EventId.parse(cursor) if cursor is not None else None
        events = self.subscribe(
            workflow_id, run_id, (after and after.cursor) or None, on_retry=shown, until=until, runs=runs
        )
        numbered = protocol_events(
            events,
            lambda run: self._runs.stream(workflow_id, run, on_retry=shown).so_far(),
            after=after,
            since=since,
        )
        return View(events, numbered)

    def run(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        on_retry: Literal["reset", "hold"] = "reset",
        result_type: type | None = None,
        transformers: Sequence[Callable[[tuple[str, ...]], Any]] = (),
        subgraphs: bool = False,
        until: Awaitable[object] | None = None,
        runs: FirstRun = "newest",
    ) -> WorkflowRun:
        """Return a workflow as streams of its model calls, tools, states and subgraphs, and its result.

        For `async with`, as LangGraph's `astream_events(version="v3")` gives a run. A call that a retry
        replaces raises `CallNotCompleted`; if it had ended already, it is marked `superseded`.

        Args:
            workflow_id: As for `subscribe`.
            run_id: As for `subscribe`.
            on_retry: As for `messages`.
            result_type: What `await run.output` is to be read as, as for Temporal's workflow handle.
            transformers: Make `StreamTransformer`s as LangGraph has them, or what has the same methods:
                classes, or functions of a namespace. What they show is in `run.extensions`.
            subgraphs: Whether the projections of the run itself also have what is said in subgraphs.
            until: As for `subscribe`.
            runs: As for `subscribe`.

        Raises:
            ConfigurationError: at once: an argument cannot be used.
        """
        from temporal_token_interceptor.views.transformers import factories  # noqa: PLC0415
        from temporal_token_interceptor.views.workflow_run import WorkflowRun  # noqa: PLC0415

        return WorkflowRun(
            self.subscribe(workflow_id, run_id, on_retry=_of_views(on_retry), until=until, runs=runs),
            lambda: self._runs.result(workflow_id, run_id, result_type),
            transformers=factories(transformers),
            subgraphs=subgraphs,
        )

    def _past(self, workflow_id: str, shown: OnRetry) -> Past:
        return lambda attempt: self._runs.stream(workflow_id, attempt.run_id, on_retry=shown).so_far()


def _of_views(on_retry: OnRetry) -> OnRetry:
    """Return a policy that shows one attempt of an activity at a time."""
    if on_retry == "annotate":
        raise ConfigurationError("on_retry must be reset or hold: `subscribe` alone can show all attempts")
    return on_retry
