"""`tti doctor`: checks what tokens need on their way, and names the fix of what is wrong."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from rich.table import Table
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from temporal_token_interceptor.cli.connections import at_once, temporal_client
from temporal_token_interceptor.cli.tail import printable
from temporal_token_interceptor.errors import CodecMismatch, ConfigurationError, TokenStreamError
from temporal_token_interceptor.events import AttemptStarted, Gap
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend

_SELDOM = timedelta(seconds=2)  # live streaming sends a heartbeat every 0.2 s
_SOON = timedelta(seconds=5)  # in which a worker that streams has reported the start of its attempt


class Verdict(StrEnum):
    """What to think of a finding."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table.

    Attributes:
        subject: What was examined.
        verdict: What to think of it.
        finding: What was seen.
        fix: The next step; empty where there is none.
    """

    subject: str
    verdict: Verdict
    finding: str
    fix: str = ""


async def examine(workflow_id: str | None, data_converter: str | None) -> list[Finding]:
    """Return what was found: of Temporal, of Redis, and of a workflow where one is named."""
    findings: list[Finding] = []
    client = await _temporal(findings, data_converter)
    backend = await _redis(findings)
    try:
        if client is not None and workflow_id is not None:
            findings += [finding async for finding in _workflow(client, backend, workflow_id)]
    finally:
        if backend is not None:
            await backend.close()
    return findings


def table_of(findings: list[Finding]) -> Table:
    """Return what `tti doctor` prints."""
    colours = {Verdict.FINE: "green", Verdict.DOUBTFUL: "yellow", Verdict.WRONG: "red"}
    table = Table("checked", "verdict", "found", "fix", show_lines=True)
    for finding in findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(finding.subject, verdict, printable(finding.finding), finding.fix)
    return table


# ------------------------------------------------------------------ Temporal


async def _temporal(findings: list[Finding], data_converter: str | None) -> Client | None:
    try:
        client = await temporal_client(data_converter)
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    except (TokenStreamError, RPCError) as error:
        fix = "start Temporal, or correct TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY"
        findings.append(Finding("Temporal", Verdict.WRONG, str(error), fix))
        return None
    found = f"answers, server {info.server_version}, namespace {client.namespace}"
    findings.append(Finding("Temporal", Verdict.FINE, found))
    has_codec = client.data_converter.payload_codec is not None
    findings.append(
        Finding(
            "codec",
            Verdict.FINE,
            "payloads and frames are opened with the codec of --data-converter"
            if has_codec
            else "none; workers that encrypt need --data-converter here",
        )
    )
    return client


# ------------------------------------------------------------------ Redis


async def _redis(findings: list[Finding]) -> RedisStreamBackend | None:
    if not os.environ.get("REDIS_URL"):
        found = "REDIS_URL is not set: tokens come through Temporal alone"
        fix = "set REDIS_URL if your workers write to Redis"
        findings.append(Finding("Redis", Verdict.DOUBTFUL, found, fix))
        return None
    try:
        backend = RedisStreamBackend.from_environment()
    except ConfigurationError as error:
        findings.append(Finding("Redis", Verdict.WRONG, str(error), "correct the variable"))
        return None
    findings += [
        Finding(answer.subject, Verdict(answer.verdict), answer.finding, answer.fix)
        async for answer in backend.examine()
    ]
    return backend


# ------------------------------------------------------------------ one workflow


async def _workflow(
    client: Client, backend: RedisStreamBackend | None, workflow_id: str
) -> AsyncIterator[Finding]:
    handle = client.get_workflow_handle(workflow_id)
    try:
        described = await handle.describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        found = f"there is no workflow {workflow_id!r} in namespace {client.namespace}"
        yield Finding("workflow", Verdict.WRONG, found, "check the id and TEMPORAL_NAMESPACE")
        return
    status = described.status.name.lower() if described.status is not None else "unknown"
    yield Finding(
        "workflow", Verdict.FINE, f"{status}, type {described.workflow_type}, run {described.run_id}"
    )
    yield await _pollers(client, described.task_queue)
    scheduled = await _activities(client, described)
    yield _heartbeats(scheduled)
    if backend is None and scheduled.last_heartbeat is not None:
        yield _throttle(scheduled.last_heartbeat)
    yield await _stream(client, backend, described, scheduled)


async def _pollers(client: Client, task_queue: str) -> Finding:
    reply = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
    )
    workers = sorted({poller.identity for poller in reply.pollers})
    if not workers:
        found = f"no worker asks for activities of task queue {task_queue!r}"
        return Finding(
            "workers", Verdict.DOUBTFUL, found, "start a worker, unless the activities run elsewhere"
        )
    return Finding("workers", Verdict.FINE, f"{len(workers)} on {task_queue!r}: {', '.join(workers[:5])}")


@dataclass(frozen=True, slots=True)
class _Activities:
    """What a run's history and description say of its activities."""

    without_heartbeat: tuple[str, ...]
    longest: timedelta
    last_heartbeat: timedelta | None
    completed: int


