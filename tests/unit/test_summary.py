"""The summary's laws: within its size, exact in its counts, and the beginning of each call is what stays."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    CustomEvent,
    Frame,
    Gap,
    Record,
    TextRun,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.result_items import MARK, frames_in, summary_events
from temporal_token_interceptor.worker.frame_maker import Tally
from temporal_token_interceptor.worker.summary import (
    COUNTS_BYTES,
    FRAMES_BYTES,
    counted,
    enclosed,
    item_of,
    outline,
)
from tests.support.frames import a_call, an_origin

PLENTY = 10**6  # bytes
END = AttemptEnded(outcome="completed_provisional")


def size(item: Any) -> int:
    """As the default data converter writes it."""
    return len(json.dumps(item, separators=(",", ":"), sort_keys=True))


def frame(*records: Record, seq: int = 0) -> Frame:
    return Frame(an_origin(), seq, records, header=True)


texts = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=20)


@st.composite
def attempts(draw) -> list[Frame]:
    """What one or two undelivered frames may hold: calls that speak at the same time, and call tools."""
    records: list[Record] = []
    spoken: Counter[int] = Counter()
    records += [CallStarted(call=a_call(ordinal=ordinal)) for ordinal in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 12))):
        ordinal = draw(st.integers(0, len(records) - 1)) % 4
        if draw(st.booleans()):
            said = draw(texts)
            records.append(TextRun("text", ordinal, spoken[ordinal], said, len(said)))
            spoken[ordinal] += len(said)
        else:
            args = draw(st.text(max_size=100))
            call = a_call(ordinal=ordinal)
            records.append(ToolCallChunk(index=0, id=None, name=None, args=args, call=call))
    place = draw(st.integers(0, len(records)))
    tail = [*records[place:], CallEnded(call=a_call()), END]
    return [frame(*records[:place]), frame(*tail, seq=1)] if place else [frame(*tail)]


def pieces(frames: list[Frame]) -> int:
    """How many pieces of text and of tool calls were said."""
    records = [record for each in frames for record in each.records]
    return sum(
        record.count if isinstance(record, TextRun) else isinstance(record, ToolCallChunk)
        for record in records
    )


def said_in(frames: list[Frame]) -> dict[int, str]:
    said: dict[int, str] = {}
    for each in frames:
        for record in each.records:
            if isinstance(record, TextRun):
                said[record.call] = said.get(record.call, "") + "".join(record.texts)
    return said


def kept_pieces(item: Any) -> int:
    """How many pieces an item still holds, by its wire forms; one that was cut through counts as missing."""
    wires = [wire for each in item[MARK]["frames"] for wire in each["e"]]
    held: int = sum((wire[4:] or [len(wire[3])])[0] for wire in wires if wire[0] == "text")
    tools = [wire for wire in wires if wire[0] == "tool_call"]
    return held + len(tools)


@given(attempts(), st.integers(0, 6_000))
def test_an_item_keeps_to_its_room_and_counts_what_it_leaves_out(frames, room):
    """However little room there is: the bound holds, what is held is a beginning, and the rest is counted."""
    item = enclosed(frames, room)

    if item is None:
        assert room < 800
        return
    assert size(item) <= room
    events = summary_events(item)
    missing = sum(event.missing or 0 for event in events if isinstance(event, Gap))
    held = kept_pieces(item)
    assert pieces(frames) <= held + missing <= pieces(frames) + 4  # a piece that was cut through is in both
    said = said_in(frames)
    for ordinal in said:
        tokens = [e.token for e in events if isinstance(e, TokenEvent) and e.call.ordinal == ordinal]
        assert said[ordinal].startswith("".join(tokens))
    assert isinstance(events[-1], AttemptEnded)


@given(attempts())
def test_with_room_enough_nothing_is_changed(frames):
    """What fits arrives token by token, as it would have through Redis."""
    item = enclosed(frames, PLENTY)

    tokens = [event.token for event in summary_events(item) if isinstance(event, TokenEvent)]
    texts = [record.texts for each in frames for record in each.records if isinstance(record, TextRun)]
    assert tokens == [token for run in texts for token in run]
    assert not any(isinstance(event, Gap) for event in summary_events(item))


def test_a_long_answer_loses_its_token_boundaries_before_it_loses_text():
    """Forty thousand short tokens fit where each on its own would not."""
    runs = [TextRun("text", 0, first, ["ab"] * 500, 500) for first in range(0, 40_000, 500)]

    item = enclosed([frame(CallStarted(call=a_call()), *runs, END)], PLENTY)

    assert size(item) <= FRAMES_BYTES
    assert "".join(e.token for e in summary_events(item) if isinstance(e, TokenEvent)) == "ab" * 40_000


def test_of_a_text_that_came_whole_the_beginning_stays():
    """A model that cannot stream wrote a book: as much as fits is there, and the cut is reported."""
    book = TextRun("text", 0, 0, ["🎈x" * 200_000], 1)

    item = enclosed([frame(CallStarted(call=a_call()), book, CallEnded(call=a_call()), END)], PLENTY)

    events = summary_events(item)
    (token,) = [event.token for event in events if isinstance(event, TokenEvent)]
    assert FRAMES_BYTES * 0.6 < size(item) <= FRAMES_BYTES
    assert book.texts[0].startswith(token)
    assert [event.missing for event in events if isinstance(event, Gap)] == [1]


def test_an_emoji_that_was_cut_in_two_is_whole_again():
    """Half an emoji is no UTF-8, and some data converters refuse it: the halves are joined."""
    run = TextRun("text", 0, 0, ["a \ud83c", "\udf88 b"], 2)

    item = enclosed([frame(CallStarted(call=a_call()), run, END)], PLENTY)

    assert "".join(e.token for e in summary_events(item) if isinstance(e, TokenEvent)) == "a 🎈 b"
    assert json.dumps(item, ensure_ascii=False).encode()


def test_thousands_of_calls_become_an_outline():
    """When not even the starts and ends of all calls fit, how much there was is told, and how it ended."""
    calls = [a_call(ordinal=ordinal, model="m" * 50) for ordinal in range(4_000)]
    records = [
        r for call in calls for r in (CallStarted(call=call), TextRun("text", call.ordinal, 0, ["a"], 1))
    ]

    item = enclosed([frame(*records, END)], PLENTY)

    assert [type(e).__name__ for e in summary_events(item)] == ["AttemptStarted", "Gap", "AttemptEnded"]
    assert next(e.missing for e in summary_events(item) if isinstance(e, Gap)) == 4_000


def test_custom_events_that_have_no_room_do_not_take_the_text_along():
    """Two large ones are more than an item holds: the text stays, and the gap says what does not."""
    events = [CustomEvent(name="report", data="x" * 65_000) for _ in range(3)]
    said = (CallStarted(call=a_call()), TextRun("text", 0, 0, ["a", "b"], 2), CallEnded(call=a_call()))

    read = summary_events(enclosed([frame(*events, *said, END)], PLENTY))

    assert "".join(e.token for e in read if isinstance(e, TokenEvent)) == "ab"
    kept = sum(isinstance(e, CustomEvent) for e in read)
    assert sum(e.missing or 0 for e in read if isinstance(e, Gap)) == len(events) - kept > 0


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ([CustomEvent(name="report", data="x"), TextRun("text", 0, 0, ["a", "b"], 2)], 3),
        ([ToolEnded(name="search", run_id="1", node_name="tools", output="x")], None),
        ([TextRun("text", 0, 0, ["a"], 1), Gap(missing=None, reason="overflow")], None),
    ],
)
def test_an_outline_never_looks_like_all_there_was(left_out, missing):
    """Whatever it leaves out, there is a gap; with a number only where somebody can know it."""
    said = outline(frame(*left_out, END))

    assert said.records == (Gap(missing=missing, reason="overflow"), END)
    assert outline(frame(END)).records == (END,)


def test_counts_keep_to_their_size_and_stay_exact():
    """A summary of delivered tokens leaves out calls, never tokens."""
    tally = Tally()
    for ordinal in range(500):
        call = a_call(ordinal=ordinal, node_name="a node with a rather long name")
        tally.add([CallStarted(call=call), TextRun("text", ordinal, 0, ["ab", "c"], 2), CallEnded(call=call)])

    item: Any = counted(an_origin(attempt=3), tally, PLENTY)

    assert size(item) <= COUNTS_BYTES
    counts = item[MARK]
    assert (counts["attempt"], counts["token_count"], counts["call_count"]) == (3, 1_000, 500)
    assert 0 < len(counts["calls"]) < 500
    assert counted(an_origin(), tally, 10) is None


def test_an_attempt_that_said_nothing_has_no_item():
    """An activity that calls no model keeps its result, on a retry as well."""
    assert item_of((), an_origin(), Tally(), PLENTY) is None
    assert item_of((frame(END),), an_origin(), Tally(), PLENTY) is None


def test_an_end_that_was_not_delivered_is_told_after_words_that_were():
    """Nothing is missing, and nobody is told that something may be."""
    said = (CallStarted(call=a_call()), TextRun("text", 0, 0, ["a"], 1), CallEnded(call=a_call()))
    tally, attempts = Tally(), Attempts("run")
    tally.add(said)
    attempts.read("0", decode(encode(frame(*said))))

    item = item_of((frame(END, seq=1),), an_origin(), tally, PLENTY)
    for data in frames_in({"custom_data": [item]}):
        attempts.read("1", decode(data))

    assert attempts.unended() == []
    assert attempts.statistics.missing == 0


def test_what_is_not_ours_is_not_read():
    """Results are the user's: whatever stands in them, looking for our items finds ours or nothing."""
    values: list[Any] = [None, 5, "text", [], {}, {"custom_data": [1, {MARK: 2}, {MARK: {}}]}]

    for value in values:
        assert list(frames_in(value)) == []
        assert summary_events(value) == []
