"""Streams made by chance, the same ones each time: what our reader gives is what others must give.

They find where two readers differ in what no case foresaw; the named cases say which of the two is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeVar

from temporal_token_interceptor.conformance.case import (
    Case,
    Json,
    origin_of,
    request_of,
    stored_id,
)
from temporal_token_interceptor.conformance.reference import answer_to

GENERATED = 1_000
"""How many there are."""

GROUP = "generated"
"""The name of their group."""

_SEED = 19

_T = TypeVar("_T")

_PIECES = (
    "",
    "a",
    "Hel",
    "lo, ",
    "\n",
    '"\\',
    "é",
    "日本",
    "😀",
    "\ud83d",
    "\ude00",
    "[{",
    "\u0000",
    "x" * 300,
)

# What stands where something else should: each is broken in one place, or in none.
_ODD_FORMS: Sequence[Any] = (
    *(
        [],
        {},
        "text",
        7,
        None,
        [None],
        [["text"]],
        ["text"],
        ["text", 0],
        ["text", 0, 0],
        ["text", 0, 0, "a"],
    ),
    *(["text", None, 0, ["a"]], ["text", 0, "0", ["a"]], ["text", 0, 0, [None]], ["text", 0, 0, ["a"], -1]),
    *(["reasoning", -1, 0, ["a"]], ["reasoning", 0, 0, [["a"]]], ["check", 0, 0], ["check", 0, -1, "x"]),
    *(["check", 7, 0, "e3b0c44298fc1c14"], ["call"], ["call", []], ["call", {"i": -1}], ["call", {"i": "0"}]),
    *(["call", {"i": 0, "step": "x"}], ["call", {"i": 0, "up": -1}], ["call", {"i": 0, "meta": []}]),
    *(["call", {"i": 0, "run": None}], ["call", {"i": 0, "tags": None}], ["call_end"], ["call_end", 0]),
    *(
        ["call_end", 0, []],
        ["call_end", "0", {}],
        ["call_end", 5, {"open": None}],
        ["call_end", 0, {"usage": {}}],
    ),
    *(["call_end", 9, {"usage": {"a": True, "b": {"c": False}}}], ["tool_call", 0, None, None, None, None]),
    *(
        ["tool_call", 0, True, "a", "b", "c"],
        ["tool_call", 0, 0, 1, "b", "c"],
        ["tool_call", 0, 0, "a", "b", "c", 1],
    ),
    *(
        ["block", 0],
        ["block", 0, []],
        ["gap"],
        ["gap", 0, None, None],
        ["gap", "x", 1, "lost"],
        ["attempt_end"],
    ),
    *(
        ["attempt_end", "failed"],
        ["tool", []],
        ["tool", {"path": None}],
        ["tool", {"id": 3}],
        ["node", {"step": None}],
    ),
    *(
        ["node_end", {"stop": 1}],
        ["node_end", {"kids": [1]}],
        ["node", {"agent": 1}],
        ["custom", {"fwd": 1}],
        ["custom", {"name": None}],
        ["graph", {"mode": 1}],
        ["retriever_end", {"count": "3"}],
    ),
    *(["later", 1, 2], ["later"], ["Text", 0, 0, ["a"]], ["", {}], ["tool_end", {"out": {"a": 1}}]),
)

_ODD_ENTRIES: Sequence[str] = (
    *(
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"v":1}',
        '{"v":2,"a":"x","n":0,"e":[]}',
        '{"v":1,"a":"x","n":0,"e":[]}',
    ),
    *(
        '{"v":1,"a":"x","n":-1,"e":[]}',
        '{"v":1,"a":"x","n":0,"e":[],"o":null}',
        '{"v":1,"a":"x","n":0,"e":[],"o":{}}',
    ),
    *(
        '{"v":1,"a":null,"n":0,"e":[]}',
        '{"v":null,"a":"x","n":0,"e":[]}',
        " ",
        "\n",
        '{"v":1,"a":"x","n":0,"e":null}',
    ),
)


async def generated_cases(count: int = GENERATED) -> Sequence[Case]:
    """Return the first of the generated cases, with what our reader gives for each."""
    random = Random(_SEED)  # noqa: S311 - no secret
    return [await _case(number, _Chance(random)) for number in range(count)]


async def _case(number: int, chance: _Chance) -> Case:
    entries = list(_Stream(chance).entries())
    begun = stored_id(chance.below(3) - 1) if chance.one_in(3) else None
    closed = chance.one_in(2)
    name = f"stream {number}"
    request = request_of(f"{GROUP}/{name}", entries, begun=begun, closed=closed)
    if chance.one_in(2) and (seen := (await answer_to(request))["events"]):
        request["cursor"] = chance.of(seen)["cursor"]
        if chance.one_in(3):  # the entries around it are gone
            del entries[: chance.below(len(entries) + 1)]
    return Case(GROUP, name, request, await answer_to(request), is_exact=True)


class _Chance:
    """What is drawn; only by `random`, which gives the same numbers in each version of Python."""

    def __init__(self, random: Random) -> None:
        self._random = random.random

    def below(self, bound: int) -> int:
        return int(self._random() * bound)

    def one_in(self, times: int) -> bool:
        return self.below(times) == 0

    def of(self, values: Sequence[_T]) -> _T:
        return values[self.below(len(values))]


class _Stream:
    """A stream of a few attempts, whose entries come twice, late, broken, or not at all."""

    def __init__(self, chance: _Chance) -> None:
        self._chance = chance

    def entries(self) -> Iterator[Json]:
        """Yield the entries."""
        place = 0
        for data in self._frames():
            place += 1 + (self._chance.below(3) if self._chance.one_in(10) else 0)
            yield {"id": stored_id(place - 1), "fields": {"f": data}}

    def _frames(self) -> Iterator[str]:
        chance = self._chance
        attempts = [iter(self._attempt(name)) for name in ("one", "two", "three", "other") if chance.below(3)]
        if chance.one_in(8):
            attempts.append(iter(self._attempt("one", t=1_767_399_999_000_000)))  # of the future
        current = 0
        while attempts:
            # Mostly in their order, and sometimes beside each other.
            current = chance.below(len(attempts)) if chance.one_in(4) else min(current, len(attempts) - 1)
            frame = next(attempts[current], None)
            if frame is None:
                del attempts[current]
                continue
            if chance.one_in(12):
                continue  # lost
            yield frame
            if chance.one_in(12):
                yield frame
            if chance.one_in(15):
                yield chance.of(_ODD_ENTRIES)

    def _attempt(self, name: str, **changed: Any) -> Iterator[str]:
        chance = self._chance
        if name == "other" or chance.one_in(3):
            changed["sch"] = 1_767_323_044_000_000
        writer = _Writer(chance)
        count = 1 + chance.below(6)
        for number in range(count):
            is_header = number == 0 or number % 3 == 0
            frame: Json = {"v": 1, "a": f"{name}{'-late' if 't' in changed else ''}", "n": number}
            if is_header:
                frame["o"] = origin_of(name, **changed)
                if chance.one_in(2) and writer.open:
                    frame["c"] = list(writer.open.values())
            frame["e"] = [form for _ in range(chance.below(5)) for form in writer.forms()]
            if number == count - 1 and chance.below(4):
                frame["e"].append(
                    ["attempt_end", chance.of(("failed", "completed_provisional", "paused")), None]
                )
            yield json.dumps(frame, separators=(",", ":"))


class _Writer:
    """Makes the forms of an attempt, as a worker would, and odd ones now and then."""

    def __init__(self, chance: _Chance) -> None:
        self._chance = chance
        self.open: dict[int, Json] = {}
        self._next = 0
        self._texts: dict[int, list[str]] = {}

    def forms(self) -> Iterator[list[Any]]:
        """Yield one form, or two that belong together."""
        chance = self._chance
        if chance.one_in(12):
            yield chance.of(_ODD_FORMS)
            return
        if not self.open or chance.one_in(8):
            yield self._begin()
            return
        call = chance.of(list(self.open))
        kind = chance.below(10)
        if kind < 5:
            yield self._text(call)
        elif kind == 5:
            yield ["reasoning", call, chance.below(9), [chance.of(_PIECES)]]
        elif kind == 6:
            yield [
                "tool_call",
                call,
                chance.of((0, 1, "a", None)),
                chance.of(("tc", None)),
                None,
                chance.of(_PIECES),
            ]
        elif kind == 7:
            yield chance.of(_AROUND)
        elif kind == 8:
            yield ["block", call, {"type": "image", "size": chance.below(99), "note": chance.of(_PIECES)}]
        else:
            yield from self._end(call)

    def _begin(self) -> list[Any]:
        call: Json = {"i": self._next, "node": self._chance.of(("agent", "tools", ""))}
        if self._chance.one_in(3):
            call |= {"path": ["team"], "tags": ["x", "y"], "step": self._next, "model": "m-1"}
        self.open[self._next] = call
        self._next += 1
        return ["call", call]

    def _text(self, call: int) -> list[Any]:
        pieces = [self._chance.of(_PIECES) for _ in range(self._chance.below(4))]
        said = self._texts.setdefault(call, [])
        first = len(said)
        said += pieces
        if len(pieces) > 1 and self._chance.one_in(4):
            return ["text", call, first, ["".join(pieces)], len(pieces)]
        return ["text", call, first, pieces]

    def _end(self, call: int) -> Iterator[list[Any]]:
        said = self._texts.pop(call, [])
        if said:
            text = "".join(said).encode("utf-16-le", "surrogatepass")
            yield ["check", call, len(said), hashlib.sha256(text).hexdigest()[:16]]
        del self.open[call]
        yield [
            "call_end",
            call,
            self._chance.of(({}, {"finish": "stop", "msg": "m"}, {"error": "ValueError", "open": True})),
        ]


_AROUND: Sequence[list[Any]] = (
    ["tool", {"name": "search", "run": "r", "id": "tc", "node": "tools", "in": "q"}],
    ["tool_end", {"name": "search", "run": "r", "id": "tc", "out": "found", "cut": True}],
    ["retriever", {"name": "notes", "run": "r2", "step": 1}],
    ["retriever_end", {"name": "notes", "run": "r2", "count": 3, "out": [{"page_content": "x"}]}],
    ["node", {"node": "agent", "run": "n1", "step": 1, "task": "k"}],
    ["node_end", {"node": "agent", "run": "n1", "out": {"messages": [None, 1.5, True]}}],
    [
        "node_end",
        {"node": "agent", "run": "n2", "agent": "a", "mids": ["m"], "kids": ["k"], "iids": ["i", "j"]},
    ],
    ["custom", {"name": "progress", "data": [1, {"a": "b"}], "path": ["x"]}],
    ["graph", {"mode": "updates", "data": {"agent": {}}}],
    ["gap", None, 3, "overflow"],
)