async def _activities(client: Client, described: WorkflowExecutionDescription) -> _Activities:
    handle = client.get_workflow_handle(described.id, run_id=described.run_id)
    without: set[str] = set()
    completed = 0
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            attributes = event.activity_task_scheduled_event_attributes
            if not attributes.heartbeat_timeout.ToTimedelta():
                without.add(attributes.activity_type.name)
        completed += event.HasField("activity_task_completed_event_attributes")
    now = datetime.now(UTC)
    started: list[Any] = [
        pending.last_started_time.ToDatetime(UTC)
        for pending in described.raw_description.pending_activities
        if pending.HasField("last_started_time")
    ]
    longest = max((now - time for time in started), default=timedelta(0))
    beats: list[Any] = [
        pending.last_heartbeat_time.ToDatetime(UTC)
        for pending in described.raw_description.pending_activities
        if pending.HasField("last_heartbeat_time")
    ]
    last_heartbeat = min((now - time for time in beats), default=None)
    return _Activities(tuple(sorted(without)), longest, last_heartbeat, completed)


def _heartbeats(activities: _Activities) -> Finding:
    if not activities.without_heartbeat:
        return Finding(
            "heartbeat timeouts", Verdict.FINE, "every activity of the workflow has one, or it has none yet"
        )
    return Finding(
        "heartbeat timeouts",
        Verdict.DOUBTFUL,
        f"none on: {', '.join(activities.without_heartbeat)}; cancelling cannot reach their model calls",
        "once every worker has the interceptor, set heartbeat_timeout on them; see docs/operations.md",
    )


def _throttle(last_heartbeat: timedelta) -> Finding:
    """Without Redis, tokens come as often as the SDK lets heartbeats through."""
    found = f"the newest heartbeat is {last_heartbeat.total_seconds():.1f} s old"
    if last_heartbeat < _SELDOM:
        return Finding("heartbeat throttle", Verdict.FINE, found)
    return Finding(
        "heartbeat throttle",
        Verdict.DOUBTFUL,
        f"{found}: the model is silent, or the worker lets heartbeats through that seldom",
        "use TokenStreamingPlugin, or set the worker's max_heartbeat_throttle_interval and "
        "default_heartbeat_throttle_interval to 0.2 s",
    )


async def _stream(
    client: Client,
    backend: RedisStreamBackend | None,
    described: WorkflowExecutionDescription,
    activities: _Activities,
) -> Finding:
    """Read what there is of the workflow, at once."""
    attempts, gaps = 0, 0
    subscriber = TokenSubscriber.from_environment(client, backend)
    events = subscriber.subscribe(described.id, described.run_id, until=at_once())
    try:
        async with aclosing(events):
            async for event in events:
                attempts += isinstance(event, AttemptStarted)
                # An attempt that runs has not said how it ends; at once, that is a gap.
                gaps += isinstance(event, Gap) and event.reason != "unended"
    except CodecMismatch as error:
        return Finding(
            "stream", Verdict.WRONG, str(error), "pass the workers' converter with --data-converter"
        )
    except TokenStreamError as error:
        return Finding("stream", Verdict.WRONG, str(error), "see the rows above")
    if attempts:
        return Finding("stream", Verdict.FINE, f"attempts that have streamed: {attempts}; gaps: {gaps}")
    if activities.completed or activities.longest > _SOON:
        return Finding(
            "stream",
            Verdict.WRONG,
            f"{activities.completed} activities completed, the longest one that runs is "
            f"{activities.longest.total_seconds():.0f} s old, and none has streamed",
            "put TokenStreamingInterceptor or TokenStreamingPlugin on the worker; use the same REDIS_URL, "
            "TTI_CHANNEL_PREFIX and namespace on both sides; check the worker's filters",
        )
    return Finding("stream", Verdict.FINE, "nothing yet: no activity has run for long")
