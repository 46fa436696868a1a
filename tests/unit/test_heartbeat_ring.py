"""The detail that carries frames in heartbeats: bounded, the newest stay, apart from the user's."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.events import Frame, TextRun
from temporal_token_interceptor.protocol.frame_lists import lengthened, packed
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.transport.heartbeat import MARK, RING_BYTES, Ring, frames_in, without_ours
from tests.support.frames import a_call, an_origin

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def a_frame(seq: int, text: str, *, header: bool = True) -> bytes:
    run = TextRun("text", 0, seq, [text], 1)
    return encode(Frame(an_origin(), seq, (run,), header=header, open_calls=(a_call(),)))


def through_temporal(detail: Any) -> Any:
    """As a JSON converter gives it back."""
    return json.loads(json.dumps(detail))


@given(texts=st.lists(st.text(max_size=400), min_size=1, max_size=30), limit=st.integers(900, 4000))
def test_the_ring_holds_the_newest_frames_in_order_and_never_more_than_its_bound(texts, limit):
    """Whatever is put in: out comes a run of frames up to the newest that fits, the first with a header."""
    ring, fitting = Ring(limit), []
    for seq, text in enumerate(texts):
        if ring.put(a_frame(seq, text)):
            fitting.append(seq)
        detail = through_temporal(ring.detail())
        packets = [decode(frame) for frame in frames_in(detail)]

        assert len(json.dumps(detail, separators=(",", ":"))) <= limit
        assert [packet.seq for packet in packets] == (fitting[-len(packets) :] if packets else [])
        assert bool(packets) == bool(fitting)
        for place, packet in enumerate(packets):
            assert (packet.origin is not None) == (place == 0)
            assert packet.events == decode(a_frame(packet.seq, texts[packet.seq])).events
        if packets:
            assert [call.ordinal for call in packets[0].open_calls] == [0]


def test_a_frame_that_is_too_large_is_left_out_and_the_others_stay():
    """A frame larger than the bound is refused, and the ring goes on."""
    ring = Ring()
    assert ring.put(a_frame(0, "a"))
    assert not ring.put(a_frame(1, "x" * RING_BYTES))
    assert ring.put(a_frame(2, "b"))
    assert [decode(frame).seq for frame in frames_in(ring.detail())] == [0, 2]
    assert len(ring) == 2


def test_an_empty_ring_has_a_detail_without_frames():
    """Nothing was put in: nothing comes out, and the detail is known as ours."""
    assert list(frames_in(Ring().detail())) == []
    assert without_ours([1, Ring().detail()]) == [1]


@given(details=st.lists(JSON, max_size=4))
def test_the_users_details_are_exactly_what_is_left(details):
    """Ours is taken off, once, and nothing else is touched."""
    ring = Ring()
    ring.put(a_frame(0, "a"))
    theirs = [one for one in details if not (isinstance(one, dict) and MARK in one)]
    assert without_ours([*theirs, through_temporal(ring.detail())]) == theirs
    assert without_ours(theirs) == theirs
    assert list(frames_in(theirs)) == []


@given(junk=JSON)
def test_anything_else_in_the_place_of_frames_breaks_no_reader(junk):
    """Another program may write what it likes there: bytes come out, or nothing, and no error."""
    for frame in [*frames_in({MARK: junk}), *lengthened(junk)]:
        assert isinstance(frame, bytes)


@given(st.lists(st.tuples(st.sampled_from(["aa", "bb"]), st.booleans()), max_size=8))
def test_packed_frames_of_several_attempts_come_back_with_their_own_attempt(parts):
    """Frames that follow one of another attempt keep their attempt and their header."""
    frames = [
        encode(Frame(an_origin(attempt_id=f"00000000000000{name}"), seq, (), header=True))
        for seq, (name, _) in enumerate(parts)
    ]
    found = [decode(frame) for frame in lengthened(through_temporal(packed(frames)))]
    assert [(one.attempt_id[-2:], one.seq) for one in found] == [
        (name, seq) for seq, (name, _) in enumerate(parts)
    ]
