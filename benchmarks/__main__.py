"""Measure the budgets: one JSON object a line, then a table on stderr; exits 1 if one is missed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module

from benchmarks import report
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
    "joins": ("joins", "figures"),
    "screens": ("screens", "figures"),
    "idle": ("screens", "idle_figures"),
    "resume": ("resuming", "figures"),
    "memory": ("memory", "figures"),
    "history": ("history", "figures"),
    "heartbeats": ("heartbeats", "figures"),
    "growth": ("growth", "figures"),
    "costs": ("costs", "figures"),
    "steps": ("steps", "figures"),
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


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--write", action="store_true", help="keep the run, and renew the documents from it")
    parser.add_argument("--draw", action="store_true", help="renew the documents from the run that was kept")
    parser.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores",
        help="how the documents call this machine (%(default)s)",
    )
    options = parser.parse_args()
    names: list[str] = options.names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if options.write and names:
        parser.error("--write is for a whole run: its figures belong together")
    if options.draw:
        _document(*report.load())
        return 0
    figures = asyncio.run(measure(names or list(BENCHMARKS), Size()))
    print(f"\n{report.table(figures)}", file=sys.stderr)
    if options.write:
        report.save(report.Machine.here(options.machine), figures)
        _document(*report.load())  # as it was kept: rounded once
    return int(any(figure.ok is False for figure in figures))


def _document(machine: report.Machine, figures: list[Figure]) -> None:
    """Write the tables of the page, and draw the pictures."""
    text = report.PAGE.read_text(encoding="utf-8")
    report.PAGE.write_text(report.page(text, machine, figures), encoding="utf-8")
    import_module("benchmarks.plots").draw(figures, report.DATA.parent)


if __name__ == "__main__":
    sys.exit(main())
