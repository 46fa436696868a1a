"""Every event has a JSON form that stands alone, is read back equal, and is described by a schema."""

import json
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor import ProtocolError, event_from_json
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    ContentBlock,
    Event,
    Gap,
    NodeEnded,
    Origin,
    TokenEvent,
)
from temporal_token_interceptor.events.json_form import event_types, events_schema
from tests.support.events_schema import FILE, text
from tests.support.frames import a_call, an_origin

SCHEMA = jsonschema.Draft202012Validator(events_schema())

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON_VALUES, max_size=3)
TIMES = st.datetimes(timezones=st.timezones(), min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1))  # noqa: DTZ001 - the zone comes from `timezones`


def _of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any record of a class; what has the type Any or Mapping is filled with JSON."""
    free = {"data": JSON_VALUES, "output": JSON_VALUES if kind is NodeEnded else st.none() | st.text()}
    objects = dict.fromkeys(("usage", "metadata"), st.none() | OBJECTS)
    if kind is ContentBlock:
        objects["block"] = OBJECTS
    known = {field.name for field in fields(kind)}
    chosen = {name: strategy for name, strategy in (free | objects).items() if name in known}
    return st.builds(kind, **chosen)


st.register_type_strategy(datetime, TIMES)
st.register_type_strategy(Call, lambda _: _of(Call))
st.register_type_strategy(Origin, lambda _: _of(Origin))

EVENTS = st.one_of([_of(kind) for kind in get_args(Event)])


@given(EVENTS)
def test_an_event_is_read_back_equal(event):
    """I put an event into my own queue and take the same event out."""
    assert event_from_json(json.loads(json.dumps(event.to_json()))) == event


@given(EVENTS)
def test_the_schema_describes_every_event(event):
    """I generate types for another language from the schema, and they hold."""
    SCHEMA.validate(json.loads(json.dumps(event.to_json())))


@given(EVENTS, st.data())
def test_what_is_not_an_event_is_refused_by_name(event, data):
    """Any member of another type gives a `ProtocolError`, never a foreign exception or a broken event."""
    form = event.to_json()
    name = data.draw(st.sampled_from(sorted(form)))
    form[name] = data.draw(JSON_VALUES)

    try:
        read = event_from_json(form)
    except ProtocolError:
        return

    SCHEMA.validate(json.loads(json.dumps(read.to_json())))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"v": 2}, "version 2"),
        ({"type": "song"}, "'song'"),
        ({"type": ["token"]}, "unknown"),
        ({"token": 3}, "token.token"),
        ({"index": True}, "token.index"),
        ({"origin": None}, "token.origin"),
        ({"call": {"ordinal": "0", "node_name": "n"}}, "token.call.ordinal"),
        ({"call": {"ordinal": 0}}, "token.call.node_name"),
    ],
)
def test_an_error_names_the_member(change, named):
    form = TokenEvent("x", "n", 0, call=a_call(), origin=an_origin()).to_json() | change

    with pytest.raises(ProtocolError, match=named):
        event_from_json(form)


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_value_that_is_no_object_is_refused(value):
    with pytest.raises(ProtocolError, match="is an object"):
        event_from_json(value)


def test_members_of_a_newer_release_are_ignored():
    event = CallEnded(call=a_call(), origin=an_origin())

    assert event_from_json(event.to_json() | {"colour": "red"}) == event


def test_an_error_shows_no_content():
    """A value that came where a type belongs may be a user's words."""
    form = Gap(missing=None, reason="lost").to_json() | {"type": "x" * 1_000_000}

    with pytest.raises(ProtocolError) as caught:
        event_from_json(form)

    assert len(str(caught.value)) < 200


def test_types_are_named_after_their_classes():
    assert {kind.__name__: name for name, kind in event_types().items()}["CallStarted"] == "call_started"
    assert len(event_types()) == len(get_args(Event))


def test_an_event_without_a_start_still_has_its_call():
    """After a gap the end of a call can be drawn: the call says which, and where."""
    event = CallEnded(call=replace(a_call(), id="1:0"), origin=an_origin())

    assert event.to_json()["call"]["id"] == "1:0"
    assert event.to_json()["call"]["node_name"] == "answer"


def test_the_schema_in_the_docs_is_that_of_the_code():
    """If this fails after a change of an event: `python -m tests.support.events_schema`."""
    assert FILE.read_text(encoding="utf-8") == text()
