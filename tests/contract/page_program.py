"""The reader of the page as a program for the conformance suite: docs/conformance.md has the form.

`python -m tests.contract.page_program` answers each line of stdin with a line. Here is where a reader begins
and ends, and the names: what docs/protocol.md calls shortly has a long one in docs/events.schema.json.
"""

import base64
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.contract.page_reader import BROKEN, Reader, entry_id, frame_of, gap, lost_before, place_of

Json = dict[str, Any]

Place = tuple[str, int]  # an entry, and a position within it

START, TAIL = ("", -1), 999_000_000
EPOCH = datetime.fromtimestamp(0, UTC)
ORIGIN = {"namespace": "ns", "workflow_id": "wf", "workflow_type": "wft", "run_id": "run"}
ORIGIN |= {"activity_id": "act", "activity_type": "actt", "attempt": "try", "attempt_id": "a"}
SHORT = {
    "node_name": "node",
    "run_id": "run",
    "task_id": "task",
    "node_run_id": "nrun",
    "agent_name": "agent",
    "parent": "up",
    "metadata": "meta",
    "input": "in",
    "output": "out",
    "document_count": "count",
    "truncated": "cut",
    "unfinished": "open",
    "interrupted": "stop",
    "forwarded": "fwd",
    "made_ids": "mids",
    "known_ids": "kids",
    "known_inner_ids": "iids",
    "finish_reason": "finish",
    "message_id": "msg",
    "additional_kwargs": "more",
}
ABSENT: Json = {
    "name": "",
    "mode": "",
    "node": "",
    "run": "",
    "path": [],
    "tags": [],
    "mids": [],
    "kids": [],
    "iids": [],
}
ABSENT |= {"cut": False, "open": False, "stop": False, "fwd": False}
WHERE = "node_name path step task_id node_run_id"
CALL = f"{WHERE} run_id agent_name model provider tags tool_call_id parent metadata"
NAMED = f"{WHERE} name run_id tool_call_id"
NODE, IDS = f"{WHERE} run_id agent_name", "made_ids known_ids known_inner_ids"
AROUND = {
    "tool": ("tool_started", f"{NAMED} input truncated"),
    "tool_end": ("tool_ended", f"{NAMED} error output truncated unfinished interrupted"),
    "retriever": ("retriever_started", f"{NAMED} input truncated"),
    "retriever_end": ("retriever_ended", f"{NAMED} document_count error output truncated unfinished"),
    "node": ("node_started", NODE),
    "node_end": ("node_ended", f"{NODE} error output truncated unfinished interrupted forwarded {IDS}"),
    "custom": ("custom", f"{WHERE} name data truncated forwarded"),
    "graph": ("graph", "mode path data truncated"),
}
TYPES = {
    "call": "call_started",
    "call_end": "call_ended",
    "tool_call": "tool_call_chunk",
    "block": "content_block",
}
TYPES |= {"text": "token", "attempt": "attempt_started", "attempt_end": "attempt_ended"}


def answer(request: Json) -> Json:
    """Return what a request is answered: the events after its cursor."""
    stream = request["stream"]["namespace"], request["stream"]["workflow_id"], request["stream"]["run_id"]
    begun, cursor = request["begun"], request["cursor"]
    try:
        place, history = (START, "") if cursor is None else place_of(cursor)
    except (ValueError, AttributeError):
        return {"error": "cursor"}
    reads_all = place <= ("", 0)
    reader = Reader()
    found: list[tuple[Place, Json]] = []
    frames = [
        (entry_id(entry["id"]), _frame(entry, stream, sealed=request["sealed"]))
        for entry in request["entries"]
    ]
    last = frames[-1][0] if frames else ""
    if place[0] > last:  # the stream was lost since then
        reader.again, place = True, START
        found.append((("", 1), gap(None, "transport")))
    for first, frame in frames[:1]:
        was_reported = place[0] >= first if place[0] else not reads_all or reader.again
        reason = lost_before(first, frame["n"] if frame else 0, "" if was_reported else place[0], begun)
        reader.cut = reason or reader.cut
        if reason and not was_reported:
            found.append((("", 1), gap(None, reason)))
    for entry, frame in frames:
        events = reader.read(frame) if frame else []
        found += [((entry, position), event) for position, event in events if (entry, position) > place]
    if not frames and reads_all and entry_id((begun or "")[:101]):
        found.append((("", 1), gap(None, "trimmed")))
    if request["closed"]:
        unended = [attempt.origin for attempt in reader.newest.values() if not attempt.has_ended]
        tail = [((last, TAIL + number), origin) for number, origin in enumerate(unended)]
        found += [(at, {**gap(None, "unended"), "origin": origin}) for at, origin in tail if at > place]
    front = f"{history}." if history else ""
    events = [event_json(event, (front + entry, position), stream[2]) for (entry, position), event in found]
    return {"events": events, "skipped": sum(frame is None for _, frame in frames)}


