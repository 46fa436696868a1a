"""The table of docs/langgraph.md: each name that users know has a row, and each row a test that exists."""

import re

import pytest
from langchain_core.language_models import BaseChatModel
from langgraph.pregel import Pregel

from tests.support.langgraph_names import KNOWN, installed
from tests.support.pages import ROOT

TABLE = (ROOT / "docs" / "langgraph.md").read_text(encoding="utf-8").partition("\n## Every name, here\n")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TABLE.splitlines()
    if line.startswith("| `")
]
NAMED = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])]


@pytest.mark.parametrize("names", KNOWN.values(), ids=KNOWN)
def test_each_name_that_users_know_has_a_row(names):
    assert [name for name in names if name not in NAMED] == []


@pytest.mark.parametrize("kind", sorted(installed()))
def test_each_name_of_the_installed_versions_has_a_row(kind):
    """A name that is new in LangChain or LangGraph is not forgotten."""
    names = installed()[kind]

    assert len(names) > 3
    assert [name for name in names if name not in NAMED] == []


def test_no_name_has_two_rows_and_none_is_made_up():
    known = {name for names in (*KNOWN.values(), *installed().values()) for name in names}

    assert sorted(NAMED) == sorted(set(NAMED))
    assert set(NAMED) - known == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_row_says_how_and_names_a_test(row):
    """It is the same, different in something, or not there for a reason; and the test is one."""
    _, how, test = row
    file, name = re.findall(r"`([^`]+)`", test)
    source = (ROOT / file).read_text(encoding="utf-8")

    assert re.match(r"same\b|different: \w|not possible: \w|not there: \w", how)
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)


def test_names_of_earlier_versions_are_gone():
    """The documents that name them are older than what is installed."""
    for kind in (BaseChatModel, Pregel):
        assert not hasattr(kind, "stream_v2")
        assert not hasattr(kind, "astream_v2")
    agents = pytest.importorskip("langchain.agents")
    assert not {name for name in vars(agents) if re.search("AgentStreamer|AgentRunStream", name)}
