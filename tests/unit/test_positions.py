"""The places of many streams as one cursor: what goes in comes out, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor import InvalidCursor
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.positions import (
    MAX_POSITIONS,
    key_of,
    name_in,
    name_of,
    packed,
    short_form,
    unpacked,
)

RUNS = st.uuids().map(str)
ENTRIES = st.sampled_from(
    ["", "1732580000000-000000000", "h000000000000017", "1732580000000-000000004.h000000000000009"]
)
PLACES = st.one_of(RUNS, st.builds(lambda *of: str(Cursor(*of)), RUNS, ENTRIES, st.integers(0, 999_999_999)))
MANY = st.dictionaries(st.text().map(key_of), PLACES, max_size=30)


@given(MANY)
def test_places_come_back_as_they_were(places):
    """A cursor over many streams loses none of its places, and two that differ are two."""
    cursor = packed(places)

    assert unpacked(cursor) == places
    assert packed(dict(reversed(places.items()))) == cursor


@given(MANY, st.data())
def test_a_cursor_that_was_altered_is_refused(places, data):
    """One character lost, added or changed: an error at once, and no other place to go on from.

    Some bits of the last byte before the checksum mean nothing: with them, it is the same cursor.
    """
    cursor = packed(places)
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from(sorted({"A", "b", "-", "=", "é", " "} - {cursor[at]})))

    filled = 0
    for altered in (cursor[:at] + other + cursor[at + 1 :], cursor[:at] + cursor[at + 1 :], cursor + other):
        try:
            found = unpacked(altered)
        except InvalidCursor:
            continue
        assert found == places
        filled += 1
    assert filled <= 1


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "m1.",
        str(Cursor("run")),
        short_form(name_of("")),
        packed({"key": "1~a run with spaces~~0"}),
        packed({"key": "run~entry~position"}),
        "m1." + "A" * MAX_POSITIONS,
    ],
    ids=["empty", "no places", "of one stream", "a name", "no run", "no position", "too long"],
)
def test_what_is_no_cursor_over_many_streams_is_refused(cursor):
    with pytest.raises(InvalidCursor):
        unpacked(cursor)


def test_a_cursor_that_unpacks_into_too_much_is_refused():
    """A client sends a cursor: a small one must not fill the memory."""
    bomb = packed({"key": "a" * (MAX_POSITIONS + 1)})

    assert len(bomb) < 10_000
    with pytest.raises(InvalidCursor):
        unpacked(bomb)


@given(MANY)
def test_a_name_stands_for_its_places_alone(places):
    """A short cursor is known by its form, and is the same for the same places."""
    cursor = packed(places)
    short = short_form(name_of(cursor))

    assert len(short) <= 40
    assert name_in(short) == name_of(cursor)
    assert name_in(cursor) is None


def test_the_keys_of_two_streams_differ():
    """Parts of a name cannot run into each other."""
    assert len({key_of("a", "bc"), key_of("ab", "c"), key_of("abc"), key_of("abc", "")}) == 4