def _frame(entry: Json, stream: tuple[str, str, str], *, sealed: bool) -> Json | None:
    stored = int(entry["id"].split("-")[0]) * 1000
    latest = min(stored + 600_000_000, int(time.time() * 1e6) + 86_400_000_000)  # in 10 minutes, tomorrow
    try:
        frame: Json = frame_of(_data(entry), stream, latest=latest, sealed=sealed)
    except BROKEN:
        return None
    return frame


def _data(entry: Json) -> bytes:
    if "base64" in entry:
        return base64.b64decode(entry["base64"])
    return str(entry["fields"].get("f", "")).encode("utf-8", "surrogatepass")


def event_json(event: Json, place: tuple[str, int], run_id: str) -> Json:
    """Return an event as docs/events.schema.json has it."""
    facts, kind = dict(event), event["kind"]
    origin: Any = event.get("origin")
    shown: Json = {"v": 1, "type": TYPES.get(kind, kind), "cursor": f"1~{run_id}~{place[0]}~{place[1]}"}
    shown["origin"] = origin and _origin(origin)
    if "call" in facts:
        shown["call"] = facts["call"] and _call(facts["call"], origin)
    match kind:
        case "attempt":
            before = facts["supersedes"]
            shown |= {"supersedes": before and _origin(before), "superseded_by": None}
        case "text":
            shown |= {"token": facts["token"], "index": facts["index"], "block": facts["block"]}
            shown |= {"node_name": shown["call"]["node_name"], "is_final": False, "attempt": origin["try"]}
        case "call_end":
            shown |= _named("finish_reason error message_id unfinished additional_kwargs", facts)
            shown |= {"streamed": not facts.get("whole"), "usage": _usage(facts.get("usage", {}))}
        case str() if kind in AROUND:
            shown["type"], names = AROUND[kind]
            shown |= _named(names, facts)
        case _:
            shown |= {name: value for name, value in facts.items() if name not in ("kind", "origin", "call")}
    return shown


def _origin(origin: Json) -> Json:
    times = {"started_time": origin["t"], "scheduled_time": origin.get("sch")}
    shown = {
        name: at if at is None else (EPOCH + timedelta(microseconds=at)).isoformat()
        for name, at in times.items()
    }
    return {name: origin[short] for name, short in ORIGIN.items()} | shown | {"parent": None}


def _call(call: Json, origin: Json) -> Json:
    named = _named(CALL, {**call, "id": call.get("tool")})
    return {"ordinal": call["i"], "id": f"{origin['act']}:{call['i']}", **named}


def _named(names: str, facts: Json) -> Json:
    shorts = {name: SHORT.get(name, name) for name in names.split()}
    if "tool_call_id" in shorts:
        shorts["tool_call_id"] = "id"
    return {name: facts.get(short, ABSENT.get(short)) for name, short in shorts.items()}


def _usage(usage: Json) -> Json | None:
    """Return what is numbers, and objects of numbers whose names end with `_details`."""
    found: Json = {}
    for name, count in usage.items():
        if name.endswith("_details"):
            if type(count) is dict:
                found[name] = {part: number for part, number in count.items() if type(number) is int}
        elif type(count) is int:
            found[name] = count
    return found or None


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
