"""The short form of `make fuzz`: what others store, keep or return reaches no reader as a foreign error."""

import pytest

from tests.fuzz.targets import Fuzz

INPUTS = 5_000


@pytest.mark.parametrize("seed", [20_261_125, 7])
def test_no_input_of_others_lets_something_foreign_out(seed):
    """Entries, cursors and results, changed at random: each is read, refused, or a gap."""
    report = Fuzz(seed).run(INPUTS)

    assert report.inputs >= INPUTS
    assert report.events > INPUTS // 4  # many of them were read
    assert report.refused > INPUTS // 50  # and not few refused
    assert report.seconds < 0.5, report
