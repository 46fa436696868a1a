"""Frames, stream names and cursors: what is written is what is read, whatever it holds."""

import json
import math
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from temporal_token_interceptor.errors import ConfigurationError, InvalidCursor, ProtocolError
from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Frame,
    Gap,
    Origin,
    ReasoningEvent,
    Record,
    TextRun,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.protocol import frames as frames_module
from temporal_token_interceptor.protocol.cursor import MAX_CURSOR, Cursor, Position
from temporal_token_interceptor.protocol.event_json import unfold
from temporal_token_interceptor.protocol.frames import Packet, _Plain, decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey

ORIGIN = Origin(
    namespace="default",
    workflow_id="order-7",
    workflow_type="Order",
    run_id="run",
    activity_id="1",
    activity_type="answer",
    attempt_id="a1",
    started_time=datetime(2026, 1, 2, tzinfo=UTC),
)
CALL = Call(ordinal=0, id="1:0", run_id="lc", node_name="agent")

# ------------------------------------------------------------------ arbitrary frames

anything = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates, too
something = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=20)
small = st.integers(0, 2**31)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(
    anything, st.none() | st.booleans() | st.integers(-99, 99) | anything, max_size=3
)

origins = st.builds(
    Origin,
    namespace=anything,
    workflow_id=anything,
    workflow_type=anything,
    run_id=anything,
    activity_id=anything,
    activity_type=anything,
    attempt=st.integers(1, 2**31),
    attempt_id=anything,
    started_time=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
)


@st.composite
def calls(draw, ordinal, activity_id):
    """A call as the reader of a frame of this activity sees it."""
    return Call(
        ordinal=ordinal,
        id=f"{activity_id}:{ordinal}",
        run_id=draw(anything),
        node_name=draw(anything),
        path=tuple(draw(st.lists(anything, max_size=2))),
        step=draw(st.none() | small),
        agent_name=draw(st.none() | something),
        model=draw(st.none() | something),
        provider=draw(st.none() | something),
        tags=tuple(draw(st.lists(anything, max_size=2))),
    )


def records(call: Call) -> st.SearchStrategy[Record]:
    """Everything that a frame may say of an open call."""
    texts = st.lists(anything, min_size=1, max_size=4)
    return st.one_of(
        st.builds(
            lambda kind, first, texts, block: TextRun(kind, call.ordinal, first, texts, len(texts), block),
            st.sampled_from(["text", "reasoning"]),
            small,
            texts,
            st.integers(0, 2),
        ),
        st.builds(
            ToolCallChunk,
            index=st.none() | small | anything,
            id=st.none() | anything,
            name=st.none() | anything,
            args=anything,
            call=st.just(call),
        ),
        st.builds(ContentBlock, block=json_objects, call=st.just(call)),
        st.builds(
            Gap,
            missing=st.none() | small,
            reason=st.sampled_from(["overflow", "lost"]),
            call=st.none() | st.just(call),
        ),
    )


ends = st.builds(
    CallEnded,
    call=st.just(CALL),
    usage=st.none() | st.dictionaries(anything, small, min_size=1, max_size=3),
    finish_reason=st.none() | something,
    error=st.none() | something,
    message_id=st.none() | something,
    streamed=st.booleans(),
    unfinished=st.booleans(),
)


@st.composite
def frames(draw):
    """A frame with open calls in its header, and calls that start and end in it."""
    origin = draw(origins)
    open_calls = [draw(calls(ordinal, origin.activity_id)) for ordinal in range(draw(st.integers(0, 2)))]
    said: list[Record] = []
    for call in open_calls:
        said += draw(st.lists(records(call), max_size=2))
    new = draw(calls(len(open_calls), origin.activity_id))
    said += [CallStarted(call=new), *draw(st.lists(records(new), max_size=3))]
    if draw(st.booleans()):
        said.append(AttemptEnded(outcome="failed", will_retry=draw(st.none() | st.booleans())))
    return Frame(origin, draw(small), tuple(said), header=True, open_calls=tuple(open_calls))


