"""Where a reader stands: a cursor names a place in the stream and in the history, and hides both."""

import pytest

from temporal_token_interceptor.protocol.cursor import Cursor, Position
from temporal_token_interceptor.reader.position import ReadPosition

A, B, C = "001-0", "002-0", "003-0"
H7, H9 = "h000000000000007-0000", "h000000000000009-0000"


def resumed(cursor: str) -> ReadPosition:
    """A reader that goes on from a cursor."""
    return ReadPosition("run", Cursor.parse(cursor))


@pytest.mark.parametrize(
    ("entry", "sent", "told", "is_from_history"),
    [
        ("", "", "", False),
        (B, B, "", False),
        (H7, "", H7, True),
        (f"{B}.{H7}", B, H7, True),
        (f"{H7}.{B}", B, H7, False),
        (f"{H7}.", "", H7, False),
    ],
)
def test_a_cursor_names_a_place_in_each(entry, sent, told, is_from_history):
    """What was read last stands last."""
    place = Cursor.parse(str(Cursor("run", entry, 3)))

    assert (place.transport, place.history, place.is_from_history) == (sent, told, is_from_history)


def test_what_history_told_hides_nothing_of_the_stream():
    """History stood in for a stream that was away: all of the stream is news."""
    where = resumed(f"1~run~{H7}~4")

    assert [where.transport.enter(entry) for entry in (A, B)] == [Position.BEFORE, Position.BEFORE]
    assert [where.history.enter(entry) for entry in (H7, H9)] == [4, Position.BEFORE]


def test_a_place_in_the_stream_remembers_the_one_in_history():
    """Read history, then the stream, then come back: neither is told again."""
    where = resumed(f"1~run~{H7}~4")
    where.transport.enter(B)

    again = resumed(where.behind(B, 2))

    assert [again.transport.enter(entry) for entry in (A, B, C)] == [Position.END, 2, Position.BEFORE]
    assert [again.history.enter(entry) for entry in (H7, H9)] == [Position.END, Position.BEFORE]


def test_what_was_added_at_the_end_is_known_only_there():
    """The end is told again as soon as there is anything new before it."""
    where = ReadPosition("run", None)
    where.transport.enter(B)
    end = where.here(Position.TAIL)

    same, later = resumed(end), resumed(end)
    same.transport.enter(B)
    later.transport.enter(B)
    later.history.enter(H7)

    assert same.is_known(same.here(Position.TAIL))
    assert not same.is_known(same.here(999_000_001))
    assert not later.is_known(later.here(Position.TAIL))


def test_a_reader_that_only_skipped_history_was_not_told_of_it():
    """From now on: nothing has to be read again when it comes back."""
    where = ReadPosition("run", None)
    where.history.resume("h000000000000008")

    assert where.in_transport(B) == f"h000000000000008.{B}"
    assert not resumed(where.behind(B, 2)).has_read_history
    assert resumed(f"1~run~{B}.{H7}~2").has_read_history
