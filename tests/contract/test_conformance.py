"""The conformance suite: our reader passes it, a wrong reader does not, and each rule has its cases."""

import asyncio
import json
import re
import sys

import pytest

from temporal_token_interceptor.conformance.__main__ import all_cases, main
from temporal_token_interceptor.conformance.case import named_cases, rules
from temporal_token_interceptor.conformance.folds import server_sent
from temporal_token_interceptor.conformance.generated import generated_cases
from temporal_token_interceptor.conformance.reference import answer_to, events_of
from temporal_token_interceptor.conformance.runner import difference, outcomes
from temporal_token_interceptor.gateway.encoder import NativeEvents
from temporal_token_interceptor.views.projector import Projector
from tests.contract import rules_document
from tests.contract.reader_mutants import MUTANTS, noticed_by
from tests.support import typescript_types
from tests.support.conformance_table import FOLDER
from tests.support.node import SCRIPT, find_node
from tests.support.pages import ROOT

CASES = list(named_cases())
READER = [sys.executable, "-m", "temporal_token_interceptor.conformance", "reader"]
TTI = [find_node(), str(FOLDER), str(SCRIPT)]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}/{case.name}")
async def test_our_reader_passes(case):
    """What each case says is what the reader of this package does."""
    assert difference(case, await answer_to(case.request)) is None


def test_each_rule_of_the_page_links_to_its_cases():
    """No step of reading without a rule, no rule without cases, no case whose rule the page does not have."""
    reading = PROTOCOL.partition("\n## Reading\n")[2].partition("\n## Frames in history\n")[0]
    steps = re.findall(r"^\d+\. \*\*.*?(?=^\d+\. |\n\n|\Z)", reading, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\[`([a-z0-9.-]+)`\]\(conformance\.md#([a-z-]+)\)", PROTOCOL)

    assert len(steps) == 7
    assert all("](conformance.md#" in step for step in steps), [step[:30] for step in steps]
    assert sorted(rule for rule, _ in links) == sorted(rules())
    assert all(rule.partition(".")[0] == anchor for rule, anchor in links)


def test_the_page_of_the_suite_lists_the_rules_and_their_cases():
    """`python -m tests.contract.rules_document` writes the part."""
    assert rules_document.part_of(PAGE) == rules_document.written()


def test_names_are_unique_and_events_of_each_type_stand_in_a_case():
    """A case is named by its group and its name."""
    names = [(case.group, case.name) for case in CASES]
    types = {event["type"] for case in CASES for event in case.expected.get("events", ())}
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))

    assert len(set(names)) == len(names) >= 100
    assert types == {one["$ref"].rpartition("/")[2] for one in schema["oneOf"]} - {
        "run_continued",
        "stream_ended",
    }


async def test_generated_streams_are_the_same_each_time():
    """A reader in another language is compared with the same thousand tomorrow."""
    first, second = await generated_cases(20), await generated_cases(20)

    assert [(one.request, one.expected) for one in first] == [(one.request, one.expected) for one in second]


def test_the_types_of_the_typescript_reader_are_those_of_the_schema():
    """`python -m tests.support.typescript_types` writes them."""
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))

    assert typescript_types.PATH.read_text(encoding="utf-8") == typescript_types.types_of(schema)


# ------------------------------------------------------------------ the program


async def test_a_reader_is_driven_over_its_pipes():
    """Our own, as a program of its own."""
    found = await outcomes(READER, CASES[:12])

    assert [outcome.wrong for outcome in found] == [None] * 12


@pytest.mark.parametrize(
    ("program", "wrong"),
    [
        (
            "import sys; [print('{\"events\": []}', flush=True) for _ in sys.stdin]",
            "expected 3 events, got 0",
        ),
        ("import sys; [print('no JSON', flush=True) for _ in sys.stdin]", "the answer is no JSON"),
        ("import sys; [print('[]', flush=True) for _ in sys.stdin]", "the answer is no object"),
        ("import sys; [print('{}', flush=True) for _ in sys.stdin]", "no array `events`"),
        ("import sys; sys.stdin.readline()", "the reader ended without an answer"),
    ],
)
async def test_what_is_wrong_with_a_reader_is_named(program, wrong):
    """The report says what was expected and what came."""
    (outcome,) = await outcomes([sys.executable, "-c", program], CASES[:1])

    assert wrong in (outcome.wrong or "")


