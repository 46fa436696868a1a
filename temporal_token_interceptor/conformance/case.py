"""A case: entries of one stream, and the events that a reader must give."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.connection import entry_id

STREAM = StreamKey("default", "order-7", "0f0e4d5a-0000-4000-8000-000000000001")

Json = dict[str, Any]

_STARTED = 1_767_323_045_000_006  # microseconds: when the first attempt of a case started
_STORED = 1_767_323_400_000  # milliseconds: when the first entry of a case was stored
_MINUTE = 60_000_000

# Attempts that the named cases use by name: three of one activity, one of another.
_ATTEMPTS: Mapping[str, Json] = {
    "one": {"act": "1", "try": 1, "t": _STARTED},
    "two": {"act": "1", "try": 2, "t": _STARTED + _MINUTE},
    "three": {"act": "1", "try": 3, "t": _STARTED + 2 * _MINUTE},
    "other": {"act": "2", "try": 1, "t": _STARTED + 1},
}


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        group: Which part of docs/protocol.md it is about.
        name: What happens, unique in its group.
        request: What a reader is given: one line of JSON.
        expected: What it must answer. Of an event only the members that stand here are compared.
        is_exact: Whether all members of all events stand there.
        rule: Which rule of docs/protocol.md it holds, by `rules`; empty if it is about no one of them.
    """

    group: str
    name: str
    request: Json
    expected: Json
    is_exact: bool = False
    rule: str = ""


def named_cases() -> Iterator[Case]:
    """Yield the cases of the files in `cases/`, group by group."""
    for content in _files():
        for case in content["cases"]:
            yield _case(content["group"], case)


def rules() -> Mapping[str, str]:
    """Return what each rule demands, by its name: `newest.start`."""
    return {
        f"{content['group']}.{name}": demand
        for content in _files()
        for name, demand in content["rules"].items()
    }


def _files() -> Iterator[Json]:
    folder = files("temporal_token_interceptor.conformance").joinpath("cases")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            yield json.loads(file.read_text(encoding="utf-8"))


def request_of(
    name: str,
    entries: list[Json],
    *,
    begun: str | None = None,
    cursor: str | None = None,
    sealed: bool = False,
    closed: bool = False,
) -> Json:
    """Return what a reader is given for a case: docs/conformance.md has the form."""
    stream = {"namespace": STREAM.namespace, "workflow_id": STREAM.workflow_id, "run_id": STREAM.run_id}
    asked = {"begun": begun, "cursor": cursor, "sealed": sealed, "closed": closed}
    return {"case": name, "stream": stream, "entries": entries, **asked}


def stored_id(place: int) -> str:
    """Return the id that Redis gave to an entry, by its place in the stream; there may be some before."""
    return f"{_STORED + 10 * place}-0"


def origin_of(name: str, **changed: Any) -> Json:
    """Return the origin of one of the attempts that the cases name, with members changed."""
    stream = {"ns": STREAM.namespace, "wf": STREAM.workflow_id, "wft": "Order", "run": STREAM.run_id}
    return {**stream, "actt": "answer", **_ATTEMPTS[name], **changed}


def _case(group: str, case: Json) -> Case:
    entries = [_entry(place, entry) for place, entry in enumerate(case["entries"])]
    begun = case.get("begun")
    cursor = case.get("cursor")
    request = request_of(
        f"{group}/{case['name']}",
        entries,
        begun=None if begun is None else stored_id(begun),
        cursor=_cursor(cursor) if isinstance(cursor, dict) else cursor,
        sealed=case.get("sealed", False),
        closed=case.get("closed", False),
    )
    request["stream"] |= case.get("stream", {})
    rule = f"{group}.{case['rule']}"
    if "error" in case:
        return Case(group, case["name"], request, {"error": case["error"]}, rule=rule)
    expected = [
        _event(place, event)
        for place, entry in enumerate(case["entries"])
        for event in entry.get("events", ())
    ]
    if "before" in case:
        expected[:0] = [_event(None, event) for event in case["before"]]
    expected += [_event(len(entries) - 1, event) for event in case.get("after", ())]
    answer: Json = {"events": expected}
    if "skipped" in case:
        answer["skipped"] = case["skipped"]
    return Case(group, case["name"], request, answer, rule=rule)


def _entry(place: int, entry: Json) -> Json:
    """Return an entry as a reader gets it, from the short form of the files."""
    id_ = entry.get("id", stored_id(entry.get("place", place)))
    if "fields" in entry:
        return {"id": id_, "fields": entry["fields"]}
    if "base64" in entry:
        return {"id": id_, "base64": entry["base64"]}
    if "raw" in entry:
        text = entry["raw"]
        if "repeat" in entry:  # what is too long for a file
            part, times = entry["repeat"]
            text = text.replace("<repeat>", part * times)
        return {"id": id_, "fields": {"f": text}}
    frame = {"v": 1, **{key: value for key, value in entry.items() if key not in _NOT_OF_THE_FRAME}}
    if (header := entry.get("o")) is not None:
        frame["o"] = origin_of(entry["a"], **(header if isinstance(header, dict) else {}))
    return {"id": id_, "fields": {"f": json.dumps(frame, separators=(",", ":"))}}


_NOT_OF_THE_FRAME = ("events", "about", "id", "place", "o")


def _event(place: int | None, event: list[Any]) -> Json:
    kind, position, *more = event
    members: Json = more[0] if more else {}
    if place is not None:
        members = {"cursor": _cursor({"entry": place, "position": position}), **members}
    return {"type": kind, **members}


def _cursor(place: Json) -> str:
    entry = place["entry"]
    return str(Cursor(STREAM.run_id, "" if entry is None else entry_id(stored_id(entry)), place["position"]))


def data_of(entry: Json) -> bytes:
    """Return the value of an entry's field `f`; empty if it has none."""
    if "base64" in entry:
        return base64.b64decode(entry["base64"])
    text: str = entry["fields"].get("f", "")
    return text.encode("utf-8", "surrogatepass")
