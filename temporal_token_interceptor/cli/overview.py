"""`tti list` and `tti show`: which runs stream now, and how one went, as tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.table import Table
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from temporal_token_interceptor.cli.connections import Connections
from temporal_token_interceptor.cli.tail import printable
from temporal_token_interceptor.errors import (
    ConfigurationError,
    StreamNotFound,
    TokenStreamError,
    TransportUnavailable,
)
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    Event,
    Gap,
    Origin,
    TokenEvent,
)

# ------------------------------------------------------------------ list


@dataclass(frozen=True, slots=True)
class Streaming:
    """One running workflow, as seen for a moment.

    Attributes:
        workflow_id: The workflow.
        workflow_type: Its type.
        run_id: Its run.
        started: When the run began.
        activities: The activities that run now: type, attempt, worker.
        tokens: Tokens that arrived while it was watched.
        problem: Why it could not be read; None if it could.
    """

    workflow_id: str
    workflow_type: str
    run_id: str
    started: datetime
    activities: tuple[str, ...]
    tokens: int
    problem: str | None = None


async def running(with_: Connections, query: str, limit: int, window: timedelta) -> list[Streaming]:
    """Return the newest running workflows, each watched for `window` at the same time.

    Args:
        with_: The connections.
        query: Temporal's list filter; `ExecutionStatus = 'Running'` is added to it.
        limit: At most so many workflows.
        window: For how long tokens are counted.

    Raises:
        ConfigurationError: Temporal refused the query.
    """
    whole = "ExecutionStatus = 'Running'" + (f" AND ({query})" if query else "")
    try:
        found = [execution async for execution in with_.client.list_workflows(whole, limit=limit)]
    except RPCError as error:
        raise ConfigurationError(f"Temporal refused the query {whole!r}: {error.message}") from error
    return list(await asyncio.gather(*(_watched(with_, execution, window) for execution in found)))


async def _watched(with_: Connections, execution: WorkflowExecution, window: timedelta) -> Streaming:
    activities = await _activities(with_.client, execution)
    tokens, problem = 0, None
    events = with_.subscriber.subscribe(
        execution.id, execution.run_id, start="now", until=asyncio.sleep(window.total_seconds())
    )
    try:
        async with aclosing(events):
            async for event in events:
                tokens += isinstance(event, TokenEvent)
    except TokenStreamError as error:
        problem = str(error)
    return Streaming(
        execution.id,
        execution.workflow_type,
        execution.run_id,
        execution.start_time,
        activities,
        tokens,
        problem,
    )


async def _activities(client: Client, execution: WorkflowExecution) -> tuple[str, ...]:
    try:
        described = await client.get_workflow_handle(execution.id, run_id=execution.run_id).describe()
    except RPCError:
        return ()  # it closed since it was listed
    return tuple(
        f"{pending.activity_type.name} #{pending.attempt} {pending.last_worker_identity}".rstrip()
        for pending in described.raw_description.pending_activities
    )


def table_of_running(runs: Iterable[Streaming], window: timedelta, now: datetime) -> Table:
    """Return what `tti list` prints, the busiest first."""
    table = Table("workflow", "type", "since", "activities (attempt, worker)", "tokens/s")
    for run in sorted(runs, key=lambda run: -run.tokens):
        rate = f"{run.tokens / window.total_seconds():.0f}" if run.problem is None else printable(run.problem)
        activities = printable("\n".join(run.activities)) or "none"
        table.add_row(
            printable(run.workflow_id),
            printable(run.workflow_type),
            _ago(now - run.started),
            activities,
            rate,
        )
    return table


def _ago(time: timedelta) -> str:
    seconds = max(int(time.total_seconds()), 0)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


# ------------------------------------------------------------------ show


@dataclass(slots=True)
class CallRow:
    """One model call of one attempt, as `tti show` counts it."""

    call: Call
    origin: Origin
    tokens: int = 0
    end: CallEnded | None = None


@dataclass(slots=True)
class Report:
    """What a stream says so far, counted.

    Attributes:
        attempts: The attempts, with what was said of their end.
        superseded: The ids of attempts that a newer one replaced.
        calls: The calls, in their order.
        gaps: What is missing.
    """

    attempts: dict[str, tuple[Origin, AttemptEnded | None]] = field(default_factory=dict)
    superseded: set[str] = field(default_factory=set)
    calls: dict[tuple[str, int], CallRow] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Count one event."""
        match event:
            case AttemptStarted(origin=origin):
                self.attempts[origin.attempt_id] = (origin, None)
                if event.superseded_by is not None:
                    self.superseded.add(origin.attempt_id)
                if event.supersedes is not None:
                    self.superseded.add(event.supersedes.attempt_id)
            case AttemptEnded(origin=origin):
                self.attempts[origin.attempt_id] = (origin, event)
            case TokenEvent(call=call, origin=origin):
                self._row(call, origin).tokens += 1
            case CallStarted(call=call, origin=origin):
                self._row(call, origin)
            case CallEnded(call=call, origin=origin):
                self._row(call, origin).end = event
            case Gap():
                self.gaps.append(event)
            case _:
                pass

    def _row(self, call: Call, origin: Origin) -> CallRow:
        return self.calls.setdefault((origin.attempt_id, call.ordinal), CallRow(call, origin))