def unfolded(packet: Packet, origin: Origin | None = None) -> list[Any]:
    """The events of a packet, each with its number for a cursor."""
    table = {call.ordinal: call for call in packet.open_calls}
    return unfold(packet.events, origin or packet.origin or ORIGIN, table, "")


def expected(frame: Frame) -> list[Any]:
    """The events that a reader must see for a frame, told without the codec."""
    table = {call.ordinal: call for call in frame.open_calls}
    seen: list[Any] = []
    for record in frame.records:
        common: dict[str, Any] = {"origin": frame.origin}
        match record:
            case TextRun(kind="text"):
                call = table[record.call]
                seen += [
                    TokenEvent(
                        text,
                        call.node_name,
                        record.first_index + place,
                        attempt=frame.origin.attempt,
                        call=call,
                        block=record.block,
                        origin=frame.origin,
                        cursor=str(Position.FIRST + len(seen) + place),
                    )
                    for place, text in enumerate(record.texts)
                ]
                continue
            case TextRun():
                call = table[record.call]
                seen += [
                    ReasoningEvent(
                        token=text,
                        index=record.first_index + place,
                        call=call,
                        block=record.block,
                        origin=frame.origin,
                        cursor=str(Position.FIRST + len(seen) + place),
                    )
                    for place, text in enumerate(record.texts)
                ]
                continue
            case CallStarted():
                table[record.call.ordinal] = record.call
        common["cursor"] = str(Position.FIRST + len(seen))
        fields = {name: getattr(record, name) for name in record.__dataclass_fields__} | common
        seen.append(type(record)(**fields))
    return seen


@given(frames())
def test_a_reader_sees_what_the_writer_said(frame):
    """Any frame survives the wire: half an emoji, any id, any number that JSON knows."""
    packet = decode(encode(frame))

    assert packet.origin == frame.origin
    assert packet.attempt_id == frame.origin.attempt_id
    assert packet.seq == frame.seq
    assert packet.open_calls == frame.open_calls
    assert unfolded(packet) == expected(frame)


@given(ends)
def test_the_end_of_a_call_arrives_with_all_its_facts(end):
    """What is known about a call's end survives the wire."""
    frame = Frame(ORIGIN, 0, (CallStarted(call=CALL), end), header=True)

    _, arrived = unfolded(decode(encode(frame)))

    assert arrived.usage == end.usage
    assert (arrived.call, arrived.finish_reason, arrived.error) == (CALL, end.finish_reason, end.error)
    assert (arrived.message_id, arrived.streamed) == (end.message_id, end.streamed)
    assert arrived.unfinished == end.unfinished


@given(json_values)
def test_whatever_json_can_hold_within_a_block_arrives_unchanged(value):
    """A provider's own content blocks are handed on as they came."""
    assert _through_the_wire(value) == value


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (math.nan, None),
        (math.inf, None),
        (b"bytes", {"unserializable": "bytes"}),
        ({1, 2}, {"unserializable": "set"}),
        ({1: "number"}, {"1": "number"}),
        ({("a", 1): "pair"}, {"('a', 1)": "pair"}),
        (("tuple",), ["tuple"]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (["\ud83d", MappingProxyType({"a": b""})], ["\ud83d", {"a": {"unserializable": "bytes"}}]),
    ],
)
def test_what_json_cannot_hold_is_replaced_visibly(value, arrives):
    """An odd value in a block neither stops the stream nor disappears without a trace."""
    assert _through_the_wire(value) == arrives


def test_a_number_too_long_to_print_is_replaced_visibly():
    """Python itself refuses to print a number of more than 4,300 digits."""
    assert _through_the_wire(10**5000) == {"unserializable": "int"}


def test_a_block_that_contains_itself_is_cut_off():
    """A loop ends somewhere: the frame is sent, and the place where it was cut is visible."""
    loop: dict[str, Any] = {}
    loop["again"] = loop

    arrived = str(_through_the_wire(loop))

    assert "unserializable" in arrived


