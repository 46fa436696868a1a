"""A reader written from docs/protocol.md alone, without a line of the package: what a port would look like.

Events are dicts, as the stories of the contract tell them; `at` is the position within the entry.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

MINUTES_10, DAY = 600_000_000, 86_400_000_000  # microseconds
AROUND = {
    "tool": "ToolStarted",
    "tool_end": "ToolEnded",
    "retriever": "RetrieverStarted",
    "retriever_end": "RetrieverEnded",
    "node": "NodeStarted",
    "node_end": "NodeEnded",
    "custom": "CustomEvent",
    "graph": "GraphEvent",
}
FACTS: dict[str, type] = dict.fromkeys(
    ("name", "node", "run", "id", "error", "in", "mode"), str
)  # around the calls
FACTS |= {"path": list, "step": int, "cut": bool, "open": bool, "fwd": bool}
CALL: dict[str, type] = dict.fromkeys(("run", "node", "agent", "model", "provider", "tool"), str)
CALL |= {"path": list, "tags": list, "step": int, "meta": dict}
END = {"finish": str, "error": str, "msg": str, "whole": bool, "open": bool}


class NoFrame(Exception):
    """To be skipped, counted, and logged once."""


@dataclass
class Attempt:
    """What is known of an attempt."""

    name: str
    origin: dict[str, Any]
    next: int = 0
    superseded: bool = False
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    texts: dict[int, list[Any]] = field(default_factory=dict)  # pieces and text of each open call


def is_a(kind: type, value: Any) -> bool:
    """Whether JSON has a value of just this type: `true` is no number."""
    return type(value) is kind and (type(value) is not list or all(type(part) is str for part in value))


def need(kind: type, value: Any) -> Any:
    """Return the value, which has to be of a type; numbers from 0."""
    if not is_a(kind, value) or (kind is int and value < 0):
        raise ValueError(kind)
    return value


class Reader:
    """Reads the entries of one stream, in its order."""

    def __init__(self, namespace: str, workflow: str, run: str) -> None:
        self.stream = {"ns": namespace, "wf": workflow, "run": run}
        self.attempts: dict[str, Attempt] = {}
        self.newest: dict[tuple[str, Any], Attempt] = {}

    def read(
        self, data: bytes, *, stored: int, now: int, sealed_for: str | None = None
    ) -> list[dict[str, Any]]:
        """Return what an entry adds; raise `NoFrame` if it is none (steps 1 to 7)."""
        frame = self._frame(data, sealed_for)
        origin = frame.get("o")
        found: list[dict[str, Any]] = []
        if origin is not None and (origin["t"] - stored > MINUTES_10 or origin["t"] - now > DAY):
            raise NoFrame("from the future")
        attempt = self.attempts.get(frame["a"])
        if attempt is None:
            if origin is None:
                return []
            attempt, before = self._begin(frame["a"], origin)
            if not attempt.superseded:
                found.append(
                    {"type": "AttemptStarted", "at": 0, **({"supersedes": before} if before else {})}
                )
        missing = frame["n"] - attempt.next
        if attempt.superseded or missing < 0:
            return []
        if missing:
            reason = "lost" if attempt.next else "trimmed"
            found.append({"type": "Gap", "at": 1, "missing": missing, "reason": reason})
        if origin is not None:
            attempt.calls = {call["i"]: call for call in frame.get("c", [])}
        attempt.next = frame["n"] + 1
        at = 2
        for form in frame["e"]:
            try:
                events, taken = self._events(form, attempt)
            except (ValueError, TypeError, LookupError):
                events, taken = [{"type": "Gap", "missing": None, "reason": "unreadable"}], 1
            found += [{"at": at + place, **event} for place, event in enumerate(events)]
            at += taken
        return [{**event, "origin": frame["a"]} for event in found]

    def _frame(self, data: bytes, sealed_for: str | None) -> dict[str, Any]:
        try:
            frame = json.loads(data)
            if need(dict, frame).get("v") != 1 or not is_a(int, frame["v"]):
                raise NoFrame("version")
            need(str, frame["a"]), need(int, frame["n"])
            if type(frame["e"]) is not list:
                raise NoFrame("events")
            if "o" in frame:
                for name in ("ns", "wf", "wft", "run", "act", "actt"):
                    need(str, frame["o"][name])
                need(int, frame["o"]["try"])
                for time in {"t", *frame["o"].keys() & {"sch"}}:
                    if not is_a(int, frame["o"][time]) or abs(frame["o"][time]) > 2**57:
                        raise NoFrame("time")
                for call in frame.get("c", []):
                    self._call(call)
                if any(frame["o"][name] != value for name, value in self.stream.items()):
                    raise NoFrame("another stream")
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise NoFrame(str(error)) from error
        if sealed_for is not None and frame.get("s") != sealed_for:
            raise NoFrame("sealed for another stream")
        return dict(frame)

    def _begin(self, name: str, origin: dict[str, Any]) -> tuple[Attempt, str | None]:
        attempt = self.attempts[name] = Attempt(name, origin)
        activity = (origin["act"], origin.get("sch"))
        rival = self.newest.get(activity)
        if rival and (rival.origin["t"], rival.origin["try"]) > (origin["t"], origin["try"]):
            attempt.superseded = True
            return attempt, None
        self.newest[activity] = attempt
        if rival:
            rival.superseded = True
        return attempt, rival.name if rival else None

    def _call(self, call: Any) -> dict[str, Any]:
        need(int, call["i"])
        if any(
            name in call and call[name] is not None and not is_a(kind, call[name])
            for name, kind in CALL.items()
        ):
            raise ValueError("call")
        return dict(call)

    def _of(self, ordinal: Any, attempt: Attempt) -> dict[str, Any]:
        call = {"i": need(int, ordinal), "node": attempt.origin["actt"]}
        return attempt.calls.setdefault(ordinal, call)

    def _events(self, form: Any, attempt: Attempt) -> tuple[list[dict[str, Any]], int]:
        """Return the events of a form, and how many positions it takes."""
        if type(form) is not list:
            raise ValueError("form")
        match form:
            case ["text" | "reasoning" as kind, ordinal, index, texts, *more]:
                pieces = need(list, texts)
                need(int, index), need(int, count := more[0] if more else len(pieces))
                block = more[1] if len(more) > 1 and is_a(int, more[1]) and more[1] > 0 else 0
                call = self._of(ordinal, attempt)
                if kind == "text":
                    said = attempt.texts.setdefault(ordinal, [0, ""])
                    said[:] = [said[0] + count, said[1] + "".join(pieces)]
                name = {"type": "TokenEvent" if kind == "text" else "ReasoningEvent", "call": call}
                facts = {**name, "block": block}
                return [{**facts, "token": text, "index": index + i} for i, text in enumerate(pieces)], len(
                    pieces
                )
            case ["check", ordinal, count, digest, *_]:
                call = self._of(ordinal, attempt)
                read, text = attempt.texts.pop(ordinal, (0, ""))
                mine = hashlib.sha256(text.encode("utf-16-le", "surrogatepass")).hexdigest()[:16]
                missing = need(int, count) - read
                if missing == 0 and mine == digest:
                    return [], 1
                gap = {"missing": missing if missing > 0 else None, "reason": "mismatch", "call": call}
                return [{"type": "Gap", **gap}], 1
            case ["call", facts, *_]:
                call = attempt.calls[facts["i"]] = self._call(facts)
                return [{"type": "CallStarted", "call": call}], 1
            case ["call_end", ordinal, facts, *_]:
                for member, kind in END.items():
                    if member in facts and not is_a(kind, facts[member]):
                        raise ValueError(member)
                call = self._of(ordinal, attempt)
                del attempt.calls[ordinal]
                return [{"type": "CallEnded", "call": call, "facts": facts}], 1
            case ["tool_call", ordinal, index, id_, name, args, *_]:
                facts = {"index": index, "id": id_, "name": name, "args": need(str, args)}
                return [{"type": "ToolCallChunk", "call": self._of(ordinal, attempt), **facts}], 1
            case ["block", ordinal, block, *_]:
                call = self._of(ordinal, attempt)
                return [{"type": "ContentBlock", "call": call, "block": need(dict, block)}], 1
            case ["gap", ordinal, missing, reason, *_]:
                call = {} if ordinal is None else {"call": self._of(ordinal, attempt)}
                return [{"type": "Gap", "missing": missing, "reason": need(str, reason), **call}], 1
            case ["attempt_end", outcome, will_retry, *_]:
                attempt.calls.clear()
                return [{"type": "AttemptEnded", "outcome": need(str, outcome), "will_retry": will_retry}], 1
            case [str(kind), facts, *_] if kind in AROUND:
                if any(name in facts and not is_a(kind_, facts[name]) for name, kind_ in FACTS.items()):
                    raise ValueError("facts")
                return [{"type": AROUND[kind], "facts": facts}], 1
            case [str(kind), *_] if kind not in FORMS:
                return [], 1  # of a later version
        raise ValueError("form")


def entry_id(redis_id: str) -> str | None:
    """Return an id of Redis as cursors have it; None if it is none."""
    match = re.fullmatch("([0-9]{1,20})-([0-9]{1,20})", redis_id)
    if match is None or max(map(int, match.groups())) >= 2**64:
        return None
    pairs = zip(match.groups(), (15, 10), strict=True)
    return "-".join(f"{n:0>{width}}" if len(n) <= width else f"z{n:0>20}" for n, width in pairs)


def lost_before(first: str, n: int, cursor: str | None, begun: str | None) -> str | None:
    """Return the reason of the gap before the oldest entry; None if there is none."""
    began = entry_id(begun or "")
    if cursor is not None:
        if cursor >= first:
            return None
        return "trimmed" if began and began <= cursor else "transport"
    if began and began < first:
        return "trimmed"
    return "transport" if n else None


FORMS = {"text", "reasoning", "check", "call", "call_end", "tool_call", "block", "gap", "attempt_end"}
FORMS |= {*AROUND}
