"""Every fault that production has: what is done to the runs, and what a viewer may then miss, told."""

import asyncio
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetActivityRequest, ResetWorkflowExecutionRequest

from tests.faults import redis_faults
from tests.faults.play import Script, Speech
from tests.faults.proxy import Manners, Proxy
from tests.faults.stage import Run, Stage, end
from tests.faults.temporal_server import TemporalServer


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: What happens.
        strike: Starts runs on a stage, does it, and has them judged.
        temporal: Needs a Temporal server of its own, because it kills it.
        cluster: The tokens go through a Redis Cluster.
        heartbeats: The tokens go through heartbeats: there is no Redis.
    """

    name: str
    strike: Callable[..., Awaitable[None]]
    temporal: bool = False
    cluster: bool = False
    heartbeats: bool = False


async def worker_killed(stage: Stage, *, skew: float = 0.0) -> None:
    """SIGKILL in mid-stream; another worker takes over once the heartbeat is missed."""
    first = await stage.worker_process(skew=skew)
    await stage.start_all(lambda: Script(Speech(tokens=300)))
    await stage.at_random_points(stage.runs)
    await end(first)
    stage.lifted()
    await stage.worker_process(skew=-skew)
    await stage.all_finished()
    stage.assert_retried()


async def worker_lost(stage: Stage) -> None:
    """The worker dies, and Temporal may not try again: nobody ever says how the attempt ended."""
    process = await stage.worker_process()
    await stage.start_all(lambda: Script(attempts=1))
    await stage.at_random_points(stage.runs)
    await end(process)
    stage.lifted()
    async with stage.worker():  # for the workflows themselves
        await stage.all_finished("failed")


async def worker_shut_down(stage: Stage, **viewer: int) -> None:
    """A deployment: the worker stops gracefully, the next one has already begun."""
    async with AsyncExitStack() as old, AsyncExitStack() as new:
        await old.enter_async_context(stage.worker())
        # Too long to end first: heartbeats show a piece 0.4 s late, and the worker has 0.3 s to end.
        await stage.start_all(lambda: Script(Speech(tokens=500)), **viewer)
        await stage.at_random_points(stage.runs, within=0.3)
        await new.enter_async_context(stage.worker())
        await old.aclose()
        stage.lifted()
        await stage.all_finished()
        stage.assert_retried()


async def zombie(stage: Stage) -> None:
    """An attempt that timed out goes on to write beside its successor."""
    speech = Speech(tokens=250, delay=0.01, deaf=True)
    async with stage.worker():
        await stage.start_all(lambda: Script(speech, start_to_close=stage.rng.uniform(0.9, 1.4)))
        await stage.all_finished()
        stage.assert_retried()


async def activity_reset(stage: Stage) -> None:
    """An operator resets the activity: the attempt's number begins at 1 again."""

    async def reset(run: Run) -> None:
        await run.heard_some(stage.rng, within=0.3)
        await stage.client.workflow_service.reset_activity(
            ResetActivityRequest(
                namespace=stage.client.namespace, execution=_execution(run), identity="operator", id="1"
            )
        )
        run.lifted()

    async with stage.worker():
        runs = await stage.start_all(lambda: Script(Speech(tokens=300)))
        await asyncio.gather(*map(reset, runs))
        await stage.all_finished()
        stage.assert_retried()


async def redis_killed(stage: Stage) -> None:
    """Redis crashes, and comes back empty."""
    async with stage.worker():
        await stage.start_all()
        await stage.at_random_points(stage.runs)
        await stage.redis.kill()
        await asyncio.sleep(stage.rng.uniform(0.0, 0.3))
        await stage.redis.start()
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def redis_away_at_the_end(stage: Stage) -> None:
    """Redis crashes, and is still away when the activity ends and the workflow closes."""
    async with stage.worker(flush_timeout=timedelta(seconds=0.3)):
        await stage.start_all()
        await stage.at_random_points(stage.runs)
        await stage.redis.kill()
        await asyncio.gather(*(run.handle.result() for run in stage.runs))
        await stage.redis.start()
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def redis_stopped(stage: Stage) -> None:
    """Redis answers nothing for ten seconds, and keeps its connections; the models speak on meanwhile."""
    seconds = 10.0 if stage.long else 1.5
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(tokens=int(seconds * 180), delay=0.01)))
        await stage.at_random_points(stage.runs, within=0.3)
        pid = (await stage.redis_client.info("server"))["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        stage.lifted()
        await stage.all_finished()


async def network_bad(stage: Stage, manners: Manners) -> None:
    """Between worker and Redis, connections break with every write."""
    proxy = Proxy(stage.rng)
    async with proxy.before(stage.redis.url), stage.worker(proxy.url):
        await stage.start_all(lambda: Script(Speech(tokens=400)))
        await stage.at_random_points(stage.runs)
        proxy.manners = manners
        await asyncio.sleep(stage.rng.uniform(0.5, 1.0))
        proxy.manners = "good"
        stage.lifted()
        await stage.all_finished()
        assert proxy.struck


async def out_of_memory(stage: Stage) -> None:
    """Redis refuses writes: OOM."""
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(tokens=400)))
        await stage.at_random_points(stage.runs)
        await stage.redis_client.config_set("maxmemory", 1)
        await asyncio.sleep(stage.rng.uniform(0.5, 1.0))
        await stage.redis_client.config_set("maxmemory", 0)
        stage.lifted()
        await stage.all_finished()