def test_values_that_hold_each_other_many_times_end(monkeypatch):
    """Twice itself at each of 200 levels is more than any memory holds; a half emoji takes the slow way."""
    twice: list[Any] = ["\ud83d"]
    for _ in range(60):
        twice = [*twice, twice, twice]
    around: dict[str, Any] = {"half": "\ud83d"}
    around["self"] = [around, around]

    monkeypatch.setattr(frames_module, "_MOST_VALUES", 10_000)  # all of them take seconds
    for value in (twice, around):
        assert len(json.dumps(_Plain().of(value))) < 1024 * 1024


def test_frames_are_plain_json_for_any_reader():
    """Even the fallback for half an emoji is strict JSON in ASCII, without NaN."""
    block = {"text": "\ud83d", "score": math.nan}
    data = encode(Frame(ORIGIN, 0, (ContentBlock(block=block, call=CALL),)))

    assert data.isascii()
    assert b"NaN" not in data


def test_only_a_header_tells_the_origin():
    """Frames are small: the origin is sent once, not once a frame."""
    data = encode(Frame(ORIGIN, 5, ()))

    assert orjson.loads(data) == {"v": 1, "a": "a1", "n": 5, "e": []}
    assert decode(data).origin is None


# ------------------------------------------------------------------ what is not a frame


@given(
    st.binary() | json_values.map(lambda value: orjson.dumps(value, default=str) if _plain(value) else b"")
)
def test_what_is_not_a_frame_is_refused_in_one_way(data):
    """Whatever somebody else writes into a stream, a reader skips it by catching one error."""
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.data())
def test_a_frame_with_a_wrong_part_is_refused_or_read_but_never_breaks_the_reader(data):
    """One part of a frame replaced by anything: an error of ours, or events."""
    body: Any = orjson.loads(
        encode(Frame(ORIGIN, 0, (CallStarted(call=CALL), TextRun("text", 0, 0, ["a"], 1)), header=True))
    )
    spot = data.draw(st.sampled_from(list(_spots(body))))
    holder = body
    for step in spot[:-1]:
        holder = holder[step]
    holder[spot[-1]] = data.draw(json_values)
    assume(_plain(body))

    try:
        packet = decode(orjson.dumps(body))
    except ProtocolError:
        return
    events = unfolded(packet)

    assert [int(event.cursor) for event in events] == sorted({int(event.cursor) for event in events})


def test_deep_nesting_is_refused_like_any_other_rubbish():
    """A hostile entry does not reach Python's recursion limit in the reader's face."""
    with pytest.raises(ProtocolError, match="nested deeper"):
        decode(b"[" * 90_000)


BLOCK = b'{"v":1,"a":"f0","n":0,"e":[["block",0,{"x":%b}]]}'
MANY = 400_000


@pytest.mark.parametrize(
    "value",
    [
        b"[" + b"{}," * MANY + b"0]",
        b"[" + b'{"a":[]},' * MANY + b"0]",
        b"[" + b"7," * MANY + b"0]",
        b"[" + b'"a",' * MANY + b"0]",
        b"[" + rb'"\\",' * MANY + b"0]",  # looks like a quote that is escaped
        b"{" + b'"":0,' * MANY + b'"":0}',
        b'["' + b"a,[" * MANY,  # a text that never ends
        b'"' * 5 * MANY,
    ],
    ids=["objects", "nested", "numbers", "texts", "backslashes", "names", "no end", "quotes"],
)
def test_what_takes_more_memory_than_it_has_bytes_is_refused_unread(value):
    """An entry of two megabytes must not cost a reader a hundred, or a second."""
    data = BLOCK % value
    tracemalloc.start()
    begun = time.thread_time()
    try:
        with pytest.raises(ProtocolError, match="more than 100000 values"):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < len(data) + 24 * 1024 * 1024
    assert time.thread_time() - begun < 0.5


