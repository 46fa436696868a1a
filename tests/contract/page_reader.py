"""A reader written from docs/protocol.md alone, without a line of the package: what a port would look like.

Its events have the kinds and facts of their forms; page_program.py adds the names of docs/events.schema.json.
"""

import hashlib
import json
import re
from types import SimpleNamespace
from urllib.parse import quote

BROKEN = (ValueError, TypeError, LookupError, OverflowError, RecursionError)
TEXTS = "ns wf wft act actt run node agent model provider tool task nrun name id error in mode finish msg"
TYPES = dict.fromkeys(TEXTS.split(), str) | dict.fromkeys(("cut", "open", "stop", "fwd", "whole"), bool)
TYPES |= dict.fromkeys(("i", "step", "up", "count", "try"), int) | {"more": dict}
TYPES |= {"meta": dict, "usage": dict} | dict.fromkeys(("path", "tags", "mids", "kids", "iids"), list)
NAMED = {"tool": "name", "tool_end": "name", "retriever": "name", "retriever_end": "name", "custom": "name"}
AROUND = {**NAMED, "graph": "mode", "node": "", "node_end": ""}  # and the member that is always there
FORMS = {"text", "reasoning", "check", "call", "call_end", "tool_call", "block", "gap", "attempt_end"}
MOST_BYTES, MOST_VALUES, DEEPEST = 2**24, 100_000, 256
YEARS = range(-62_135_596_800_000_000, 253_402_300_800_000_000)  # 1 to 9999, in microseconds
PLAIN = " !\"#$&'()*+,:;<=>?@[]\\^`|"  # in names of streams as they are, like letters, digits and `-._~`


def need(kind, value):
    """Return a value of a type: `true` is no number, numbers count from 0, lists are of texts."""
    is_bad = type(value) is not kind or (kind is int and value < 0)
    if is_bad or (kind is list and not all(type(part) is str for part in value)):
        raise ValueError(kind)
    return value


def facts_of(value):
    """Return the facts of a call, or of what is around it; a member that is null is absent."""
    known = {name: fact for name, fact in need(dict, value).items() if fact is not None}
    return {name: need(TYPES[name], fact) if name in TYPES else fact for name, fact in known.items()}


def depth_of(value):
    parts = value.values() if type(value) is dict else value
    return 1 + max(map(depth_of, parts), default=0) if type(value) in (dict, list) else 0


def frame_of(data, stream, *, latest, sealed=False):
    """Return a frame (step 1). Raise one of `BROKEN` if it is none of this stream, or later than `latest`."""
    frame = json.loads(text := data.decode(), parse_constant=int) if len(data) <= MOST_BYTES else {}
    need(str, frame["a"]), need(int, frame["n"])
    is_small = len(re.sub(r'"(?:[^"\\]|\\.)*"|[^[{,"]+', "", text)) <= MOST_VALUES
    if (
        not is_small
        or depth_of(frame) > DEEPEST
        or need(int, frame["v"]) != 1
        or type(frame["e"]) is not list
    ):
        raise ValueError("no frame of version 1")
    if sealed and frame.get("s") != "/".join(quote(part, safe=PLAIN) for part in stream):
        raise ValueError("sealed for another stream")
    if frame.get("o") is not None:
        header = frame["o"] = facts_of(frame["o"])
        times = header["t"], header.get("sch", 0)
        is_ours = (header["ns"], header["wf"], header["run"]) == stream and header["t"] <= latest
        is_whole = {"wft", "act", "actt", "try"} <= header.keys()
        if not is_ours or not is_whole or not all(type(time) is int and time in YEARS for time in times):
            raise ValueError("a header of another stream, of the future, or not whole")
        frame["c"] = {need(int, call["i"]): facts_of(call) for call in frame.get("c") or []}
    return frame


class Reader:
    """Reads the frames of one stream, in its order."""

    def __init__(self):
        self.attempts, self.newest = {}, {}
        self.cut = "trimmed"  # why the beginning of an attempt is missing
        self.again = False  # whether all may have been shown before

    def read(self, frame):
        """Return the events that a frame adds, each with its position (steps 2 to 6)."""
        header, attempt, found = frame.get("o"), self.attempts.get(frame["a"]), []
        if attempt is None:
            if header is None:
                return []
            attempt = SimpleNamespace(origin=header | {"a": frame["a"]}, next=0, calls={}, said={}, lost="")
            attempt.age, attempt.has_ended = (header["t"], header["try"]), False
            found = [(0, {"kind": "attempt", "supersedes": one}) for one in self._begin(attempt)]
        missing = frame["n"] - attempt.next
        if not attempt.stands or missing < 0:
            return []
        if missing:
            attempt.lost = "lost" if attempt.next else self.cut
            found.append((1, gap(missing, attempt.lost)))
        if header is not None:
            attempt.calls = frame["c"]
        attempt.next, position = frame["n"] + 1, 2
        for form in frame["e"]:
            try:
                events = unfolded(form, attempt)
                taken = len(events) if form[0] in ("text", "reasoning") else 1
            except BROKEN:
                events, taken = [gap(None, "unreadable")], 1
            found += [(position + place, event) for place, event in enumerate(events)]
            position += taken
        return [(place, {"origin": attempt.origin, **event}) for place, event in found]

    def _begin(self, attempt):
        """Note an attempt; return what it supersedes (step 3)."""
        activity = attempt.origin["act"], attempt.origin.get("sch")
        self.attempts[attempt.origin["a"]], rival = attempt, self.newest.get(activity)
        attempt.stands = rival is None or rival.age <= attempt.age
        if attempt.stands:
            self.newest[activity] = attempt
        gone = [attempt.origin] if self.again else []
        if rival and attempt.stands:
            rival.stands = False
            gone.append(rival.origin)
        return gone or [None]


