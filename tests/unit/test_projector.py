"""The projector holds its laws for whatever a subscription yields."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from temporal_token_interceptor.events import (
    AttemptStarted,
    CallEnded,
    CallStarted,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector
from tests.support.frames import a_call, an_origin
from tests.support.projected import LAWS, STARTED, a_stream, flat, projected

FIRST = an_origin(attempt_id="a1")
SECOND = an_origin(attempt=2, attempt_id="a2", started=5)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(seed=st.integers(0, 2**32))
@example(seed=102632110)  # an attempt goes on after its end, and its activity's id is used again
def test_the_projector_holds_the_law(law, seed):
    """A stream and a choice of places from one seed, which a failure prints."""
    random = Random(seed)

    law(a_stream(random), Projector, random)


def at(place):
    return {"cursor": str(Cursor("run", f"{STARTED + place}-0", 2))}


def a_token(text, place, origin=FIRST, **call):
    return TokenEvent(text, "answer", place, call=a_call(**call), origin=origin, **at(place))


def test_a_retry_takes_the_failed_text_back():
    """The failed attempt's items go in one change, before the new attempt's first; `stable` stays."""
    events = [
        AttemptStarted(origin=FIRST, **at(0)),
        a_token("wrong", 1),
        AttemptStarted(origin=SECOND, supersedes=FIRST, **at(2)),
        a_token("right", 3, SECOND),
    ]
    changes = flat(projected(events, Projector)[0])

    [taken_back] = [change for change in changes if change.op == "remove"]
    assert taken_back.data == ("a:a1", "m:a1:0", "m:a1:0/text")
    assert taken_back.by == {"attempt": "a1", "superseded_by": "a2"}
    opened = [change for change in changes if change.op == "open"]
    assert [change.id for change in opened][3:] == ["a:a2", "m:a2:0", "m:a2:0/text"]
    assert [change.stable for change in opened][3:] == [change.stable for change in opened][:3]


def test_a_call_that_failed_within_an_attempt_is_taken_back():
    """A model that falls back to another does not leave both texts on the screen."""
    failed = a_call(ordinal=0)
    events = [
        AttemptStarted(origin=FIRST, **at(0)),
        a_token("wrong", 1),
        CallEnded(call=failed, error="RateLimitError", origin=FIRST, **at(2)),
        a_token("right", 3, ordinal=1),
    ]
    changes, view = projected(events, Projector)

    assert [item.text for item in view.items.values() if item.kind == "text"] == ["right"]
    assert changes[2][-1].by == {"attempt": "a1", "error": "RateLimitError"}


def test_a_tool_call_is_shown_once_its_name_is_known():
    """Fragments before the name wait; an id that comes later is a fact of the end."""
    call = a_call()

    def fragment(place, **facts):
        rest = {"index": 0, "id": None, "name": None, "args": ""} | facts
        return ToolCallChunk(call=call, origin=FIRST, **rest, **at(place))

    events = [
        CallStarted(call=call, origin=FIRST, **at(0)),
        fragment(1, args='{"q'),
        fragment(2, name="search", args='": 1'),
        fragment(3, id="tc1", args="}"),
        CallEnded(call=call, origin=FIRST, **at(4)),
    ]
    changes, view = projected(events, Projector)

    assert changes[1] == []
    [shown] = [item for item in view.items.values() if item.kind == "tool_call"]
    assert (shown.data, shown.text) == ({"name": "search", "index": 0}, '{"q": 1}')
    assert shown.facts == {"tool_call_id": "tc1"}


def test_two_whole_tool_calls_without_an_index_are_two():
    """LangChain merges fragments without an index only by their id."""
    call = a_call()
    events = [
        ToolCallChunk(index=None, id=one, name="search", args="{}", call=call, origin=FIRST, **at(place))
        for place, one in enumerate(["tc1", "tc2"])
    ]
    _, view = projected(events, Projector)

    shown = [
        (item.data["tool_call_id"], item.text) for item in view.items.values() if item.kind == "tool_call"
    ]
    assert shown == [("tc1", "{}"), ("tc2", "{}")]


def test_what_a_superseded_attempt_goes_on_to_say_is_dropped():
    """The subscriber drops it; the projector does not rely on that."""
    events = [
        AttemptStarted(origin=SECOND, supersedes=FIRST, **at(0)),
        a_token("zombie", 1, FIRST),
        ToolEnded(name="search", run_id="t", node_name="answer", origin=FIRST, **at(2)),
        AttemptStarted(origin=FIRST, **at(3)),
    ]
    changes, view = projected(events, Projector)

    assert changes[1:] == [[], [], []]
    assert list(view.items) == ["a:a2"]


def test_an_activity_id_that_is_used_again_has_a_place_of_its_own():
    """The second activity's answer does not take the first one's bubble."""
    again = replace(SECOND, attempt=1)
    _, view = projected(
        [AttemptStarted(origin=FIRST, **at(0)), AttemptStarted(origin=again, **at(1))], Projector
    )

    assert [item.stable for item in view.items.values()] == ["run.1", "1-run.1"]


def test_an_attempt_whose_start_was_trimmed_takes_the_place_of_its_activity():
    """Also where the attempt that it supersedes, in the run before a reset, was never seen."""
    before = an_origin(run_id="11111111-first", attempt_id="a0")
    _, view = projected([AttemptStarted(origin=FIRST, supersedes=before, **at(0))], Projector)

    assert [item.stable for item in view.items.values()] == ["11111111.1"]


def test_lengths_are_those_of_javascript():
    """An emoji has two units, and so has one whose halves come apart."""
    changes, view = projected(
        [a_token(text, place) for place, text in enumerate(["😀", "\ud83d", "\ude00", "!"])], Projector
    )

    assert [change.at for change in flat(changes) if change.op == "grow"] == [0, 2, 3, 4]
    assert view.items["m:a1:0/text"].text == "😀😀!"


def test_a_growth_in_the_middle_of_a_character_replaces_the_rest():
    """A client that comes again in the middle of an emoji has it whole afterwards."""
    view = View()
    view.fold(Change("open", "x", "text"))
    view.fold(Change("grow", "x", data="a😀b", at=0))
    view.fold(Change("grow", "x", data="\ude00c", at=2))

    assert view.items["x"].text == "a😀c"


def test_a_stream_without_times_is_numbered_too():
    """The ids of a memory backend, and of history, show no time."""
    projector = Projector()
    numbers = [
        change.seq
        for entry in ("000000000000007", "h000000000000012")
        for change in projector.read(replace(a_token("x", 0), cursor=str(Cursor("run", entry))))
    ]

    assert numbers == list(range(1, len(numbers) + 1))