@pytest.mark.parametrize(
    "text", [rb"\"" * MANY, rb"{},[\"" * MANY, b"," * MANY], ids=["quotes", "code", "commas"]
)
def test_brackets_and_commas_of_a_text_are_no_values(text):
    """A tool may well return a megabyte of JSON as text."""
    data = BLOCK % (b'"' + text + b'"')

    assert len(decode(data).events[0][2]["x"]) >= MANY


def test_another_version_is_named():
    """A log line about an unknown version says which, and what this reader knows."""
    with pytest.raises(ProtocolError, match="version 2, this reader knows 1"):
        decode(b'{"v":2}')


@pytest.mark.parametrize(
    "wire",
    [
        ["text"],
        ["text", 0, 0, "ab"],
        ["text", 0, 0, ["a", 1]],
        ["text", 0, "0", ["a"]],
        ["text", "zero", 0, ["a"]],
        ["text", [], 0, ["a"]],
        ["call", {}],
        ["call", 7],
        ["call_end", 0],
        ["call_end", 0, []],
        ["tool_call", 0, 0, None, None, None],
        ["block", 0, "text"],
        ["attempt_end"],
        ["gap", 0],
        [],
        [["text"]],
        {"kind": "text"},
        "text",
        None,
    ],
    ids=str,
)
def test_a_broken_event_costs_only_itself(wire):
    """The reader is told where something could not be read, and goes on with the next event."""
    fine = ["text", 0, 0, ["a"]]

    events = unfold([fine, wire, fine], ORIGIN, {0: CALL}, "")

    assert [type(event) for event in events] == [TokenEvent, Gap, TokenEvent]
    assert [event.cursor for event in events] == ["2", "3", "4"]
    assert events[1] == Gap(missing=None, reason="unreadable", origin=ORIGIN, cursor="3")


def test_an_unknown_kind_is_silent_but_takes_a_place():
    """A cursor means the same to a reader that does not know a kind and to one that does."""
    wires: list[list[Any]] = [["hologram", 0, {"beam": 3}], ["text", 0, 0, ["a"]]]

    (event,) = unfold(wires, ORIGIN, {0: CALL}, "")

    assert isinstance(event, TokenEvent)
    assert event.cursor == "3"


def test_elements_beyond_the_known_ones_are_ignored():
    """Later versions of a writer may append to a form."""
    wires: list[list[Any]] = [
        ["text", 0, 0, ["a"], 1, "new"],
        ["tool_call", 0, 0, "id", "name", "{}", "new"],
        ["block", 0, {"type": "image"}, "new"],
        ["gap", 0, 1, "overflow", "new"],
        ["call_end", 0, {"new": 1}, "new"],
        ["call", {"i": 1, "node": "n", "new": 1}, "new"],
        ["attempt_end", "failed", None, "new"],
    ]

    events = unfold(wires, ORIGIN, {0: CALL}, "")

    assert [type(event).__name__ for event in events] == [
        "TokenEvent",
        "ToolCallChunk",
        "ContentBlock",
        "Gap",
        "CallEnded",
        "CallStarted",
        "AttemptEnded",
    ]


def test_events_of_a_call_whose_start_was_lost_still_arrive():
    """Text is not thrown away with the facts of its call: the activity's type names the node then."""
    (event,) = unfold([["text", 3, 7, ["a"]]], ORIGIN, {}, "")

    assert isinstance(event, TokenEvent)
    assert (event.token, event.index, event.node_name) == ("a", 7, "answer")
    assert event.call == Call(ordinal=3, id="1:3", node_name="answer")


def test_a_call_that_ended_is_forgotten():
    """A reader keeps open calls only: a long attempt costs it no memory."""
    table = {0: CALL}

    unfold([["call_end", 0, {}]], ORIGIN, table, "")

    assert table == {}


# ------------------------------------------------------------------ stream names

keys = st.builds(StreamKey, anything, anything, anything)


