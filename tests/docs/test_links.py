"""Whoever follows a link arrives: between pages, to their headings, and from docstrings to pages."""

import re
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.pages import ROOT, anchors, links, name_of, pages

_PAGES = pages()
_MODULES = sorted(
    file
    for folder in ("temporal_token_interceptor", "examples", "benchmarks", "tests")
    for file in (ROOT / folder).rglob("*.py")
    if file.name != "test_links.py"
)
_PROJECT_FILE = re.compile(
    r"(?<![\w/.-])((?:docs|examples|tests|benchmarks)/[\w/.-]+\.(?:md|py|jsonl?|svg|png))\b(?:#([\w-]+))?"
)


def broken(target, page):
    """Say what is wrong with a link of a page; nothing if it leads somewhere."""
    parts = urlsplit(target)
    if parts.scheme:
        well_formed = parts.scheme == "https" and "." in parts.netloc and parts.netloc.isascii()
        return None if well_formed else f"{target}: no https address"
    file = page.parent / unquote(parts.path) if parts.path else page
    if not file.exists():
        return f"{target}: there is no such file"
    if parts.fragment and parts.fragment not in anchors(file.resolve()):
        return f"{target}: {name_of(file.resolve())} has no such heading"
    return None


@pytest.mark.parametrize("page", _PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """A link, or a picture, of a page leads to a file that is there and a heading that it has."""
    assert [wrong for target in links(page) if (wrong := broken(target, page))] == []


@pytest.mark.parametrize("page", _PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page):
    """Where a page says `tests/...` or `docs/...` without a link, there is such a file, too."""
    named = {match[1] for match in _PROJECT_FILE.finditer(page.read_text(encoding="utf-8"))}

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("module", _MODULES, ids=name_of)
def test_files_that_the_code_names_are_there(module):
    """A docstring or a message that points to a page points to one that exists, and to its heading."""
    wrong = []
    for path, anchor in _PROJECT_FILE.findall(module.read_text(encoding="utf-8")):
        if path.startswith("tests/unit_tests/"):
            continue  # in the packages of peers, whose suites tests/peers runs
        if not (ROOT / path).exists():
            wrong.append(path)
        elif anchor and anchor not in anchors(ROOT / path):
            wrong.append(f"{path}#{anchor}")

    assert wrong == []


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("docs/nowhere.md", "no such file"),
        ("docs/protocol.md#no-such-part", "no such heading"),
        ("#no-such-part", "no such heading"),
        ("http://example.com/", "no https address"),
        ("https://", "no https address"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(target, why):
    """The check can fail."""
    assert why in (broken(target, ROOT / "README.md") or "")


def test_headings_get_githubs_names():
    """`#what-it-costs-and-where-it-ends` and the like are found as GitHub makes them."""
    assert "what-it-costs-and-where-it-ends" in anchors(ROOT / "README.md")
    assert "with-langgraph-temporal" in anchors(ROOT / "docs" / "durable.md")