async def cluster_failover(stage: Stage) -> None:
    """The node of a run dies, and its replica takes over; the models speak on meanwhile."""
    # What Redis has not acknowledged is to wait for the new master, and not to end with the activity.
    async with stage.worker(flush_timeout=timedelta(seconds=30)):
        await stage.start_all(lambda: Script(Speech(tokens=500, delay=0.01)))
        await stage.at_random_points(stage.runs, within=0.4)
        node = await stage.node_of(stage.rng.choice(stage.runs))
        node.kill()
        try:
            await stage.cluster.replaced(node)
            stage.lifted()
            await stage.all_finished(may_lose=True)
        finally:
            await stage.cluster.restart(node)


async def temporal_away(stage: Stage, temporal: TemporalServer, *, seconds: float) -> None:
    """The Temporal server is killed in mid-stream, and goes on from its database some time later."""
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(tokens=300)))
        await stage.at_random_points(stage.runs)
        await temporal.kill()
        await asyncio.sleep(seconds)
        await temporal.start()
        stage.lifted()
        await stage.all_finished()


async def temporal_restarted(stage: Stage, temporal: TemporalServer) -> None:
    """Temporal restarts."""
    await temporal_away(stage, temporal, seconds=stage.rng.uniform(0.0, 0.5))


async def temporal_outage(stage: Stage, temporal: TemporalServer) -> None:
    """Temporal is away for 30 s."""
    await temporal_away(stage, temporal, seconds=30.0 if stage.long else 1.0)


async def viewer_killed(stage: Stage) -> None:
    """The viewer dies again and again, and goes on from its last cursor."""
    async with stage.worker():
        await stage.start_all(killed_every=stage.rng.randrange(1, 40))
        await stage.all_finished()


async def viewer_first(stage: Stage) -> None:
    """The viewer comes before the workflow."""
    async with stage.worker():
        await stage.start_all(first_viewer=True)
        await stage.all_finished()


async def continued(stage: Stage) -> None:
    """The workflow continues as new, five times."""
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(tokens=40), continues=5))
        await stage.all_finished()


async def workflow_reset(stage: Stage) -> None:
    """An operator resets the workflow to its beginning while its activity speaks."""

    async def reset(run: Run) -> None:
        await run.heard_some(stage.rng)
        await stage.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=stage.client.namespace,
                workflow_execution=_execution(run),
                reason="fault",
                workflow_task_finish_event_id=3,
                request_id=uuid.uuid4().hex,
            )
        )
        run.handle = stage.client.get_workflow_handle(run.handle.id)
        run.lifted()

    async with stage.worker():
        runs = await stage.start_all()
        await asyncio.gather(*map(reset, runs))
        await stage.all_finished()
        stage.assert_retried()


async def stopped(stage: Stage, how: str) -> None:
    """Somebody stops the workflow in mid-stream: what was said until then stays."""

    async def stop(run: Run) -> None:
        await run.heard_some(stage.rng)
        await (run.handle.terminate("fault") if how == "terminated" else run.handle.cancel())
        run.lifted()

    async with stage.worker():
        runs = await stage.start_all()
        await asyncio.gather(*map(stop, runs))
        await stage.all_finished(how)


async def timed_out(stage: Stage) -> None:
    """The workflow's own time is over while its activity speaks."""
    async with stage.worker():
        await stage.start_all(
            lambda: Script(Speech(tokens=400)),
            execution_timeout=timedelta(seconds=stage.rng.uniform(1.0, 1.5)),
        )
        await stage.all_finished("timed_out")


async def trimmed(stage: Stage) -> None:
    """The stream is short, the speech long, and the viewer slow: it is overtaken."""
    # A viewer's queue holds 1,000 entries: it has to be behind by more than that. A worker that is full would
    # put more tokens into one.
    async with stage.worker(stream_maxlen=100):
        await stage.start_all(lambda: Script(Speech(tokens=2_500, delay=0.003)), pause=0.05)
        await asyncio.gather(*(run.handle.result() for run in stage.runs))
        for run in stage.runs:
            run.viewer.hurry()
        stage.lifted()
        await stage.all_finished(may_lose=True)
        assert all(run.verdict.told for run in stage.runs), "nobody was overtaken"


