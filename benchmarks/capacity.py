"""The capacity model: from what a token costs to how many processes a load needs. No clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Figure

FULL = 0.7
"""Of a core: what a process may take, so that delays stay those of a machine that is not full."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many streams, so many viewers of each, so many tokens a second in each."""

    streams: int
    viewers: int
    rate: float

    @property
    def frames(self) -> float:
        """Frames a second, where each token is one: the most that they can be."""
        return self.streams * self.rate

    @property
    def events(self) -> float:
        """Events a second, of all viewers."""
        return self.frames * self.viewers


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of CPU: of a process for a stream that is open for a second, for a frame, for an event."""

    stream: float
    frame: float
    event: float = 0.0

    @classmethod
    def of(cls, measured: Sequence[tuple[Load, float]]) -> Costs:
        """Solve them from the shares of a core that three loads took.

        Args:
            measured: One without tokens; one with a viewer for each stream; one with several.
        """
        (idle, nothing), (one, lone), (several, all_of_them) = measured
        stream = nothing / idle.streams
        event = max(0.0, (all_of_them - lone) / (several.events - one.events))
        frame = max(0.0, (lone - stream * one.streams - event * one.events) / one.frames)
        return cls(stream, frame, event)

    def share(self, load: Load) -> float:
        """Return what share of a core a load takes."""
        return self.stream * load.streams + self.frame * load.frames + self.event * load.events


@dataclass(frozen=True, slots=True)
class Example:
    """A load by a name, and for how many seconds a stream is kept behind its last token."""

    name: str
    load: Load
    ttl: int


EXAMPLES = (
    Example("a team", Load(streams=20, viewers=2, rate=50), ttl=3_600),
    Example("a product", Load(streams=1_000, viewers=2, rate=50), ttl=3_600),
    Example("a million viewers", Load(streams=50_000, viewers=1, rate=50), ttl=300),
)


def table(figures: Sequence[Figure]) -> str:
    """Return what the examples need, by the figures of a run."""
    value = {figure.name: figure.value for figure in figures}
    columns = [_needs(example, value) for example in EXAMPLES]
    names = [example.name for example in EXAMPLES]
    rows = [f"| | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
    rows += [f"| {what} | {' | '.join(column[what] for column in columns)} |" for what in columns[0]]
    return "\n".join(rows)


def _needs(example: Example, value: Mapping[str, float]) -> dict[str, str]:
    load = example.load
    langchain, ours = value["capture.ainvoke.noop"], value["steps.100.worker"]
    reading = load.frames * value["steps.100.reader"] + (load.events - load.frames) * _event(value)
    nodes = load.frames * value["load.cpu.redis"]
    if nodes > FULL * 1e6:  # a cluster, which is polled
        reading += load.streams * value["scale.cluster.reader.stream"]
    stored = load.frames * example.ttl * value["stored.tokens_1.bytes"] / 1_000
    return {
        "streams at work": f"{load.streams:,}",
        "tokens a second": f"{load.frames:,.0f}",
        "events a second, of all viewers": f"{load.events:,.0f}",
        "worker processes": _processes(load.frames * (langchain + ours)),
        "of which LangChain's own part": _processes(load.frames * langchain),
        "Redis nodes with slots": _processes(nodes),
        "reading processes": _processes(reading),
        "kept for": f"{example.ttl:,} s",
        "memory of Redis": f"{stored / 2**30:,.1f} GiB",
    }


def _event(value: Mapping[str, float]) -> float:
    """Return what one more viewer of a stream costs for each token."""
    return value["scale.server.reader.event"]


def _processes(micros: float) -> str:
    """Return how many processes take so many microseconds of CPU a second."""
    return f"{math.ceil(micros / 1e6 / FULL):,}"
