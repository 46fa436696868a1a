"""One strike of one fault, on a stage of its own."""

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from temporalio.client import Client

from devservers import find_redis
from tests.faults.faults import Fault
from tests.faults.stage import Stage
from tests.faults.temporal_server import TemporalServer
from tests.faults.verdict import Verdict
from tests.support.cluster import Cluster, a_cluster


@dataclass
class Outcome:
    """What a strike came to.

    Attributes:
        verdict: Over all its runs.
        runs: How many there were.
        recovery: The longest silence at a viewer after the fault was over, in seconds, in the worst run.
    """

    verdict: Verdict
    runs: int
    recovery: float


async def strike(
    fault: Fault,
    client: Client,
    seed: int,
    *,
    width: int = 1,
    long: bool = False,
    cluster: Cluster | None = None,
) -> Outcome:
    """Let a fault happen once to `width` runs; a seed names all random choices.

    A fault of a cluster happens to the one that is given, in its turn; else to one of its own.
    """
    async with AsyncExitStack() as stack:
        if not fault.cluster:
            cluster = None
        elif cluster is None:
            cluster = await stack.enter_async_context(a_cluster(find_redis()))
        arguments = []
        if fault.temporal:
            temporal = TemporalServer()
            stack.push_async_callback(temporal.close)
            client = await temporal.start()
            arguments.append(temporal)
        stage = await stack.enter_async_context(
            Stage(
                client,
                random.Random(seed),
                width=width,
                long=long,
                cluster=cluster,
                has_redis=not fault.heartbeats,
            )
        )
        await fault.strike(stage, *arguments)
        return Outcome(await stage.verdict(), len(stage.runs), max(run.recovery for run in stage.runs))
