"""Each fault once. `make faults` does the same at length, and prints a table."""

import asyncio
import random

import pytest

from tests.faults.faults import FAULTS
from tests.faults.strike import strike

pytestmark = pytest.mark.timeout(180)  # the first test waits for all strikes

AT_ONCE = 6  # they mostly wait


@pytest.fixture(scope="module")
async def outcomes(client, request):
    """Every fault that is tested, struck once; by name, what it came to."""
    tested = {item.callspec.params["name"] for item in request.session.items if item.module is request.module}
    faults = [fault for fault in FAULTS if fault.name in tested]
    turn = asyncio.Semaphore(AT_ONCE)
    seed = random.randrange(2**32)

    async def one(fault):
        async with turn:
            try:
                return await strike(fault, client, seed)
            except Exception as error:  # noqa: BLE001 - a test of its own will raise it
                return error

    struck = await asyncio.gather(*map(one, faults))
    return {"seed": seed, **{fault.name: came for fault, came in zip(faults, struck, strict=True)}}


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_a_viewer_keeps_every_promise_through(outcomes, name):
    """Whatever happens: each token once and in order, or a gap; the true end; and no viewer hangs."""
    outcome = outcomes[name]

    if isinstance(outcome, Exception):
        raise outcome
    assert outcome.verdict.is_good, (outcomes["seed"], outcome)
    assert outcome.verdict.pieces
