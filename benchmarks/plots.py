"""Draws the pictures in docs/assets from a run's figures: `python -m benchmarks --draw`.

Each picture has a ground of its own, so that it reads alike on light and dark pages, and carries the hash of
the figures that it was drawn from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmarks import report
from benchmarks.measure import Figure

PICTURES = ("delay-over-load.svg", "peers.svg", "cost-over-length.svg", "cost-over-number.svg")

_GROUND, _INK, _FAINT = "#fbfaf6", "#22252b", "#c9c6bd"
_OURS, _PLAIN, _OLD, _OTHER = "#0b7a75", "#5b6472", "#c4572e", "#8a4fa3"

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.facecolor": _GROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "figure.constrained_layout.w_pad": 0.14,
    "figure.constrained_layout.h_pad": 0.14,
    "figure.facecolor": _GROUND,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "benchmarks",  # else ids are random, and a picture differs from run to run
    "svg.fonttype": "path",
}

_NAMES = {
    "ours": "this package",
    "raw": "XADD for each token, awaited",
    "pipelined": "XADDs in pipelines",
    "coalesced": "one XADD each 50 ms",
    "predecessor": "a task and an XADD for each token",
    "agentex": "agentex-sdk's windows of 50 ms",
    "workflow_streams.quick": "workflow_streams, batch 100 ms",
    "workflow_streams.default": "workflow_streams, defaults",
}

Values = Mapping[str, float]


def fingerprint(figures: Sequence[Figure]) -> str:
    """Return what a picture says of the figures that it was drawn from."""
    lines = "\n".join(figure.line() for figure in figures)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def draw(figures: Sequence[Figure], folder: Path) -> None:
    """Draw all pictures whose figures are there."""
    values = {figure.name: figure.value for figure in figures}
    for name, picture in zip(
        PICTURES, (_delay_over_load, _peers, _cost_over_length, _cost_over_number), strict=True
    ):
        with mpl.rc_context(_STYLE):
            drawing = Drawing(layout="constrained")
            picture(drawing, values)
            drawn = StringIO()
            about = {"Date": None, "Description": fingerprint(figures), "Title": name}
            drawing.savefig(drawn, format="svg", metadata=about)
        # Without the blanks that matplotlib leaves at the ends of lines: git takes them for mistakes.
        lines = "".join(f"{line.rstrip()}\n" for line in drawn.getvalue().splitlines())
        (folder / name).write_text(lines, encoding="utf-8")


def _series(values: Values, prefix: str, suffix: str = "") -> tuple[list[int], list[float]]:
    """Return the points of a series: the number in the name of each figure, and its value."""
    points = [
        (int(number), value)
        for name, value in values.items()
        if name.startswith(prefix) and name.endswith(suffix)
        if (number := name[len(prefix) : len(name) - len(suffix)]).isdigit()
    ]
    return [number for number, _ in points], [value for _, value in points]


def _delay_over_load(drawing: Drawing, values: Values) -> None:
    drawing.set_size_inches(7.8, 4.0)
    with _axes(drawing.subplots()) as axes:
        for road, colour in (("ours", _OURS), ("raw", _PLAIN), ("predecessor", _OLD)):
            calls, delay = _series(values, f"calls.{road}.", ".p99")
            axes.plot(calls, delay, "o-", color=colour, label=_NAMES[road], linewidth=2, markersize=4.5)
        before, calls_before = report.load(report.BEFORE)
        old = {figure.name: figure.value for figure in calls_before}
        calls, delay = _series(old, "calls.ours.", ".p99")
        if delay != _series(values, "calls.ours.", ".p99")[1]:
            label = f"this package on {before.date}, {before.cores}"
            axes.plot(calls, delay, "--", color=_OURS, label=label, linewidth=1.4)
        axes.axhline(100, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate("100 ms", (0.995, 100), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set(yscale="log", xlabel="concurrent model calls on one worker, 50 tokens a second each")
        axes.set_ylabel("p99 delay, ms")
        axes.set_title("From the model's callback to the reader, until the delay passes 100 ms")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False, loc="lower right")


def _peers(drawing: Drawing, values: Values) -> None:
    drawing.set_size_inches(9.4, 3.8)
    left, right = drawing.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    colour = dict(zip(_NAMES, [_OURS, *[_PLAIN] * 3, *[_OLD] * 2, *[_OTHER] * 2], strict=True))
    roads = [road for road in _NAMES if f"peers.delay.{road}.p50" in values]
    colours = [colour[road] for road in roads]
    with _axes(left) as axes:
        p50, p99 = (
            [values.get(f"peers.delay.{road}.{share}", 0) for road in roads] for share in ("p50", "p99")
        )
        axes.barh(roads, p50, color=colours, height=0.62)
        axes.hlines(roads, p50, p99, color=colours, linewidth=1.5)
        axes.scatter(p99, roads, color=colours, s=22, zorder=3)
        for road, value in zip(roads, p99, strict=True):
            label = f"{_short(values.get(f'peers.delay.{road}.p50', 0))} / {_short(value)}"
            axes.annotate(label, (value, road), xytext=(7, 0), textcoords="offset points", va="center")
        axes.set(xscale="log", xlim=(0.3, 60_000))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_yticks(roads, [_NAMES[road] for road in roads])
        axes.invert_yaxis()
        axes.set_title("delay of a token, ms: p50 (bar) / p99 (dot)")
    with _axes(right) as axes:
        events = [values.get(f"peers.history.{road}.events", 0.0) for road in roads]
        axes.barh(roads, events, color=colours, height=0.62)
        for road, value in zip(roads, events, strict=True):
            axes.annotate(
                f"{value:,.0f}", (value, road), xytext=(6, 0), textcoords="offset points", va="center"
            )
        axes.set_xlim(0, max(1.0, *events) * 1.25)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_title("history events, 1,000 tokens")


def _cost_over_length(drawing: Drawing, values: Values) -> None:
    drawing.set_size_inches(9.6, 3.0)
    parts = (
        ("delay", "delay p50, ms", _OURS),
        ("cpu.worker", "worker CPU, us a token", _OLD),
        ("cpu.reader", "reader CPU, us a token", _OTHER),
        ("redis", "Redis, KiB / 1,000 tokens", _PLAIN),
    )
    for part, (name, title, colour) in zip(drawing.subplots(1, len(parts)), parts, strict=True):
        with _axes(part) as axes:
            said, value = _series(values, f"growth.{name}.")
            axes.plot(
                [tokens / 1_000 for tokens in said], value, "o-", color=colour, linewidth=2, markersize=4
            )
            axes.set_ylim(0, max([1e-9, *value]) * 1.35)
            axes.set_title(title)
            axes.set_xlabel("thousand tokens said")


def _cost_over_number(drawing: Drawing, values: Values) -> None:
    """CPU of a token over the number of calls at once, and of an event over that of the readers of a run."""
    drawing.set_size_inches(7.8, 3.0)
    left, right = drawing.subplots(1, 2)
    with _axes(left) as axes:
        for side, colour in (("worker", _OURS), ("reader", _OTHER)):
            calls, cpu = _series(values, "steps.", f".{side}")
            axes.plot(calls, cpu, "o-", color=colour, label=side, linewidth=2, markersize=4.5)
        axes.set(xscale="log", xlabel="calls (runs) at once", ylim=(0, None))
        axes.set_title("CPU of a token that is a frame, us")
        axes.legend(frameon=False)
    with _axes(right) as axes:
        readers, cpu = _series(values, "subscribers.", ".cpu")
        if readers and readers[-1] < 1_000:
            readers, cpu = [*readers, 1_000], [*cpu, values.get("fanout.cpu.reader", 0.0)]
        axes.plot(readers, cpu, "o-", color=_OTHER, linewidth=2)
        axes.set(xscale="log", xlabel="readers of one run", ylim=(0, None))
        axes.set_title("CPU of an event, us")
    for axes in (left, right):
        axes.xaxis.set_major_formatter("{x:,.0f}")


def _short(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


@contextmanager
def _axes(axes: Axes) -> Iterator[Axes]:
    """Yield axes with a faint grid behind what is drawn."""
    axes.grid(visible=True, color=_FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    yield axes
