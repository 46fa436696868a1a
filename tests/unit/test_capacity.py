"""The capacity model solves its inputs from three loads, and adds them up again."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import capacity
from benchmarks.capacity import EXAMPLES, Costs, Load
from benchmarks.measure import Figure

IDLE, ONE, SEVERAL = Load(200, 1, 0), Load(200, 1, 5), Load(200, 6, 5)
MICROS = st.floats(0, 1_000).map(lambda micros: micros / 1e6)


@given(MICROS, MICROS, MICROS)
def test_what_loads_took_gives_the_costs_that_they_were_made_of(stream, frame, event):
    """A model whose inputs are exact predicts exactly: what it is wrong by is not its arithmetic."""
    made_of = Costs(stream, frame, event)

    solved = Costs.of([(load, made_of.share(load)) for load in (IDLE, ONE, SEVERAL)])

    for load in (ONE, SEVERAL, Load(1_000, 5, 1)):
        assert solved.share(load) == pytest.approx(made_of.share(load), abs=1e-9)


def test_examples_grow_with_what_a_token_costs():
    names = ("capture.ainvoke.noop", "steps.100.worker", "steps.100.reader", "scale.server.reader.event")
    figures = [Figure(name, 20.0, "us") for name in (*names, "load.cpu.redis")]
    figures.append(Figure("scale.cluster.reader.stream", 500.0, "us"))
    figures.append(Figure("stored.tokens_1.bytes", 100_000, "bytes"))

    rows = dict(line.strip("| ").split(" | ", 1) for line in capacity.table(figures).splitlines()[2:])
    dearer = [replace(figure, value=figure.value * 10) for figure in figures]
    dear = dict(line.strip("| ").split(" | ", 1) for line in capacity.table(dearer).splitlines()[2:])

    assert [example.name for example in EXAMPLES] == ["a team", "a product", "a million viewers"]
    # 1,000 streams at 50 tokens a second, 40 us each: two seconds of CPU a second, at 70 % of a core.
    assert rows["worker processes"].split(" | ")[1] == "3"
    assert dear["worker processes"].split(" | ")[1] == "29"
    # 2,500,000 tokens a second, 20 us each, and 50,000 streams of a cluster, 500 us each.
    assert rows["reading processes"].split(" | ")[2] == str(math.ceil((50 + 25) / 0.7))
    # 50,000 tokens a second for an hour, 100 bytes each.
    assert rows["memory of Redis"].split(" | ")[1] == f"{50_000 * 3_600 * 100 / 2**30:,.1f} GiB"
