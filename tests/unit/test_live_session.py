"""How records are divided among the frames of heartbeats. Pure."""

import json

from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.events import AttemptEnded, Gap, Record, TextRun
from temporal_token_interceptor.worker.live_session import _FRAME_BYTES, divided

TEXTS = st.lists(st.text(min_size=1, max_size=3000), min_size=1, max_size=60)


@st.composite
def runs(draw: st.DrawFn) -> TextRun:
    """A run as a buffer hands it out: each chunk for itself, or all joined."""
    texts = draw(TEXTS)
    joined = draw(st.booleans())
    return TextRun("text", 0, draw(st.integers(0, 9)), ["".join(texts)] if joined else texts, len(texts))


RECORDS = st.lists(runs() | st.just(Gap(missing=1, reason="overflow")), max_size=8)


def whole(records: tuple[Record, ...]) -> list[object]:
    """Records with neighbouring runs put together again: their text and their count."""
    found: list[object] = []
    for record in records:
        last = found[-1] if found else None
        if isinstance(record, TextRun):
            text, count = "".join(record.texts), record.count
            if isinstance(last, tuple):
                found[-1] = (last[0] + text, last[1] + count)
            else:
                found.append((text, count))
        else:
            found.append(record)
    return found


@given(records=RECORDS)
def test_frames_of_heartbeats_have_all_text_once_in_order_and_keep_to_their_size(records):
    """Nothing is lost by dividing, each piece knows its place, and only one chunk alone may be too large."""
    parts = list(divided(tuple(records)))

    assert whole(tuple(piece for part in parts for piece in part)) == whole(tuple(records))
    for part in parts:
        pieces = [record for record in part if isinstance(record, TextRun)]
        size = sum(len(json.dumps(piece.texts)) for piece in pieces)
        assert size <= _FRAME_BYTES or [piece.count for piece in pieces] == [1]
    pieces = [record for part in parts for record in part if isinstance(record, TextRun)]
    for run in (record for record in records if isinstance(record, TextRun)):
        place = run.first_index
        while place < run.first_index + run.count:
            piece = pieces.pop(0)
            assert piece.first_index == place
            place += piece.count


def test_no_records_are_one_frame():
    """The frame with which a retry announces itself has none."""
    assert list(divided(())) == [()]
    assert list(divided((AttemptEnded(outcome="failed"),))) == [(AttemptEnded(outcome="failed"),)]
