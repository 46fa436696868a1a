"""The protocol as data: `*.json` here and the examples in docs/protocol.md, read and written by the codec.

A client in another language can run the same files:

* a story has `origins` and `calls` by name, and `entries`, to be read in order as one stream: what stands in
  `entry` (JSON) or `data` (raw text) gives `events`, or is `refused`. `at` is the event's position; fields
  that hold their default are left out. Where there is a `frame`, writing it gives `entry`.
  `stored` is when Redis stored it, as its id shows, and `now` when it is read, in microseconds; `opened`
  entries were sealed. The stream is that of the first origin.
* `keys.json` and `cursors.json` have both sides of each name.
* `lost_entries.json` has what shows that a stream has lost its beginning, and the gap that is reported.
"""

import dataclasses
import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from temporal_token_interceptor import event_from_json
from temporal_token_interceptor import events as package_events
from temporal_token_interceptor.errors import InvalidCursor, ProtocolError
from temporal_token_interceptor.events import (
    AttemptStarted,
    Call,
    Event,
    Frame,
    Gap,
    Origin,
    ReasoningEvent,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.event_json import unfold
from temporal_token_interceptor.protocol.frames import check_time, decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.lost_entries import cut_before
from temporal_token_interceptor.transport.redis.connection import entry_id, server_id
from temporal_token_interceptor.transport.redis.keys import FIELD, Keys
from tests.contract import page_reader
from tests.contract.page_program import event_json

TIMES = ("started_time", "scheduled_time")

HERE = Path(__file__).parent
DOCUMENT = (HERE.parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")


def load(name: str) -> Any:
    """One of the files here."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


class Story:
    """One file of entries."""

    def __init__(self, name: str) -> None:
        self.story = load(name)
        self.entries = self.story["entries"]
        self.origins = {name: _origin(facts) for name, facts in self.story["origins"].items()}
        self.stream = StreamKey.of(next(iter(self.origins.values())))
        self.calls = {name: _call(facts) for name, facts in self.story["calls"].items()}

    def frame(self, facts: dict[str, Any]) -> Frame:
        """The frame that a worker writes."""
        return Frame(
            self.origins[facts["origin"]],
            facts["seq"],
            tuple(self._record(dict(record)) for record in facts["records"]),
            header=facts.get("header", False),
            open_calls=tuple(self.calls[name] for name in facts.get("open_calls", ())),
            traceparent=facts.get("traceparent"),
            waiting_since=facts.get("waiting_since"),
        )

    def _record(self, facts: dict[str, Any]) -> Any:
        name = facts.pop("type")
        kind = getattr(package_events, name)
        if name != "TextRun" and facts.get("call"):
            facts["call"] = self.calls[facts["call"]]
        return kind(**facts)

    def shown(self, event: Event) -> dict[str, Any]:
        """An event as the file shows it."""
        shown: dict[str, Any] = {
            "type": type(event).__name__,
            "at": Cursor.parse(event.cursor).position,
        }
        for field in dataclasses.fields(event):
            value = getattr(event, field.name)
            if field.name == "cursor" or value == field.default:
                continue
            if field.name == "origin":
                value = _name_of(value, self.origins)
            elif field.name == "call":
                value = _name_of(value, self.calls)
            elif isinstance(value, tuple):
                value = list(value)
            elif field.name == "supersedes":
                value = value.attempt_id
            shown[field.name] = value
        return shown


STORIES = sorted(
    path.name for path in HERE.glob("*.json") if "entries" in json.loads(path.read_text("utf-8"))
)


def data_of(entry: dict[str, Any]) -> bytes:
    """What is stored for an entry of a story."""
    return entry["data"].encode() if "data" in entry else json.dumps(entry["entry"]).encode()


MINUTES_10, DAY = 600_000_000, 86_400_000_000  # microseconds

LATER = 2**51
"""Microseconds since 1970: when entries are read, and were stored, where a story does not say."""


def time_of(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


@pytest.mark.parametrize("name", STORIES)
def test_entries_read_as_the_contract_says(name):
    """Every entry of a story, in order, gives the events that are written next to it, or is refused."""
    story = Story(name)
    attempts = Attempts(story.story["run_id"])

    def read(place: int, entry: dict[str, Any]) -> list[Event]:
        packet = decode(data_of(entry), story.stream, is_opened=entry.get("opened", False))
        check_time(packet, time_of(entry.get("stored", LATER)), time_of(entry.get("now", LATER)))
        return attempts.read(f"{place:012d}", packet)

    for place, entry in enumerate(story.entries, 1):
        if "refused" in entry:
            with pytest.raises(ProtocolError, match=entry["refused"]):
                read(place, entry)
        else:
            assert [story.shown(event) for event in read(place, entry)] == entry["events"], entry["about"]


@pytest.mark.parametrize("name", STORIES)
def test_a_reader_written_from_the_page_alone_reads_the_same(name):
    """docs/protocol.md is enough: `page_reader.py` imports nothing of ours, and passes the same data."""
    story = Story(name)
    reader = page_reader.Reader()

    for place, entry in enumerate(story.entries, 1):
        latest = min(entry.get("stored", LATER) + MINUTES_10, entry.get("now", LATER) + DAY)
        is_sealed = entry.get("opened", False)
        try:
            frame = page_reader.frame_of(data_of(entry), story.stream, latest=latest, sealed=is_sealed)
        except page_reader.BROKEN:
            assert "refused" in entry, entry["about"]
        else:
            assert "refused" not in entry, entry["about"]
            shown = [
                story.shown(event_of(event_json(event, (f"{place:012d}", position), "run")))
                for position, event in reader.read(frame)
            ]
            assert shown == entry["events"], entry["about"]


def event_of(value: dict[str, Any]) -> Event:
    """The event of a JSON form; also one with a word of a later writer, which `event_from_json` refuses."""
    words = {name: value[name] for name in ("reason", "outcome") if name in value}
    known = {"reason": "lost", "outcome": "failed"}
    event = event_from_json({**value, **{name: known[name] for name in words}})
    return dataclasses.replace(event, **words)


def test_the_reader_of_the_page_is_short_and_imports_nothing_of_ours():
    """A port to another language is a day's work: 200 lines, and a program around it for the suite."""
    reader, program = ((HERE / f"page_{name}.py").read_text("utf-8") for name in ("reader", "program"))

    assert len(reader.splitlines()) <= 200
    for text in (reader, program):
        assert "temporal_token_interceptor" not in text


@pytest.mark.parametrize("name", STORIES)
def test_frames_are_written_as_the_contract_says(name):
    """What a worker of ours writes is what the story holds."""
    story = Story(name)

    for entry in story.entries:
        if "frame" in entry:
            assert json.loads(encode(story.frame(entry["frame"]))) == entry["entry"], entry["about"]


def test_every_story_is_read_and_some_are_written():
    """A file that nobody reads proves nothing."""
    stories = [Story(name) for name in STORIES]

    assert len(stories) >= 5
    assert all(
        ("events" in entry) is ("refused" not in entry) for story in stories for entry in story.entries
    )
    assert sum("frame" in entry for story in stories for entry in story.entries) >= 10
    kinds = {
        event["type"] for story in stories for entry in story.entries for event in entry.get("events", ())
    }
    assert kinds == {kind.__name__ for kind in Event.__args__} - {"RunContinued", "StreamEnded"}


@pytest.mark.parametrize("key", load("keys.json")["keys"], ids=lambda key: key["stream"])
def test_keys_are_named_as_the_contract_says(key):
    """Whoever knows a run finds its stream."""
    stream = StreamKey(key["namespace"], key["workflow_id"], key["run_id"])

    assert Keys("tti:v1:").stream(stream) == key["stream"]
    assert Keys("tti:v1:").pointer(stream) == key["pointer"]
    assert Keys("tti:v1:").begun(stream) == key["begun"]
    assert load("keys.json")["field"] == FIELD


@pytest.mark.parametrize("cursor", load("cursors.json")["cursors"], ids=lambda cursor: cursor["text"])
def test_cursors_are_written_and_read_as_the_contract_says(cursor):
    """A stored cursor is good for as long as its stream is."""
    place = Cursor(cursor["run_id"], cursor["entry"], cursor["position"])

    assert str(place) == cursor["text"]
    assert Cursor.parse(cursor["text"]) == place


@pytest.mark.parametrize("text", load("cursors.json")["refused"])
def test_other_cursors_are_refused(text):
    """Nothing else is taken for a place."""
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


LOST = load("lost_entries.json")


@pytest.mark.parametrize("case", LOST["cases"], ids=lambda case: case["about"])
def test_a_lost_beginning_is_reported_as_the_contract_says(case):
    """The reason says where to look: at the bound of the stream, or at Redis."""
    begun = ""
    with suppress(InvalidCursor):
        begun = entry_id(case["begun"] or "")

    found = cut_before(case["first"], case["n"], mark=case["cursor"] or "", begun=begun)
    of_the_page = page_reader.lost_before(case["first"], case["n"], case["cursor"], case["begun"])

    assert found == case["gap"]
    assert of_the_page == case["gap"]


def test_entry_ids_are_written_as_the_contract_says():
    """Also those that a client made up: they sort as Redis sorts them, and lead back to it."""
    pairs = [(one["redis"], one["entry"]) for one in LOST["ids"]]

    for redis, entry in pairs:
        assert (entry_id(redis), page_reader.entry_id(redis), server_id(entry)) == (entry, entry, redis)
        assert Cursor.parse(str(Cursor("0f0e4d5a-0000-4000-8000-000000000001", entry, 2))).transport == entry
    assert [entry for _, entry in pairs] == sorted(entry for _, entry in pairs)


# ------------------------------------------------------------------ docs/protocol.md

FORMS = [form.replace("\\|", "|") for form in re.findall(r"`(\[\"\w+\",.*?\])`", DOCUMENT)]
EXAMPLE = re.findall(r"```json\n(\{.*?\})\n```\n\n```text\n(.*?)```", DOCUMENT, flags=re.DOTALL)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_in_the_document_can_be_read(form):
    """What the specification shows is what the codec knows."""
    (origin, *_) = Story("whole_attempt.json").origins.values()

    events = unfold([json.loads(form)], origin, {}, "")

    assert events
    assert all(not isinstance(event, Gap) or event.reason != "unreadable" for event in events)


def test_the_document_shows_every_form():
    """Text, reasoning and all others."""
    assert {json.loads(form)[0] for form in FORMS} == {
        "text",
        "reasoning",
        "call",
        "call_end",
        "check",
        "tool_call",
        "block",
        "tool",
        "tool_end",
        "retriever",
        "retriever_end",
        "node",
        "node_end",
        "custom",
        "graph",
        "attempt_end",
        "gap",
    }


def test_the_worked_example_in_the_document_reads_as_it_says():
    """Entry by entry, with the events and their positions."""
    attempts = Attempts("run")

    for entry, said in EXAMPLE:
        events = attempts.read("1", decode(entry.encode()))
        assert [_line(event) for event in events] == said.splitlines()

    assert len(EXAMPLE) >= 5


def test_every_frame_in_the_document_can_be_read():
    """No JSON is printed there that the codec refuses."""
    blocks = re.findall(r"```json\n(.*?)\n```", DOCUMENT, flags=re.DOTALL)

    assert [decode(block.encode()).attempt_id for block in blocks]


def _line(event: Event) -> str:
    """An event as the worked example prints it."""
    position = Cursor.parse(event.cursor).position
    match event:
        case TokenEvent() | ReasoningEvent():
            return f"{position}  {type(event).__name__}  {json.dumps(event.token)}"
        case AttemptStarted():
            superseded = event.supersedes.attempt_id if event.supersedes else "nothing"
            return f"{position}  AttemptStarted  supersedes {superseded}"
        case Gap():
            return f"{position}  Gap  {event.missing} {event.reason}"
        case _:
            return f"{position}  {type(event).__name__}"


def _origin(facts: dict[str, Any]) -> Origin:
    times = {name: datetime.fromisoformat(facts[name]) for name in TIMES if name in facts}
    return Origin(**{**facts, **times})


def _call(facts: dict[str, Any]) -> Call:
    lists: dict[str, Any] = {name: tuple(facts[name]) for name in ("path", "tags") if name in facts}
    return Call(**{**facts, **lists})


def _name_of(value: Any, named: dict[str, Any]) -> Any:
    return next((name for name, one in named.items() if one == value), repr(value))
