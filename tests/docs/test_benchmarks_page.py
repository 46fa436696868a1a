"""The figures in docs/benchmarks.md, and its pictures, are those of one run: the one in docs/assets."""

import re
from importlib import import_module

import pytest

from benchmarks import report
from benchmarks.__main__ import BENCHMARKS
from benchmarks.measure import Figure, interval


def test_the_tables_are_those_of_the_kept_run():
    """If this fails: `python -m benchmarks --draw`, and no figure typed by hand."""
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")

        assert text == report.page(text, *report.load())


def test_the_page_shows_every_figure_that_has_a_budget():
    _, figures = report.load()
    text = report.PAGE.read_text(encoding="utf-8")

    judged = [figure.name for figure in figures if figure.budget is not None]
    missing = [name for name in judged if f"`{name}`" not in text]

    assert missing == []


def test_the_kept_run_is_a_whole_one():
    """Each benchmark is in it, so that nothing unpleasant was left out."""
    _, figures = report.load()

    in_peers = {"workflow_streams"}
    assert {figure.name.partition(".")[0] for figure in figures} == {*BENCHMARKS} - in_peers
    assert any("workflow_streams" in figure.name for figure in figures)


@pytest.fixture(scope="module")
def plots():
    """What draws. Imported here, because each process of the tests collects this file, and one runs it."""
    return import_module("benchmarks.plots")


def test_each_picture_was_drawn_from_the_kept_run(plots):
    """If this fails: `python -m benchmarks --draw`."""
    _, figures = report.load()
    written = plots.fingerprint(figures)

    others = [
        picture
        for picture in plots.PICTURES
        if written not in (report.DATA.parent / picture).read_text(encoding="utf-8")
    ]

    assert len(plots.PICTURES) == 4
    assert others == []


def test_pictures_are_the_same_each_time(plots, tmp_path):
    _, figures = report.load()

    for folder in ("once", "again"):
        (tmp_path / folder).mkdir()
        plots.draw(figures, tmp_path / folder)

    for picture in plots.PICTURES:
        assert (tmp_path / "once" / picture).read_bytes() == (tmp_path / "again" / picture).read_bytes()


def test_a_missed_budget_shows():
    """A table says so in the terminal and in the page."""
    machine, _ = report.load()
    missed = [Figure("load.p99", 120.5, "ms", 100.0)]

    written = report.page("<!-- figures: load -->\nold\n<!-- end -->", machine, missed)

    assert "MISSED" in report.table(missed)
    assert re.search(r"\| `load.p99` \| 120.50 \|  \| ms \| 100 \| MISSED \|", written)
    assert "old" not in written


def test_a_verdict_that_rounds_do_not_agree_on_shows():
    """The median decides; where the budget lies within the interval, that is not sure."""
    figures = [
        Figure.of_rounds("load.p99", rounds, "ms", 100.0)
        for rounds in ([90.0, 95.0, 120.0], [90.0, 120.0, 130.0], [80.0, 90.0, 95.0], [101.0, 102.0])
    ]

    rows = report.table(figures).splitlines()[1:]

    assert [figure.ok for figure in figures] == [True, False, True, False]
    assert [row.endswith("not sure") for row in rows] == [True, True, False, False]
    assert "90.00 to 120.00" in rows[0]
    assert [Figure.of(figure.line()) for figure in figures] == figures


@pytest.mark.parametrize(("rounds", "left_out"), [(2, 0), (3, 0), (5, 0), (6, 0), (9, 1), (15, 3), (30, 9)])
def test_an_interval_holds_the_median_by_ranks(rounds, left_out):
    """As many values are left out at each end as a table of the sign test has for 95 %."""
    assert interval(range(rounds)) == (left_out, rounds - 1 - left_out)


def test_a_single_round_has_no_interval():
    assert interval([1.0]) == (None, None)


def test_the_table_of_heartbeats_beside_redis_is_that_of_the_kept_run():
    """docs/durable.md sums it up, by activities at once."""
    _, figures = report.load()
    found = {figure.name: figure.value for figure in figures}
    page = (report.PAGE.parent / "durable.md").read_text(encoding="utf-8")

    for count in (1, 10, 100):
        without, beside = f"heartbeats.{count}.temporal", f"heartbeats.{count}.redis"
        cells = [
            str(count),
            *(
                f"{found[f'{road}.p50']:,.0f} ms, {found[f'{road}.p99']:,.0f} ms"
                for road in (without, beside)
            ),
            f"{found[f'{without}.requests']:.0f}, {found[f'{beside}.requests']:.0f}",
            f"{found[f'{without}.cpu.temporal']:.0f} %, {found[f'{beside}.cpu.temporal']:.0f} % of a core",
        ]
        assert f"| {' | '.join(cells)} |" in page
