"""What all benchmarks share: figures, sizes, percentiles, made-up attempts, and processes of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import multiprocessing
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from statistics import median
from typing import Any, TypeVar

from temporal_token_interceptor.events import Origin

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, and the bound it has to keep, if there is one.

    Attributes:
        name: Its benchmark, and what of it.
        value: The value: of several rounds, their median.
        unit: The unit.
        budget: The bound.
        low: The least that the median may be, where there were several rounds; see `interval`.
        high: The most.
    """

    name: str
    value: float
    unit: str
    budget: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_rounds(cls, name: str, values: Iterable[float], unit: str, budget: float | None = None) -> Figure:
        """Return the median of rounds, and how sure it is."""
        values = list(values)
        return cls(name, median(values), unit, budget, *interval(values))

    @property
    def ok(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        return None if self.budget is None else self.value <= self.budget

    @property
    def is_sure(self) -> bool:
        """Whether the budget is kept, or missed, at both ends of the interval."""
        ends = [end for end in (self.low, self.high) if end is not None]
        return self.budget is None or all((end <= self.budget) is self.ok for end in ends)

    def line(self) -> str:
        """Return the figure as a JSON object."""
        ends = {"low": self.low, "high": self.high}
        facts = {name: fact for name, fact in asdict(self).items() if name not in ends}
        rounded = {name: round(end, 3) for name, end in ends.items() if end is not None}
        return json.dumps({**facts, "value": round(self.value, 3), **rounded, "ok": self.ok})

    @classmethod
    def of(cls, line: str) -> Figure:
        """Read a figure back."""
        facts: dict[str, Any] = json.loads(line)
        del facts["ok"]
        return cls(**facts)


@dataclass(frozen=True, slots=True)
class Size:
    """How much a benchmark does: all of it, or a share, which shows that it runs and measures nothing.

    Attributes:
        share: Of all.
        is_long: Whether what shows growth goes on to its far end, which takes minutes.
    """

    share: float = 1.0
    is_long: bool = False

    def count(self, full: int, least: int = 1) -> int:
        """Return how many there are of what are `full` in a whole run."""
        return max(least, round(full * self.share))

    def seconds(self, full: float) -> float:
        """Return how long something goes on that takes `full` seconds in a whole run."""
        return max(0.1, full * self.share)

    @property
    def lead(self) -> float:
        """Seconds from a plan to its first token, so that readers are there and waiting."""
        return self.seconds(1.0)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed: nearest rank, nothing interpolated."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def interval(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Return between what the median of ever more rounds lies, at 95 % confidence or more.

    By the ranks of the values alone: each round is above the true median or below it, as a coin falls.
    Fewer than six rounds cannot be so sure: of those it is the least and the most, which hold it in 75 % of
    the cases where there are three, and in 94 % where there are five. None for a single one.
    """
    ranked = sorted(values)
    count = len(ranked)
    if count < 2:
        return None, None
    left_out = 0
    while 2 * sum(math.comb(count, below) for below in range(left_out + 1)) <= 0.05 * 2**count:
        left_out += 1
    place = max(0, left_out - 1)
    return ranked[place], ranked[count - 1 - place]


def stamp() -> str:
    """Return a token that has the time when it was made, by the monotonic clock of all processes here."""
    return f"{time.monotonic():.6f}"


def age(token: str | bytes) -> float:
    """Return how many milliseconds ago a token was made."""
    return (time.monotonic() - float(token)) * 1e3


def origin(activity_id: str = "1", *, workflow_id: str = "", run_id: str = "") -> Origin:
    """Return a first attempt, by default in a workflow run of its own."""
    unique = uuid.uuid4().hex
    return Origin(
        namespace="default",
        workflow_id=workflow_id or f"bench-{unique}",
        workflow_type="Bench",
        run_id=run_id or str(uuid.uuid4()),
        activity_id=activity_id,
        activity_type="bench",
        attempt_id=unique[:16],
        started_time=datetime.now(UTC),
    )


class Child:
    """A process beside this one: workers and readers do not share an interpreter in life either."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Run a function of a module in the process; it has to bound its own time."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)


@asynccontextmanager
async def child(*modules: str, frozen: bool = True) -> AsyncIterator[Child]:
    """Yield a process that is ready to run functions of some modules, so that nothing measured pays for that.

    Args:
        *modules: What it imports.
        frozen: Whether it then sets the garbage collector, as docs/operations.md advises.
    """
    # Not forked: a fork would inherit connections, threads and half of a running loop.
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        process = Child(pool)
        await process.run(_get_ready, modules, frozen)
        yield process
    finally:
        pool.shutdown()


def _get_ready(modules: Sequence[str], frozen: bool) -> None:  # noqa: FBT001 - handed over by position
    for module in modules:
        import_module(module)
    if frozen:
        collect_seldom()


def collect_seldom() -> None:
    """Set the garbage collector as docs/operations.md advises workers and readers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 1_000)
