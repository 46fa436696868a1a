"""Measure the budgets: one JSON object a line, then a table on stderr; exits 1 if one is missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module

from benchmarks.measure import Figure, Size

# Name: module and function. Imported when run: this file is imported by the child processes too, and
# readers must not load LangChain.
BENCHMARKS = {
    "capture": ("capture", "figures"),
    "telemetry": ("telemetry", "figures"),
    "codec": ("codec", "figures"),
    "delivery": ("delivery", "figures"),
    "load": ("load", "figures"),
    "calls": ("load", "call_figures"),
    "fanout": ("audience", "fanout_figures"),
    "crowd": ("audience", "crowd_figures"),
    "subscribers": ("audience", "subscriber_figures"),
    "memory": ("memory", "figures"),
    "history": ("history", "figures"),
    "growth": ("growth", "figures"),
    "costs": ("costs", "figures"),
    "peers": ("delivery", "peer_figures"),
    "workflow_streams": ("peers.workflow_streams", "figures"),
}


async def measure(names: list[str], size: Size) -> list[Figure]:
    """Run benchmarks and print their figures as they come."""
    figures: list[Figure] = []
    for name in names:
        module, function = BENCHMARKS[name]
        benchmark: Callable[[Size], AsyncIterator[Figure]]
        benchmark = getattr(import_module(f"benchmarks.{module}"), function)
        async for figure in benchmark(size):
            print(figure.line(), flush=True)
            figures.append(figure)
    return figures


def table(figures: list[Figure]) -> str:
    """Return the figures for people."""
    marks = {None: "", True: "ok", False: "MISSED"}
    rows = [
        (
            figure.name,
            f"{figure.value:,.2f}",
            figure.unit,
            "" if figure.budget is None else f"{figure.budget:g}",
            marks[figure.ok],
        )
        for figure in figures
    ]
    rows.insert(0, ("", "value", "unit", "budget", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    align = ("<", ">", "<", ">", "<")
    cells = [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in cells)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all"
    )
    names: list[str] = parser.parse_args().names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    figures = asyncio.run(measure(names or list(BENCHMARKS), Size()))
    print(f"\n{table(figures)}", file=sys.stderr)
    return int(any(figure.ok is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
