# ruff: noqa: E501 - what is replaced stands in one line, as in the source
"""Our reader with one rule of reading broken, once for each rule: a case of that rule must notice.

`python -m tests.contract.reader_mutants` prints which case notices what.
"""

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import pytest

from temporal_token_interceptor.conformance.case import Case, named_cases, rules
from temporal_token_interceptor.conformance.reference import answer_to
from temporal_token_interceptor.conformance.runner import difference
from tests.support.pages import ROOT


class Mutant(NamedTuple):
    """A change of one module, of which a case of a rule must notice that it breaks the rule."""

    rule: str
    module: str
    old: str
    new: str


MUTANTS = [
    Mutant("frames.frame", "protocol.event_json", "    _keep(call, calls)\n    return CallStarted", "    return CallStarted"),
    Mutant("frames.field", "protocol.frames", "orjson.loads(data)", "orjson.loads(data or b'{\"v\":1,\"a\":\"x\",\"n\":0,\"e\":[]}')"),
    Mutant("frames.json", "protocol.frames", "parse_constant=_refused", "parse_constant=str"),
    Mutant("frames.json", "protocol.frames", "json.loads(data.decode(), ", "json.loads(data, "),
    Mutant("frames.members", "protocol.frames", "if type(version) is not int or", "if"),
    Mutant("frames.members", "protocol.frames", "type(seq) is not int or seq < 0", "False"),
    Mutant("frames.members", "protocol.frames", "if type(attempt_id) is not str or", "if"),
    Mutant("frames.members", "protocol.frames", " or type(events) is not list:", ":"),
    Mutant("frames.header", "protocol.origin_json", "if type(value) is not kind:", "if not isinstance(value, kind):"),
    Mutant("frames.header", "protocol.origin_json", "if (found := typed(int, value)) < 0:", "if (found := typed(int, value)) is None:"),
    Mutant("frames.header", "protocol.origin_json", "return _EPOCH + microseconds * _MICROSECOND", "return _EPOCH + max(microseconds, 0) * _MICROSECOND"),
    Mutant("frames.stream", "protocol.frames", "if origin is not None and StreamKey.of(origin) != stream:", "if False:"),
    Mutant("frames.future", "protocol.frames", "> FUTURE:", "> FUTURE * 1000:"),
    Mutant("frames.future", "protocol.frames", "- stored > FUTURE", "- stored > FUTURE / 100"),
    Mutant("frames.future", "protocol.frames", "if began - now > FAR_FUTURE:", "if False:"),
    Mutant("frames.future", "reader.entry_decoder", "                check_time(packet, stored, self._now())\n", "                pass\n"),
    Mutant("frames.jump", "protocol.attempts", "            added.append(self._jump(attempt, packet.seq - attempt.next_seq, prefix))\n", "            pass\n"),
    Mutant("frames.null", "protocol.origin_json", "return None if value is None else typed(kind, value)", "return typed(kind, value)"),
    Mutant("frames.telemetry", "protocol.frames", "time if type(time) is int else None)", "time and typed(int, time))"),
    Mutant("attempts.begin", "protocol.attempts", "attempt = self._attempts.get(packet.attempt_id)\n        added", "attempt = None if packet.origin else self._attempts.get(packet.attempt_id)\n        added"),
    Mutant("attempts.headless", "protocol.attempts", "            if packet.origin is None:\n", "            if False:\n"),
    Mutant("attempts.beside", "protocol.attempts", "return (origin.activity_id, origin.scheduled_time)", 'return ("", origin.scheduled_time)'),
    Mutant("newest.retry", "protocol.attempts", "if rival is None else rival.origin\n", "if rival is None else None\n"),
    Mutant("newest.fenced", "protocol.attempts", "if self._fencing and attempt.superseded_by is not None:", "if False:"),
    Mutant("newest.late", "protocol.attempts", "_age(rival.origin) > _age(origin)", "False"),
    Mutant("newest.start", "protocol.attempts", "return (origin.started_time, origin.attempt)", "return (origin.attempt, 0)"),
    Mutant("newest.number", "protocol.attempts", "return (origin.started_time, origin.attempt)", "return (origin.started_time, 0)"),
    Mutant("newest.order", "protocol.attempts", "_age(rival.origin) > _age(origin)", "_age(rival.origin) >= _age(origin)"),
    Mutant("newest.schedule", "protocol.attempts", "return (origin.activity_id, origin.scheduled_time)", "return (origin.activity_id, None)"),
    Mutant("newest.schedule", "protocol.origin_json", '(time := wire.get("sch")) is None', "True or (time := 0)"),
    Mutant("duplicates.seen", "protocol.attempts", "if packet.seq < attempt.next_seq:", "if False:"),
    Mutant("duplicates.lost", "protocol.attempts", '(self._cut if attempt.next_seq == 0 else "lost")', "self._cut"),
    Mutant("duplicates.trimmed", "protocol.attempts", '(self._cut if attempt.next_seq == 0 else "lost")', '"lost"'),
    Mutant("duplicates.own", "protocol.attempts", "        attempt.next_seq = packet.seq + 1\n", "        for one in self._attempts.values():\n            one.next_seq = packet.seq + 1\n"),
    Mutant("open-calls.replace", "protocol.attempts", "attempt.calls = {call.ordinal: call for call in packet.open_calls}", "attempt.calls |= {call.ordinal: call for call in packet.open_calls}"),
    Mutant("open-calls.replace", "protocol.attempts", "attempt.calls = {call.ordinal: call for call in packet.open_calls}", "pass"),
    Mutant("open-calls.headless", "protocol.attempts", "if packet.origin is not None:\n            # Heals", "if True:\n            # Heals"),
    Mutant("open-calls.facts", "protocol.origin_json", 'node_run_id=optional(str, wire.get("nrun"))', "node_run_id=None"),
    Mutant("events.text", "protocol.event_json", "position + place}", "position}"),
    Mutant("events.text", "protocol.event_json", "index + place", "index"),
    Mutant("events.block-number", "protocol.event_json", "wire[_BLOCK] > 0 else 0", "wire[_BLOCK] > 1 else 0"),
    Mutant("events.tool-call", "protocol.event_json", "bool(more) and more[0] is True", "False"),
    Mutant("events.block", "protocol.event_json", "ContentBlock(block=content, ", "ContentBlock(block={}, "),
    Mutant("events.call-end", "protocol.event_json", "    calls.pop(ordinal, None)\n", ""),
    Mutant("events.call-end", "protocol.event_json", "if type(count) is int:", "if True:"),
    Mutant("events.around", "protocol.graph_json", '("stop", bool)', '("halt", bool)'),
    Mutant("events.around", "protocol.graph_json", "                typed(kind, value)\n", "                pass\n"),
    Mutant("events.gap", "protocol.event_json", "count = None if missing is None else number(missing)", "count = None"),
    Mutant("events.attempt-end", "protocol.event_json", "    calls.clear()\n    return event", "    return event"),
    Mutant("events.halves", "protocol.frames", "        except (ValueError, RecursionError) as error:", "            raise ProtocolError('half a character')\n        except (ValueError, RecursionError) as error:"),
    Mutant("events.broken", "protocol.event_json", "position += 1", "position += kind is not None"),
    Mutant("events.number", "protocol.event_json", "known = calls.get(ordinal) if type(ordinal) is int else None", "known = calls.get(ordinal)"),
    Mutant("check.agrees", "protocol.event_json", "                if gap is not None:\n                    events.append(gap)\n", "                if gap is None:\n                    continue\n                events.append(gap)\n"),
    Mutant("check.pieces", "protocol.event_json", "number(more[0]) if more else len(texts)", "len(texts)"),
    Mutant("check.utf-16", "protocol.text_check", '"utf-16-le"', '"utf-8"'),
    Mutant("check.missing", "protocol.event_json", "max(missing, 0) or None", "None"),
    Mutant("check.other", "protocol.event_json", "max(missing, 0) or None", "missing"),
    Mutant("check.other", "protocol.event_json", "same = missing == 0 and", "same ="),
    Mutant("check.transport", "protocol.attempts", 'event.reason == "mismatch" and attempt.lost == "transport":', "False:"),
    Mutant("check.reset", "protocol.event_json", "    digests.pop(ordinal, None)\n", ""),
    Mutant("lost-start.begun", "reader.lost_entries", "seq > 0 or bool(begun and begun < first)", "seq > 0"),
    Mutant("lost-start.whole", "reader.lost_entries", "    if not was_cut:\n", "    if False:\n"),
    Mutant("lost-start.middle", "reader.lost_entries", "seq > 0 or bool(begun and begun < first)", "bool(begun and begun < first)"),
    Mutant("lost-start.middle", "reader.lost_entries", 'begun is None or (begun != "" and', '(begun == "" or'),
    Mutant("lost-start.middle", "reader.lost_entries", "(begun <= mark if mark else begun < first)", "True"),
    Mutant("lost-start.all", "reader.lost_entries", "bool(await self._begun())", "False"),
    Mutant("lost-start.cut", "reader.lost_entries", "(begun <= mark if mark else begun < first)", "(begun > mark if mark else begun < first)"),
    Mutant("lost-start.again", "reader.lost_entries", "was_cut = mark < first if mark else", "was_cut ="),
    Mutant("lost-start.again", "reader.lost_entries", "(begun <= mark if mark else begun < first)", "begun < first"),
    Mutant("lost-start.reported", "reader.lost_entries", "return mark >= first.id if mark else not self._reads_all", "return False"),
    Mutant("lost-start.older", "reader.lost_entries", "return bool(mark) and await self._source.last_id(self._stream) < mark", "return False"),
    Mutant("lost-start.older", "protocol.attempts", "            added.append(replace(started, supersedes=origin))\n", "            pass\n"),
    Mutant("end.said", "protocol.attempts", "attempt.ended, attempt.completed = True,", "attempt.ended, attempt.completed = False,"),
    Mutant("end.unended", "protocol.attempts", "if not attempt.ended]", "if False]"),
    Mutant("end.unended", "protocol.attempts", "for attempt in self._newest.values() if not attempt.ended", "for attempt in self._attempts.values() if not attempt.ended"),
    Mutant("end.seen", "reader.position", "        return position_of(cursor) <= place.position\n", "        return False\n"),
    Mutant("end.open", "reader.run_stream", "if not is_snapshot and (tail :=", "if (tail :="),
    Mutant("cursors.after", "reader.position", "return self._position if entry == self.mark else Position.END", "return Position.END"),
    Mutant("cursors.after", "reader.entry_decoder", "if position_of(event.cursor) > known", "if position_of(event.cursor) >= known"),
    Mutant("cursors.state", "protocol.attempts", "            events = skim(packet.events, attempt.origin, attempt.calls, attempt.digests)\n", "            events = []\n"),
    Mutant("cursors.places", "reader.position", "other = self.history.furthest or self.live.furthest", 'other = ""'),
    Mutant("cursors.places", "reader.position", "Position.END if from_elsewhere else place.position", "place.position"),
    Mutant("cursors.unknown", "protocol.event_json", "    digests = {} if digests is None else digests\n", "    digests = {} if digests is None else digests\n    wires = [wire for wire in wires if not wire or wire[0] != 'from']\n"),
    Mutant("cursors.form", "protocol.cursor", "len(text) <= MAX_CURSOR else None", "True else None"),
    Mutant("cursors.form", "protocol.cursor", 'rf"{CURSOR_VERSION}~(?P<run>', 'rf".~(?P<run>'),
    Mutant("cursors.transport", "transport.redis.connection", "    milliseconds = int(server_id(entry_id)", '    if "-" not in entry_id:\n        return _DOOMSDAY\n    milliseconds = int(server_id(entry_id)'),
    Mutant("versions.version", "protocol.frames", "version not in READ_VERSIONS:", "version < 0:"),
    Mutant("versions.members", "protocol.event_json", "    _, outcome, will_retry, *_ = wire\n", "    _, outcome, will_retry = wire\n"),
    Mutant("versions.kinds", "protocol.event_json", "(unfold_one := _UNFOLD.get(typed(str, kind))) is not None", "(unfold_one := _UNFOLD[typed(str, kind)]) is not None"),
    Mutant("versions.words", "protocol.event_json", "word: Any = typed(str, outcome)", 'word: Any = outcome if outcome == "failed" else typed(int, outcome)'),
    Mutant("sealed.named", "protocol.frames", 'if is_opened and body.get("s") != stream.name:', "if False:"),
    Mutant("sealed.named", "protocol.stream_key", '" !\\"#', '"!\\"#'),
    Mutant("sealed.plain", "protocol.frames", "if is_opened and body", "if body"),
    Mutant("bounds.depth", "protocol.frames", 'shape = _STRINGS.sub(b"", data)', "shape = data"),
    Mutant("bounds.values", "protocol.frames", "> MAX_VALUES:", "> 10**9:"),
    Mutant("bounds.ids", "transport.redis.connection", 'milliseconds = f"z{milliseconds.zfill(_LONGEST)}"', "pass"),
    Mutant("bounds.bytes", "protocol.frames", "if len(data) > MAX_BYTES:", "if False:"),
    Mutant("bounds.names", "protocol.frames", "if type(attempt_id) is not str or", 'if type(attempt_id) is not str or attempt_id.startswith("_") or'),
]  # fmt: skip


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Put the changed module in the place of ours, wherever its names were imported."""
    with pytest.MonkeyPatch.context() as patch:
        original = import_module(f"temporal_token_interceptor.{mutant.module}")
        path = ROOT / "temporal_token_interceptor" / f"{mutant.module.replace('.', '/')}.py"
        source = path.read_text(encoding="utf-8")
        assert mutant.old in source, f"{mutant.module} has no {mutant.old!r} any more: change the mutant"
        changed = ModuleType(original.__name__)
        patch.setitem(sys.modules, original.__name__, changed)
        code = source.replace(mutant.old, mutant.new)
        exec(compile(code, f"<mutant of {mutant.module}>", "exec"), changed.__dict__)  # noqa: S102 - our own source
        patch.setitem(sys.modules, original.__name__, original)
        _put(patch, original, changed)
        yield


def _put(patch: pytest.MonkeyPatch, original: ModuleType, changed: ModuleType) -> None:
    ours = {
        key: value
        for key, value in vars(original).items()
        if getattr(value, "__module__", None) == original.__name__ or key.isupper()
    }
    for module in [one for key, one in sys.modules.items() if key.startswith("temporal_token_interceptor.")]:
        for key, value in list(vars(module).items()):
            if key in ours and value is ours[key] and key in vars(changed):
                patch.setattr(module, key, vars(changed)[key])
            for entry, function in value.items() if type(value) is dict and key != "__builtins__" else ():
                name = getattr(function, "__name__", "")
                if name in ours and function is ours[name]:
                    patch.setitem(value, entry, vars(changed)[name])


async def noticed_by(mutant: Mutant, cases: Sequence[Case]) -> Case | None:
    """Return the first case that a mutant fails; None if it passes all."""
    with mutated(mutant):
        for case in cases:
            try:
                if difference(case, await answer_to(case.request)) is not None:
                    return case
            except Exception:  # noqa: BLE001 - a reader that ends fails
                return case
    return None


async def _print() -> int:
    every = list(named_cases())
    missed = 0
    for rule in rules():
        for mutant in [one for one in MUTANTS if one.rule == rule]:
            case = await noticed_by(mutant, [case for case in every if case.rule == rule])
            missed += case is None
            old, new = (" ".join(text.split())[:60] for text in (mutant.old, mutant.new))
            sys.stdout.write(
                f"{rule:<20} {case.name if case else 'NO CASE NOTICES'}\n{'':21}{old}  ->  {new}\n"
            )
    sys.stdout.write(
        f"{len(rules())} rules, {len(MUTANTS)} mutants of {len({one.rule for one in MUTANTS})}, {missed} missed\n"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(asyncio.run(_print()))