def unfolded(form, attempt):
    """Return the events of a form. Raise one of `BROKEN`, and change nothing, if it is none."""

    def call(number):
        return attempt.calls.get(need(int, number), {"i": number, "node": attempt.origin["actt"]})

    match form:
        case ["text" | "reasoning" as kind, number, index, list(pieces), *more]:
            text, merged = "".join(pieces), need(int, more[0]) if more else len(pieces)
            block = more[1] if len(more) > 1 and type(more[1]) is int and more[1] > 0 else 0
            facts = {"kind": kind, "call": call(number), "block": block, "index": need(int, index)}
            if kind == "text":
                read, before = attempt.said.get(number, (0, ""))
                attempt.said[number] = (read + merged, before + text)
            return [{**facts, "token": piece, "index": index + i} for i, piece in enumerate(pieces)]
        case ["check", number, count, str(digest), *_]:  # step 7
            known, missing = call(number), need(int, count)
            read, text = attempt.said.pop(number, (0, ""))
            mine = hashlib.sha256(text.encode("utf-16-le", "surrogatepass")).hexdigest()[:16]
            missing = count - read if count > read else None
            reason = "transport" if attempt.lost == "transport" else "mismatch"
            return [] if (count, digest) == (read, mine) else [gap(missing, reason, known)]
        case ["call", dict(facts), *_]:
            attempt.calls[need(int, facts["i"])] = known = facts_of(facts)
            return [{"kind": "call", "call": known}]
        case ["call_end", number, dict(facts), *_]:
            ended = {**facts_of(facts), "kind": "call_end", "call": call(number)}
            attempt.calls.pop(number, None)
            return [ended]
        case ["tool_call", number, index, str() | None as id_, str() | None as name, str(args), *more]:
            if type(index) not in (int, str, type(None)):
                raise ValueError("index")
            facts = {"index": index, "id": id_, "name": name, "args": args}
            facts["invalid"] = bool(more) and more[0] is True
            return [{"kind": "tool_call", "call": call(number), **facts}]
        case ["block", number, dict(block), *_]:
            return [{"kind": "block", "call": call(number), "block": block}]
        case ["gap", number, missing, str(reason), *_]:
            known = None if number is None else call(number)
            return [gap(None if missing is None else need(int, missing), reason, known)]
        case ["attempt_end", str(outcome), bool() | None as will_retry, *_]:
            attempt.has_ended = True
            attempt.calls.clear()
            return [{"kind": "attempt_end", "outcome": outcome, "will_retry": will_retry}]
        case ["tool_end", {"out": out}, *_] if type(out) not in (str, type(None)):
            raise ValueError("out")
        case [str(kind), facts, *_] if kind in AROUND and AROUND[kind] in {"", *facts_of(facts)}:
            return [{**facts_of(facts), "kind": kind}]
        case [str(kind), *_] if kind not in FORMS | AROUND.keys():
            return []  # of a later version
    raise ValueError("broken")


def gap(missing, reason, call=None):
    return {"kind": "gap", "missing": missing, "reason": reason, "call": call}


def entry_id(redis_id):
    """Return an id of Redis as cursors have it; empty for what is none."""
    match = re.fullmatch("([0-9]{1,20})-([0-9]{1,20})", redis_id)
    if match is None or max(map(int, match.groups())) >= 2**64:
        return ""
    pairs = zip(match.groups(), (15, 10), strict=True)
    return "-".join(f"{n:0>{width}}" if len(n) <= width else f"z{n:0>20}" for n, width in pairs)


def place_of(cursor):
    """Return the place of a cursor, and its entry of the history. Raise one of `BROKEN` if it is none."""
    entries, position = re.fullmatch(r"1~[\w-]+~([\w.-]*)~([0-9]{1,9})", cursor[:129], re.ASCII).groups()
    history = next((part for part in entries.split(".") if part.startswith("h")), "")
    mine = next((part for part in entries.split(".") if not part.startswith("h")), "")
    if len(cursor) > 128 or not re.fullmatch("(z?[0-9]{1,20}-z?[0-9]{1,20})?", mine):
        raise ValueError("no cursor, or of another transport")
    return (mine, int(position) if not history or entries.endswith(f".{mine}") else 999_999_999), history


def lost_before(first, n, cursor, begun):
    """Return the reason of the gap before the oldest entry; None if there is none."""
    began = entry_id((begun or "")[:101])
    is_older = "" < began <= cursor if cursor else "" < began < first
    is_lost = cursor < first if cursor else n > 0 or is_older
    return ("trimmed" if is_older else "transport") if is_lost else None
