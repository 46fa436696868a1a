"""What a worker holds while Redis is away: measured, with more said than there is room for."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client, WorkflowExecutionStatus

from temporal_token_interceptor import AttemptStarted
from temporal_token_interceptor.capture.budget import Budget
from tests.faults.play import Script, Speech
from tests.faults.stage import Stage

BOUND = 2 * 1024 * 1024  # bytes; small, so that it is reached

# What the interpreter, Temporal and the frames in flight may take beside the buffers, in all.
REST = 32 * 1024 * 1024

# Seconds that Temporal gives an attempt, also without a heartbeat. So many at once make each other late, and
# an attempt that is given up begins again from its first word, as long as the outage was: it ends no sooner.
UNHURRIED = 300.0


async def measure_outage(client: Client, *, streams: int, seconds: float) -> bool:
    """Let activities speak through an outage; print what they held; return whether the bound was kept."""
    # Many short calls: LangChain itself keeps each chunk of a call until the call has ended.
    speech = Speech(tokens=40, delay=0.05, turns=int((seconds + 8) / 2))
    async with (
        Stage(client, random.Random(0), width=streams, long=True) as stage,
        stage.worker(max_buffered_bytes=BOUND) as interceptor,
    ):
        budget: Budget = interceptor._setup.budget
        runs = await stage.start_all(lambda: Script(speech, start_to_close=UNHURRIED, heartbeat=UNHURRIED))
        await asyncio.gather(*(run.viewer.heard(10) for run in runs))
        before = _resident()
        held, resident = 0, 0
        await stage.redis.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    held, resident = max(held, budget.leased), max(resident, _resident())
                    await asyncio.sleep(0.1)
        await stage.redis.start()
        stage.lifted()
        live = [(await run.handle.describe()).status for run in runs].count(WorkflowExecutionStatus.RUNNING)
        grown = resident - before
        print(
            f"\nRedis away for {seconds:g} s, {live} of {streams} streams live to its end, "
            f"bound {BOUND:,} bytes: held at most "
            f"{held:,}, process grew by {grown:,} (viewers included), {budget.dropped:,} pieces did not fit",
            flush=True,
        )
        await stage.all_finished(may_lose=True)
        verdict = await stage.verdict()
    retried = sum(
        isinstance(event, AttemptStarted) and event.supersedes is not None
        for run in runs
        for event in run.viewer.events
    )
    print(
        f"afterwards {budget.leased:,} held; retried {retried}, unreported {verdict.unreported}, "
        f"hung {verdict.hung}"
    )
    return held <= BOUND and budget.leased == 0 and grown < REST and verdict.is_good


def _resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