async def status_of(client: Client, workflow_id: str, run_id: str | None) -> str:
    """Return Temporal's name for a run's status, in lower case.

    Raises:
        StreamNotFound: there is no such workflow or run.
        TransportUnavailable: Temporal cannot be asked.
    """
    try:
        described = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise StreamNotFound(
                f"there is no workflow {workflow_id!r} in namespace {client.namespace!r}: check the id and "
                "TEMPORAL_NAMESPACE"
            ) from error
        raise TransportUnavailable(f"Temporal cannot describe {workflow_id!r}: {error.message}") from error
    return described.status.name.lower() if described.status is not None else "unknown"


async def report_on(events: AsyncGenerator[Event]) -> Report:
    """Return what the events say."""
    report = Report()
    async with aclosing(events):
        async for event in events:
            report.add(event)
    return report


def tables_of(report: Report) -> list[Table]:
    """Return what `tti show` prints: attempts, calls, gaps; without those that are empty."""
    return [table for table in (_attempts(report), _calls(report), _gaps(report)) if table.row_count]


def _attempts(report: Report) -> Table:
    table = Table("activity", "attempt", "started", "outcome", title="attempts")
    for origin, end in report.attempts.values():
        outcome: str = "not ended" if end is None else end.outcome
        if origin.attempt_id in report.superseded:
            outcome += ", taken back"
        started = origin.started_time.astimezone(UTC).isoformat(timespec="milliseconds")
        name = f"{origin.activity_type} {origin.activity_id}"
        table.add_row(printable(name), str(origin.attempt), started, outcome)
    return table


def _calls(report: Report) -> Table:
    table = Table("call", "attempt", "node", "model", "tokens", "in / out", "end", title="calls")
    for row in report.calls.values():
        usage = (row.end.usage if row.end else None) or {}
        counted = f"{usage.get('input_tokens', '?')} / {usage.get('output_tokens', '?')}" if usage else "-"
        node = "/".join((*row.call.path, row.call.node_name))
        table.add_row(
            printable(row.call.id),
            str(row.origin.attempt),
            printable(node),
            printable(row.call.model or "-"),
            str(row.tokens),
            printable(counted),
            printable(_end_of(row)),
        )
    return table


def _end_of(row: CallRow) -> str:
    if row.end is None:
        return "open"
    if row.end.error:
        return f"failed: {row.end.error}"
    return "unfinished" if row.end.unfinished else row.end.finish_reason or "ended"


def _gaps(report: Report) -> Table:
    table = Table("reason", "missing", "where", title="gaps")
    for gap in report.gaps:
        missing = "unknown" if gap.missing is None else str(gap.missing)
        origin = gap.origin
        where = f"{origin.activity_type} attempt {origin.attempt}" if origin else "the stream"
        table.add_row(gap.reason, missing, printable(where))
    return table
