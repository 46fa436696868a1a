"""Measure the budgets: one JSON object a line, then a table on stderr; exits 1 if one is missed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
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
    "graphs": ("graphs", "figures"),
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
    "scale": ("scale", "figures"),
    "growth": ("growth", "figures"),
    "costs": ("costs", "figures"),
    "stored": ("stored", "figures"),
    "steps": ("steps", "figures"),
    "peers": ("delivery", "peer_figures"),
    "workflow_streams": ("peers.workflow_streams", "figures"),
}

# Of those, what a change of the road shows in first.
_QUICK = ["capture", "codec", "costs", "steps", "joins", "delivery", "memory"]
_QUICK_SHARE = 0.3

# What shows growth: 100,000 tokens of a run, 1,000 runs, 1,000 readers.
_LONG = ["growth", "steps", "subscribers"]


async def measure(names: list[str], size: Size) -> list[Figure]:
    """Run benchmarks and print their figures as they come."""
    figures: list[Figure] = []
    for name in names:
        module, function = BENCHMARKS[name]
        benchmark: Callable[[Size], AsyncIterator[Figure]]
        benchmark = getattr(import_module(f"benchmarks.{module}"), function)
        begun = time.monotonic()
        async for figure in benchmark(size):
            print(figure.line(), flush=True)
            figures.append(figure)
        print(f"{name} took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return figures


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument(
        "--write", action="store_true", help="keep the figures, and renew the documents from them"
    )
    parser.add_argument(
        "--quick", action="store_true", help="in two minutes: what has budgets of CPU, at a third of its size"
    )
    parser.add_argument(
        "--long", action="store_true", help=f"some minutes more: {', '.join(_LONG)} to their far ends"
    )
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
    if options.long and options.quick:
        parser.error("--long and --quick are different lengths")
    if options.write and options.quick:
        parser.error("--write is for benchmarks of their whole size")
    if options.draw:
        _document(*report.load())
        return 0
    size, default = Size(is_long=options.long), _LONG if options.long else list(BENCHMARKS)
    if options.quick:
        size, default = Size(_QUICK_SHARE), _QUICK
    figures = asyncio.run(measure(names or default, size))
    print(f"\n{report.table(figures)}", file=sys.stderr)
    if options.write:
        if names or options.long:
            machine, kept = report.load()
            report.save(machine, report.replaced(kept, figures))
        else:
            report.save(report.Machine.here(options.machine), figures)
        _document(*report.load())  # as it was kept: rounded once
    return int(any(figure.ok is False for figure in figures))


def _document(machine: report.Machine, figures: list[Figure]) -> None:
    """Write the tables of the pages, and draw the pictures."""
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(report.page(text, machine, figures), encoding="utf-8")
    import_module("benchmarks.plots").draw(figures, report.DATA.parent)


if __name__ == "__main__":
    sys.exit(main())
