# ruff: noqa: E501 - what is replaced stands in one line, as in the source
"""The laws notice when the projector is wrong: each of these changes to it breaks one."""

import sys
from functools import cache
from random import Random
from types import ModuleType

import pytest

from tests.support.pages import ROOT
from tests.support.projected import LAWS, a_stream

VIEWS = ROOT / "temporal_token_interceptor" / "views"
STREAMS = 40

# The module, what is replaced in it, and by what.
MUTANTS = [
    ("projector", "known.slot, used=known.used", "known.slot"),
    ("projector", "slot = replaced.slot if replaced is not None else slot_of(older or event.origin, taken)", "slot = slot_of(event.origin, taken)"),
    ("projector", "        if replaced is not None:\n            self._retract(replaced, attempt_id)\n", ""),
    ("projector", "            if item is not None:\n                self._write.close(item, {})\n", ""),
    ("projector", "        if event.token:\n            self._write.grow(item, event.token)", "        self._write.grow(item, event.token)"),
    ("projector", "item.kind != kind or message.block != event.block:", "message.block != event.block:"),
    ("projector", "self._write.remove(message.attempt, ids, by)", "pass"),
    ("projector", "for item in reversed(message.parts):\n            more", "for item in ():\n            more"),
    ("projector", "self._write.close(message.item, facts)", "pass"),
    ("projector", "        for item in attempt.running.values():\n            self._write.close(item, rest)\n", ""),
    ("projector", "        elif not attempt.item.open:\n            self._open_attempt(attempt)\n", ""),
    ("projected", "return slot if slot not in taken else next(one for one in numbered if one not in taken)", "return slot"),
    ("projector", "    def _close_all(self) -> None:\n", "    def _close_all(self) -> None:\n        return\n"),
    ("projector", 'self._write.note("", gap)', "pass"),
    ("projector", 'self._write.note(item.id if item else "", gap, call.node_name if call else "")', "pass"),
    ("projector", "self._write.grow(call.item, args)", "pass"),
    ("projector", "elif call.item is not None and event.args:", "elif False:"),
    ("projector", "node=call.node_name,", ""),
    ("projected", "changes[-1]._replace(cursor=cursor)", "changes[-1]"),
    ("projected", "text, item.length)", "text, len(item.text))"),
    ("projected", "data=data, at=self._notes", "data=data"),
    ("projected", "            del attempt.ids[one]\n", "            pass\n"),
    ("projected", "self.view.fold(numbered)", "self.view.fold(numbered) if change.op != 'close' else None"),
    ("projected", "seq=self.sequence.next()", "seq=len(self._changes)"),
    ("changes", 'if change.op == "open" and (not change.parent or change.parent in self.items):', 'if change.op == "open":'),
    ("changes", "for note in self.notes if note.at < change.at]", "for note in self.notes]"),
    ("changes", "if note.id not in gone", ""),
    ("changes", "if at < self.length:", "if False:"),
    ("changes", 'return len(text.encode("utf-16-le", "surrogatepass")) // 2', "return len(text)"),
    ("changes", "cursor=change.cursor or last.cursor", "cursor=last.cursor"),
    ("changes", "for item in reversed(self.items.values()) if not item.open", "for item in ()"),
    ("sequence", "max(self._last, ", "max(0, "),
    ("sequence", " << _BITS", ""),
    ("visible", "and kind not in self.kinds", "and kind in self.kinds"),
    ("visible", "or node in self.nodes", "or True"),
]  # fmt: skip
_ORDER = ["changes", "sequence", "projected", "projector", "visible"]


def projector_of(changed):
    """The projector's modules, with one of them changed."""
    modules = {}
    for name in _ORDER:
        source = changed.get(name) or (VIEWS / f"{name}.py").read_text(encoding="utf-8")
        module = modules[name] = ModuleType(f"mutant.views.{name}")
        for other in _ORDER:
            source = source.replace(f"temporal_token_interceptor.views.{other} ", f"mutant.views.{other} ")
        sys.modules[module.__name__] = module
        exec(compile(source, f"<mutant {name}>", "exec"), module.__dict__)  # noqa: S102 - our own source, changed
    return modules


@pytest.fixture
def laws(monkeypatch):
    """The laws, which judge the modules that they are given."""

    def broken(changed):
        try:
            modules = projector_of(changed)
            for name in ("View", "coalesced", "joined_halves"):
                monkeypatch.setattr(f"tests.support.projected.{name}", getattr(modules["changes"], name))
            monkeypatch.setattr("tests.support.projected.Visible", modules["visible"].Visible)
            return next((name for name in LAWS if _breaks(name, modules["projector"].Projector)), None)
        finally:
            for name in _ORDER:
                sys.modules.pop(f"mutant.views.{name}", None)

    return broken


def _breaks(name, projector):
    random = Random()
    for seed in range(STREAMS):
        events, state = _stream(seed)
        random.setstate(state)
        try:
            LAWS[name]([*events], projector, random)
        except Exception:  # noqa: BLE001 - an assertion, or whatever a broken state leads to
            return True
    return False


@cache
def _stream(seed):
    """A stream, and the state of the random numbers after it: the same for each mutant and law."""
    random = Random(seed)
    return a_stream(random), random.getstate()


def test_the_unchanged_projector_breaks_no_law(laws):
    """Otherwise the mutants below would show nothing."""
    assert laws({}) is None


@pytest.mark.parametrize(("module", "old", "new"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_law_notices_the_change(laws, module, old, new):
    """A test of a law that cannot fail is none."""
    source = (VIEWS / f"{module}.py").read_text(encoding="utf-8")
    assert source.count(old) >= 1

    assert laws({module: source.replace(old, new)}) is not None
