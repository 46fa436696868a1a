"""What is to be read, and how: one record from the call of the user down to the stream of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, get_args

from temporal_token_interceptor._arguments import duration, one_of
from temporal_token_interceptor.errors import ConfigurationError, StreamNotFound
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.transport.base import TimedSource, TokenSource

OnRetry = Literal["reset", "hold", "annotate"]
"""What a reader is shown of attempts that did not stand; see `TokenSubscriber.subscribe`."""

Start = Literal["beginning", "now"]
"""Where a reader without a cursor begins."""

Fallback = Literal["off", "heartbeats"]
"""What a reader looks at while its transport delivers nothing; see `TokenSubscriber`."""

FirstRun = Literal["newest", "all"]
"""Where a reader begins that names neither a run nor a cursor: with the newest run, or with the first one of
its chain (continued as new, retried, reset) that Temporal still knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """A subscription as it was asked for. It checks itself: one that exists can be read.

    Attributes:
        workflow_id: The workflow; `activity:<activity_id>` for a standalone activity.
        run_id: The run to begin with; None for the newest.
        place: The cursor to go on from; None for the start.
        start: Where to begin without a cursor.
        on_retry: What to show of attempts that did not stand.
        until: Ends the subscription when done; None: the close of the workflow alone does.
        start_timeout: How long to wait for the workflow to be started; None for what the subscriber says.
        runs: Which run to begin with, where neither `run_id` nor `place` names one.
        is_standalone: Whether it is an activity without a workflow.
        on_caught_up: Called once what was stored when the reading began has been taken; None for no one.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    workflow_id: str
    run_id: str | None = None
    place: Cursor | None = None
    start: Start = "beginning"
    on_retry: OnRetry = "reset"
    until: Awaitable[object] | None = None
    start_timeout: timedelta | None = None
    is_standalone: bool = False
    runs: FirstRun = "newest"
    on_caught_up: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.workflow_id, str):
            raise ConfigurationError(
                f"workflow_id must be a string, such as `handle.id`, not {type(self.workflow_id).__name__}"
            )
        for name, value, known in (
            ("start", self.start, get_args(Start)),
            ("on_retry", self.on_retry, get_args(OnRetry)),
            ("runs", self.runs, get_args(FirstRun)),
        ):
            one_of(name, value, known)
        if self.start_timeout is not None:
            duration("start_timeout", self.start_timeout)

    @property
    def first_run_id(self) -> str | None:
        """The run to begin with: the one that the cursor names comes first."""
        return self.place.run_id if self.place is not None else self.run_id

    @property
    def begins_with_first(self) -> bool:
        """Whether to begin with the first run of the chain that Temporal still knows."""
        return self.runs == "all" and self.first_run_id is None

    @property
    def skips(self) -> bool:
        """Whether to leave out what is there already."""
        return self.start == "now" and self.place is None

    def check(self, source: TokenSource | None, *, has_client: bool) -> None:
        """Refuse what cannot be read from a transport, or without a Temporal client.

        Raises:
            ConfigurationError: it needs a client.
            InvalidCursor: the cursor is one of another transport.
        """
        if not has_client and self.until is None:
            raise ConfigurationError("without a Temporal client, subscribe(until=...) has to say the end")
        if not has_client and self.runs == "all":
            raise ConfigurationError('runs="all" needs a Temporal client, which knows the runs of a workflow')
        entry = self.place.transport if self.place is not None else ""
        if entry and isinstance(source, TimedSource):
            # A cursor of another transport is refused here; without one, what was read in any is left out.
            source.stored_time(entry)

    def not_found(self, error: StreamNotFound) -> StreamNotFound:
        """Return the error, or what it means where a cursor was passed."""
        if self.place is None:
            return error
        return StreamNotFound(
            f"the cursor is of run {self.place.run_id!r}, and Temporal knows no such run of workflow "
            f"{self.workflow_id!r}: pass it with the workflow that it came from, or start without one"
        )

    def next_run(self, run_id: str) -> ReadRequest:
        """Return the request for the run that the workflow goes on in: all of it."""
        return replace(self, run_id=run_id, place=None, start="beginning", on_caught_up=None)