def test_the_command_reports_a_table_and_its_exit_code_says_whether_all_passed(capfd):
    """For people, and for CI."""
    assert main(["run", "--group", "end", "--generated", "0", "--", *READER]) == 0
    out, _ = capfd.readouterr()
    assert out.splitlines()[0].split() == ["group", "cases", "passed"]
    assert out.splitlines()[-1].split() == ["all", "6", "6"]

    silent = [sys.executable, "-c", "import sys; [print('{\"events\": []}', flush=True) for _ in sys.stdin]"]
    assert main(["run", "--group", "end", "--generated", "0", "--", *silent]) == 1
    out, _ = capfd.readouterr()
    assert "an attempt that did not: expected 3 events, got 0" in out


def test_what_cannot_be_run_is_named(capfd):
    """A reader that is not there, a group that is not there."""
    assert main(["run", "--group", "end", "--generated", "0", "--", "no-such-reader"]) == 2
    assert "the reader 'no-such-reader' cannot be started" in capfd.readouterr().err
    assert main(["export", "--group", "nothing", "--generated", "0"]) == 2
    assert "there is no group nothing" in capfd.readouterr().err


def test_the_cases_are_data_for_those_without_python(capfd):
    """Line by line: what to ask, and what to expect."""
    assert main(["export", "--generated", "5"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    assert len(lines) == len(CASES) + 5
    assert all(line["request"]["case"] == f"{line['group']}/{line['name']}" for line in lines)


# ------------------------------------------------------------------ what the gateway sends


async def test_changes_are_written_as_the_gateway_writes_them():
    """The suite has the form without the gateway, whose packages not everybody has installed."""
    for case in [case for case in CASES if "error" not in case.expected and case.group != "bounds"]:
        events, _ = await events_of({**case.request, "cursor": None})
        projector = Projector()
        for change in [change for event in events for change in projector.read(event)]:
            assert server_sent(change).encode() == NativeEvents().encode([change])


@pytest.fixture(scope="module")
def changes():
    """What the gateway sends of each stream, and the state that a client must arrive at."""
    return asyncio.run(all_cases(generated=60, changes=True))


async def test_the_script_of_browsers_passes(changes):
    """`tti.js` subscribes to each stream and arrives at the state; `make conformance` runs all of them."""
    found = await outcomes(TTI, changes)

    assert [outcome for outcome in found if outcome.wrong] == []
    assert len(found) == len(changes) > 150


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("items.delete(id)", "id"),
        ("item?.text.slice(0, event.at)", "item?.text"),
        ("next.notes.filter(note => note.at < event.at)", "next.notes"),
        ("items.clear()", ""),
        ("change({ open: false, facts: event.data ?? {} })", ""),
    ],
)
async def test_a_script_that_folds_otherwise_fails(tmp_path, changes, old, new):
    """Each kind of change is held by a case."""
    script = SCRIPT.read_text(encoding="utf-8")
    assert old in script
    (tmp_path / "tti.mjs").write_text(script.replace(old, new), encoding="utf-8")
    found = await outcomes([*TTI[:2], str(tmp_path / "tti.mjs")], changes)

    assert any(outcome.wrong for outcome in found)


# ------------------------------------------------------------------ mutants


def test_each_rule_has_a_case_and_a_mutant():
    """A rule that no case holds, or that no broken reader shows to be held, is none."""
    assert {case.rule for case in CASES} == {mutant.rule for mutant in MUTANTS} == set(rules())


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=[f"{place} {mutant.rule}" for place, mutant in enumerate(MUTANTS)]
)
async def test_a_reader_that_breaks_a_rule_fails_a_case_of_it(mutant):
    """Our own reader, changed in one place; `python -m tests.contract.reader_mutants` prints who notices."""
    assert await noticed_by(mutant, [case for case in CASES if case.rule == mutant.rule])
