"""docs/where.md: a maintainer finds the files that a change touches."""

import re

import pytest

from tests.support.pages import ROOT

PAGE = (ROOT / "docs" / "where.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "`" in line
]
_FILE = re.compile(r"`([\w./]+\.\w+)`")


def test_the_usual_changes_are_there():
    """The page has the changes that maintainers make, at least twenty."""
    assert len(ROWS) >= 20
    assert len({change for change, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_files_of_a_change_exist(row):
    """A file that is renamed is renamed here, too; a change without a test or a document is none."""
    _, code, beside = row
    package = ROOT / "temporal_token_interceptor"
    code_files = [(ROOT if name.startswith("tests/") else package) / name for name in _FILE.findall(code)]
    other_files = [ROOT / name for name in _FILE.findall(beside)]

    assert code_files
    assert other_files
    assert [str(file) for file in code_files + other_files if not file.is_file()] == []


def test_a_new_kind_of_event_touches_at_most_six_files():
    """The union, the wire form and the public names know an event; nothing else has to."""
    [code] = [code for change, code, _ in ROWS if change == "A new kind of event"]

    assert len(_FILE.findall(code)) <= 6


def named_in(event: str) -> set[str]:
    """The files of the package that have to name an event: not what shows events and may leave a kind out.

    Nor the buffer, which names what it must not drop.
    """
    package = ROOT / "temporal_token_interceptor"
    names = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(rf"\b{event}\b", file.read_text(encoding="utf-8"))
    }
    return {name for name in names if not name.startswith(("views/", "gateway/", "cli/"))} - {
        "capture/buffer.py"
    }


def test_the_page_names_every_file_that_a_kind_of_event_is_named_in():
    """`NodeStarted` stands for all: where it has to be named, another kind has to be named as well."""
    [code] = [code for change, code, _ in ROWS if change == "A new kind of event"]

    assert named_in("NodeStarted") == set(_FILE.findall(code))


def test_a_kind_that_was_added_later_is_named_in_as_many_files():
    """Retrievers came later: one file of `capture/` is theirs, the rest is what the page says."""
    [code] = [code for change, code, _ in ROWS if change == "A new kind of event"]

    there = {name for name in _FILE.findall(code) if not name.startswith("capture/")}
    assert named_in("RetrieverStarted") == there | {"capture/retriever_observer.py"}
