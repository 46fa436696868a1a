"""What all benchmarks share: figures, percentiles, made-up attempts, and processes of their own."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TypeVar

from temporal_token_interceptor.events import Origin

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, and the bound it has to keep, if there is one."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        return None if self.budget is None else self.value <= self.budget

    def line(self) -> str:
        """Return the figure as a JSON object."""
        return json.dumps({**asdict(self), "value": round(self.value, 3), "ok": self.ok})


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed: nearest rank, nothing interpolated."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def stamp() -> str:
    """Return a token that tells when it was made, by the one monotonic clock of this machine's processes."""
    return f"{time.monotonic():.6f}"


def age(token: str | bytes) -> float:
    """Return how many milliseconds ago a token was made."""
    return (time.monotonic() - float(token)) * 1e3


def origin(activity_id: str = "1") -> Origin:
    """Return a first attempt in a workflow run of its own."""
    unique = uuid.uuid4().hex
    return Origin(
        namespace="default",
        workflow_id=f"bench-{unique}",
        workflow_type="Bench",
        run_id=str(uuid.uuid4()),
        activity_id=activity_id,
        activity_type="bench",
        attempt_id=unique[:16],
        started_time=datetime.now(UTC),
    )


LEAD = 1.5
"""Seconds from a plan to its first token, so that readers are there and waiting."""


class Child:
    """A process beside this one: workers and readers do not share an interpreter in life either."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Run a function of a module in the process; it has to bound its own time."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)


@asynccontextmanager
async def child() -> AsyncIterator[Child]:
    """Yield a process that has started, so that nothing measured pays for that."""
    # Not forked: a fork would inherit connections, threads and half of a running loop.
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        process = Child(pool)
        await process.run(time.monotonic)
        yield process
    finally:
        pool.shutdown()
