"""Each fault once. `make faults` does the same at length, and prints a table."""

import asyncio
import random

import pytest

from tests.faults.faults import FAULTS
from tests.faults.strike import strike

AT_ONCE = 5  # they mostly wait


@pytest.fixture(scope="module")
async def outcomes(client):
    """Every fault, struck once; by name, what it came to."""
    turn = asyncio.Semaphore(AT_ONCE)
    seed = random.randrange(2**32)

    async def one(fault):
        async with turn:
            try:
                return await strike(fault, client, seed)
            except Exception as error:  # noqa: BLE001 - a test of its own will raise it
                return error

    struck = await asyncio.gather(*map(one, FAULTS))
    return {"seed": seed, **{fault.name: came for fault, came in zip(FAULTS, struck, strict=True)}}


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_a_viewer_keeps_every_promise_through(outcomes, name):
    """Whatever happens: each token once and in order, or a gap; the true end; and no viewer hangs."""
    outcome = outcomes[name]

    if isinstance(outcome, Exception):
        raise outcome
    assert outcome.verdict.is_good, (outcomes["seed"], outcome)
    assert outcome.verdict.pieces