async def many_calls(stage: Stage) -> None:
    """One activity calls 64 models at once.

    15 such activities run side by side, 48,000 tokens a second in one process: LangChain alone takes most of
    two cores for that. Beside other load the loop is late by seconds, and with a heartbeat timeout of 2 s
    attempts then time out on any road, for good: each retry adds to the load of those that do not know yet.
    """
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(calls=64, tokens=40, delay=0.02), heartbeat=10.0))
        await stage.all_finished()


FAULTS = [
    Fault("worker: SIGKILL in mid-stream", worker_killed),
    Fault("worker: lost for good", worker_lost),
    Fault("worker: graceful shutdown", worker_shut_down),
    Fault("zombie writes beside its successor", zombie),
    Fault("activity reset", activity_reset),
    Fault("Redis: SIGKILL, restarted empty", redis_killed),
    Fault("Redis: away when the run ends", redis_away_at_the_end),
    Fault("Redis: SIGSTOP 10 s", redis_stopped),
    Fault("Redis: replies dropped", partial(network_bad, manners="drops replies")),
    Fault("Redis: OOM", out_of_memory),
    Fault("Redis: reset at every command", partial(network_bad, manners="resets")),
    Fault("Redis Cluster: a node dies", cluster_failover, cluster=True),
    Fault("Temporal: restart", temporal_restarted, temporal=True),
    Fault("Temporal: away for 30 s", temporal_outage, temporal=True),
    Fault("viewer killed and resumed", viewer_killed),
    Fault("viewer before the workflow", viewer_first),
    Fault("continue-as-new x 5", continued),
    Fault("workflow reset", workflow_reset),
    Fault("terminate", partial(stopped, how="terminated")),
    Fault("cancel", partial(stopped, how="canceled")),
    Fault("workflow timeout", timed_out),
    Fault("trimmed under a slow viewer", trimmed),
    Fault("worker clocks off by +-1 h", partial(worker_killed, skew=3_600.0)),
    Fault("64 calls in one activity", many_calls),
    Fault("Redis: restored from an older dump", redis_faults.restored),
    Fault("Redis: restored under who resumes", partial(redis_faults.restored, killed_every=10)),
    Fault("Redis: a replica lags behind", redis_faults.lagging_replica),
    Fault("Redis: a replica lags at the end", partial(redis_faults.lagging_replica, to_the_end=True)),
    Fault("Redis: ACL reload", redis_faults.acl_reloaded),
    Fault("Redis: quota burst", redis_faults.quota_burst),
    Fault("Redis: a pause beyond the TTL", redis_faults.paused_beyond_ttl),
    Fault("Redis: FLUSHALL between tokens", redis_faults.flushed),
    Fault("Redis: half-open connections", redis_faults.half_open),
    Fault("Redis: no more connections", redis_faults.connections_refused),
    Fault("Redis: demoted for a moment", redis_faults.demoted),
    Fault("Redis: BUSY with a script", redis_faults.busy),
    Fault("Redis: 15 MB over 2 MB/s", redis_faults.slow_link),
    Fault("Redis: away during an activity", redis_faults.away_during_an_activity),
    Fault("Redis: away, heartbeats stand in", redis_faults.away_with_fallback),
    Fault("Redis: away, who resumes", partial(redis_faults.away_with_fallback, killed_every=40)),
    *(
        Fault(f"Redis: evicts by {policy}", partial(redis_faults.evicted, policy=policy))
        for policy in (
            *("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random"),
            *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
        )
    ),
    Fault("Redis Cluster: a slot moves", redis_faults.slot_migrated, cluster=True),
    Fault("codec: key service down", redis_faults.key_service_down),
    Fault("workers without the interceptor", redis_faults.workers_without),
    *(
        Fault(f"heartbeats: {name}", strike, temporal=strike is temporal_restarted, heartbeats=True)
        for name, strike in (
            ("worker SIGKILL", worker_killed),
            ("worker SIGKILL, no retry", worker_lost),
            ("graceful shutdown", worker_shut_down),
            ("zombie", zombie),
            ("activity reset", activity_reset),
            ("workflow reset", workflow_reset),
            ("Temporal restart", temporal_restarted),
            ("viewer resumes", viewer_killed),
            ("viewer resumes, shutdown", partial(worker_shut_down, killed_every=10)),
            ("viewer first", viewer_first),
            ("continue-as-new x 5", continued),
            ("terminate", partial(stopped, how="terminated")),
            ("cancel", partial(stopped, how="canceled")),
            ("some without interceptor", redis_faults.workers_without),
            ("64 calls in one activity", many_calls),
        )
    ),
]


def _execution(run: Run) -> WorkflowExecution:
    return WorkflowExecution(workflow_id=run.handle.id, run_id=run.handle.first_execution_run_id)
