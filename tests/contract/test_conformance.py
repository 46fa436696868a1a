# ruff: noqa: E501 - what is replaced stands in one line, as in the source
"""The conformance suite: our reader passes it, a wrong reader does not, and each rule of the page has its cases."""

import asyncio
import json
import re
import sys
from importlib import import_module
from types import ModuleType

import pytest

from temporal_token_interceptor.conformance.__main__ import main
from temporal_token_interceptor.conformance.case import named_cases
from temporal_token_interceptor.conformance.generated import generated_cases
from temporal_token_interceptor.conformance.reference import answer_to
from temporal_token_interceptor.conformance.runner import difference, outcomes
from tests.support import typescript_types
from tests.support.pages import ROOT

CASES = list(named_cases())
READER = [sys.executable, "-m", "temporal_token_interceptor.conformance", "reader"]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}/{case.name}")
async def test_our_reader_passes(case):
    """What each case says is what the reader of this package does."""
    assert difference(case, await answer_to(case.request)) is None


def test_each_rule_of_the_page_links_to_its_cases():
    """No rule of reading without cases, no group of cases without its rule."""
    reading = PROTOCOL.partition("\n## Reading\n")[2].partition("\n## Frames in history\n")[0]
    rules = re.findall(r"^\d+\. \*\*.*?(?=^\d+\. |\n\n|\Z)", reading, flags=re.MULTILINE | re.DOTALL)
    groups = {case.group for case in CASES}

    assert len(rules) == 7
    assert all("](conformance.md)" in rule for rule in rules), [rule[:30] for rule in rules]
    assert set(re.findall(r"\[`([a-z-]+)`\]\(conformance\.md\)", PROTOCOL)) == groups
    table = PAGE.partition("\n## What a reader is asked\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE)) == groups | {"generated"}


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


# ------------------------------------------------------------------ mutants

# A reading rule of ours, broken: the module, what is replaced in it, and by what.
MUTANTS = [
    ("protocol.frames", "if type(version) is not int or version not in READ_VERSIONS:", "if False:"),
    ("protocol.frames", "if type(version) is not int or", "if"),
    ("protocol.frames", "type(seq) is not int or seq < 0", "False"),
    ("protocol.frames", "if type(attempt_id) is not str or", "if"),
    ("protocol.frames", " or type(events) is not list:", ":"),
    ("protocol.frames", "if origin is not None and StreamKey.of(origin) != stream:", "if False:"),
    ("protocol.frames", 'if is_opened and body.get("s") != stream.name:', "if False:"),
    ("protocol.frames", "if is_opened and body", "if body"),
    ("protocol.frames", "> FUTURE:", "> FUTURE * 1000:"),
    ("protocol.frames", "- stored > FUTURE", "- stored > FUTURE / 100"),
    ("protocol.frames", "if len(data) > MAX_BYTES:", "if False:"),
    ("protocol.frames", "if count > MAX_EVENTS:", "if False:"),
    ("protocol.frames", 'text = _STRINGS.sub(b"", data)', "text = data"),
    ("protocol.origin_json", "if type(value) is not kind:", "if not isinstance(value, kind):"),
    ("protocol.origin_json", "if (found := typed(int, value)) < 0:", "if (found := typed(int, value)) is None:"),
    ("protocol.origin_json", 'if "sch" in wire else None', "if False else None"),
    ("protocol.attempts", "            if packet.origin is None:\n", "            if False:\n"),
    ("protocol.attempts", "if self._fencing and attempt.superseded_by is not None:", "if False:"),
    ("protocol.attempts", "_age(rival.origin) > _age(origin)", "False"),
    ("protocol.attempts", "_age(rival.origin) > _age(origin)", "_age(rival.origin) >= _age(origin)"),
    ("protocol.attempts", "return (origin.started_time, origin.attempt)", "return (origin.started_time, 0)"),
    ("protocol.attempts", "return (origin.started_time, origin.attempt)", "return (origin.attempt, 0)"),
    ("protocol.attempts", "return (origin.activity_id, origin.scheduled_time)", "return (origin.activity_id, None)"),
    ("protocol.attempts", "return (origin.activity_id, origin.scheduled_time)", 'return ("", origin.scheduled_time)'),
    ("protocol.attempts", "if packet.seq < attempt.next_seq:", "if False:"),
    ("protocol.attempts", "            added.append(self._jump(attempt, packet.seq - attempt.next_seq, prefix))\n", "            pass\n"),
    ("protocol.attempts", '(self._cut if attempt.next_seq == 0 else "lost")', '"lost"'),
    ("protocol.attempts", '(self._cut if attempt.next_seq == 0 else "lost")', '("trimmed" if attempt.next_seq == 0 else "lost")'),
    ("protocol.frames", "if began - now > FAR_FUTURE:", "if False:"),
    ("protocol.attempts", "attempt.calls = {call.ordinal: call for call in packet.open_calls}", "attempt.calls |= {call.ordinal: call for call in packet.open_calls}"),
    ("protocol.attempts", "attempt.calls = {call.ordinal: call for call in packet.open_calls}", "pass"),
    ("protocol.attempts", "            added.append(replace(started, supersedes=origin))\n", "            pass\n"),
    ("protocol.attempts", "if not attempt.ended]", "if False]"),
    ("protocol.attempts", "for attempt in self._newest.values() if not attempt.ended", "for attempt in self._attempts.values() if not attempt.ended"),
    ("protocol.event_json", "position += 1", "position += kind is not None"),
    ("protocol.event_json", "position + place}", "position}"),
    ("protocol.event_json", "index + place", "index"),
    ("protocol.event_json", "    calls.clear()\n    return event", "    return event"),
    ("protocol.event_json", "    calls.pop(ordinal, None)\n", ""),
    ("protocol.event_json", "    digests.pop(ordinal, None)\n", ""),
    ("protocol.event_json", "same = missing == 0 and", "same ="),
    ("protocol.event_json", "number(more[0]) if more else len(texts)", "len(texts)"),
    ("protocol.event_json", "max(missing, 0) or None", "missing"),
    ("protocol.event_json", "if type(count) is int:", "if True:"),
    ("protocol.event_json", "bool(more) and more[0] is True", "False"),
    ("protocol.graph_json", "                typed(kind, value)\n", "                pass\n"),
    ("protocol.text_check", '"utf-16-le"', '"utf-8"'),
    ("reader.lost_entries", "return bool(mark) and await self._source.last_id(self._stream) < mark", "return False"),
    ("reader.lost_entries", "seq > 0 or bool(begun and begun < first)", "bool(begun and begun < first)"),
    ("reader.lost_entries", "seq > 0 or bool(begun and begun < first)", "seq > 0"),
    ("reader.lost_entries", "was_cut = mark < first if mark else", "was_cut = "),
    ("reader.lost_entries", "(begun <= mark if mark else begun < first)", "True"),
    ("reader.lost_entries", "(begun <= mark if mark else begun < first)", "begun < first"),
    ("reader.lost_entries", 'begun is None or (begun != "" and', '(begun == "" or'),
    ("reader.lost_entries", "bool(await self._begun())", "False"),
    ("transport.redis.connection", 'milliseconds = f"z{milliseconds.zfill(_LONGEST)}"', "pass"),
    ("reader.position", "return self._position if entry == self.mark else Position.END", "return Position.END"),
    ("reader.entry_decoder", "if position_of(event.cursor) > known", "if position_of(event.cursor) >= known"),
    ("reader.entry_decoder", "                check_time(packet, stored, self._now())\n", "                pass\n"),
    ("protocol.cursor", "len(text) <= MAX_CURSOR else None", "True else None"),
]  # fmt: skip


@pytest.fixture
def mutated(monkeypatch):
    """Put a changed module in the place of one of ours, wherever its names were imported."""

    def put(name, old, new):
        original = import_module(f"temporal_token_interceptor.{name}")
        path = ROOT / "temporal_token_interceptor" / f"{name.replace('.', '/')}.py"
        source = path.read_text(encoding="utf-8")
        assert old in source, old
        mutant = ModuleType(original.__name__)
        monkeypatch.setitem(sys.modules, original.__name__, mutant)
        exec(compile(source.replace(old, new), f"<mutant {name}>", "exec"), mutant.__dict__)  # noqa: S102 - our own source, changed
        monkeypatch.setitem(sys.modules, original.__name__, original)
        ours = {
            key: value
            for key, value in vars(original).items()
            if getattr(value, "__module__", None) == original.__name__ or key.isupper()
        }
        for module in [
            one for key, one in sys.modules.items() if key.startswith("temporal_token_interceptor.")
        ]:
            for key, value in list(vars(module).items()):
                if key in ours and value is ours[key] and key in vars(mutant):
                    monkeypatch.setattr(module, key, vars(mutant)[key])
                for entry, function in value.items() if type(value) is dict and key != "__builtins__" else ():
                    name_ = getattr(function, "__name__", "")
                    if name_ in ours and function is ours[name_]:
                        monkeypatch.setitem(value, entry, vars(mutant)[name_])

    return put


@pytest.fixture(scope="module")
def streams():
    """Some of the generated cases, with what our own reader gives."""
    return asyncio.run(generated_cases(60))


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
async def test_a_reader_that_breaks_a_rule_fails_a_case(mutated, streams, name, old, new):
    """Each rule is held by a case: the reader that forgets it does not pass."""
    is_bound = any(word in old for word in ("MAX", "count", "STRINGS", "zfill"))
    cases = [case for case in (*CASES, *streams) if is_bound or case.group != "bounds"]  # large, so slow

    mutated(name, old, new)

    for case in cases:
        if await fails(case):
            return
    pytest.fail("no case notices")


async def fails(case):
    """Whether a reader gives something else, or nothing at all."""
    try:
        return difference(case, await answer_to(case.request)) is not None
    except Exception:  # noqa: BLE001 - a reader that ends fails
        return True
