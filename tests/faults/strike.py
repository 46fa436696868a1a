"""One strike of one fault, on a stage of its own."""

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from temporalio.client import Client

from tests.faults.faults import Fault
from tests.faults.stage import Stage
from tests.faults.temporal_server import TemporalServer
from tests.faults.verdict import Verdict


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


async def strike(fault: Fault, client: Client, seed: int, *, width: int = 1, long: bool = False) -> Outcome:
    """Let a fault happen once to `width` runs; a seed names all random choices."""
    async with AsyncExitStack() as stack:
        arguments = []
        if fault.temporal:
            temporal = TemporalServer()
            stack.push_async_callback(temporal.close)
            client = await temporal.start()
            arguments.append(temporal)
        stage = await stack.enter_async_context(Stage(client, random.Random(seed), width=width, long=long))
        await fault.strike(stage, *arguments)
        return Outcome(await stage.verdict(), len(stage.runs), max(run.recovery for run in stage.runs))