@given(keys, keys)
@example(StreamKey("n", "\ud800", "r"), StreamKey("n", "\ud801", "r"))
@example(StreamKey("n", "a/b", "r"), StreamKey("n", "a", "b/r"))
@example(StreamKey("n", "%2F", "r"), StreamKey("n", "/", "r"))
def test_different_runs_never_share_a_stream(one, other):
    """No workflow id, however odd, can imitate another run's stream."""
    assert (one.name == other.name) is (one == other)
    assert (one.workflow == other.workflow) is (one[:2] == other[:2])


@given(keys)
def test_a_stream_name_has_two_slashes_and_no_braces(key):
    """A cluster's hash tag and the three parts stay recognisable."""
    assert key.name.count("/") == 2
    assert not set("{}\r\n\0") & set(key.name)
    assert key.name.isascii()


def test_a_stream_is_named_readably():
    """Ordinary ids stand in the key as they are; only what would mislead is escaped."""
    assert StreamKey("default", "order:7 (retry)", "0f0e").name == "default/order:7 (retry)/0f0e"
    assert StreamKey("ns", "a/b{c}%", "ü").name == "ns/a%2Fb%7Bc%7D%25/%C3%BC"


# ------------------------------------------------------------------ cursors

ids = st.text("abchXYZ019-_", min_size=1, max_size=40)
stored = ids.filter(lambda text: not text.startswith("h"))
held = st.integers(0, 10**15 - 1).map("h{:015d}".format) | st.just("h000000000000007-0012")
entries = (
    st.just("")
    | stored
    | held
    | st.tuples(stored, held).map(".".join)
    | st.tuples(held, stored | st.just("")).map(".".join)
)


@given(ids, entries, st.integers(0, 999_999_999))
def test_a_cursor_survives_its_text_form(run_id, entry, position):
    """What a client stores is the place where it was, whatever a transport calls its entries."""
    cursor = Cursor(run_id, entry, position)
    assume(len(str(cursor)) <= MAX_CURSOR)

    assert Cursor.parse(str(cursor)) == cursor
    assert str(cursor) == f"{Cursor.prefix(run_id)}{entry}~{position}"
    assert quote(str(cursor), safe="") == str(cursor)


def test_the_longest_cursor_of_a_run_is_short_enough():
    """In a URL, in a header, in a cookie: it takes no more than this, and no quoting."""
    entry = "h000000000000007-0000.001767323045000-0000000000"
    cursor = str(Cursor("0f0e4d5a-0000-4000-8000-000000000001", entry, Position.END))

    assert len(cursor) <= MAX_CURSOR
    assert Cursor.parse(cursor).transport == "001767323045000-0000000000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "1~run~5",
        "2~run~5~0",
        "1~~5~0",
        "1~run~5~-1",
        "1~run~5~",
        "1~run~5~٣",
        "1~run~5~0\n",
        None,
        7,
    ],
)
def test_a_foreign_cursor_is_refused_with_advice(text):
    """Whoever passes something else is told what to pass instead."""
    with pytest.raises(InvalidCursor, match=r"not one of ours: pass the `\.cursor` of an event") as refusal:
        Cursor.parse(text)

    assert (repr(text) if isinstance(text, str) else type(text).__name__) in str(refusal.value)
    assert isinstance(refusal.value, ConfigurationError)


# ------------------------------------------------------------------ microseconds


@given(st.integers(0, 2**53))
def test_attempts_a_microsecond_apart_keep_their_order(microseconds):
    """The fence compares start times: none is rounded on the way."""
    started = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds % (10**15))
    origin = Origin(
        namespace="n", workflow_id="w", run_id="r", activity_id="1", attempt_id="a", started_time=started
    )

    arrived = decode(encode(Frame(origin, 0, (), header=True))).origin

    assert arrived is not None
    assert arrived.started_time == started


def _through_the_wire(value: Any) -> Any:
    frame = Frame(ORIGIN, 0, (ContentBlock(block={"value": value}, call=CALL),), header=True)
    (event,) = unfolded(decode(encode(frame)))
    return event.block["value"]


def _plain(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


def _spots(value: Any, path: tuple[Any, ...] = ()) -> Any:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*path, name)
        yield from _spots(part, (*path, name))
