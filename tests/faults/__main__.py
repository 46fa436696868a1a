"""`python -m tests.faults`: every fault at length, at random points, as a table; 1 if a promise broke."""

import argparse
import asyncio
import logging
import random
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext

from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from devservers import find_redis, temporal_server
from tests.faults.faults import FAULTS, Fault
from tests.faults.memory import measure_outage
from tests.faults.strike import Outcome, strike
from tests.faults.verdict import PROMISES, Verdict
from tests.support.cluster import Cluster, a_cluster

WIDTH = 5  # runs that one strike hits, each at another point
AT_ONCE = 3  # strikes; a busy machine makes worse weather, but also false timeouts


async def repeat(
    fault: Fault, client: Client, cluster: Cluster | None, seeds: Sequence[int], turn: asyncio.Semaphore
) -> bool:
    """Strike once for each seed; print one row of the table; return whether all promises were kept."""
    total, runs, recovery, broken = Verdict(), 0, 0.0, []

    async def one(seed: int) -> None:
        nonlocal total, runs, recovery
        # A cluster loses one node at a time; who waits for it keeps nobody else from striking.
        async with cluster.turn if fault.cluster and cluster else nullcontext(), turn:
            try:
                outcome: Outcome = await strike(fault, client, seed, width=WIDTH, long=True, cluster=cluster)
            except Exception as error:  # noqa: BLE001 - one strike, not the whole table
                broken.append(f"seed {seed}: {error!r}")
                return
        total += outcome.verdict
        runs += outcome.runs
        recovery = max(recovery, outcome.recovery)
        if not outcome.verdict.is_good:
            broken.append(f"seed {seed}: {outcome.verdict}")

    await asyncio.gather(*map(one, seeds))
    row = "".join(f"{getattr(total, column):>11}" for column in PROMISES)
    print(f"{fault.name:36}{runs:>5}{total.pieces:>9}{total.told:>8}{row}{recovery:>9.2f}", flush=True)
    for problem in broken:
        print("   ", problem, flush=True)
    return not broken


async def main(pattern: str, repetitions: int, seed: int) -> bool:
    """Run what matches; return whether all promises were kept."""
    chosen = [fault for fault in FAULTS if pattern.lower() in fault.name.lower()]
    rng = random.Random(seed)
    print(f"seed {seed}; {WIDTH} runs a strike, {AT_ONCE} strikes at once\n")
    header = "".join(f"{column.replace('_', ' '):>11}" for column in PROMISES)
    print(f"{'fault':36}{'runs':>5}{'pieces':>9}{'told':>8}{header}{'recovery':>9}")
    turn = asyncio.Semaphore(AT_ONCE)
    strikes = -(-repetitions // WIDTH)
    async with temporal_server() as environment, AsyncExitStack() as stack:
        cluster = None
        if any(fault.cluster for fault in chosen):
            cluster = await stack.enter_async_context(a_cluster(find_redis()))
        kept = await asyncio.gather(
            *(
                repeat(fault, environment.client, cluster, rng.sample(range(2**32), strikes), turn)
                for fault in chosen
            )
        )
        if pattern.lower() in "memory":
            kept.append(await measure_outage(environment.client, streams=100, seconds=60.0))
    print(
        "\ntold: missing because the fault takes it, and told by a gap. "
        "Recovery: the longest silence after it, in s."
    )
    return all(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="part of the faults' names, or `memory`")
    parser.add_argument("--repetitions", type=int, default=30, help="runs of each fault")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # faults are logged, and here there are hundreds; by the SDK, too
    warnings.simplefilter("ignore")
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))
    started = time.monotonic()
    good = asyncio.run(main(arguments.pattern, arguments.repetitions, arguments.seed))
    print(f"{'all promises kept' if good else 'PROMISES BROKEN'}, {time.monotonic() - started:.0f} s")
    sys.exit(not good)
