"""Frames of text alone, recognized without a JSON parser: never otherwise than `decode` reads them."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    Event,
    Frame,
    Origin,
    Record,
    TextCheck,
    TextRun,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.protocol.text_check import CallChecks
from temporal_token_interceptor.protocol.text_frames import text_run
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.memory import MemoryStreamBackend
from tests.unit.test_attempts import attempt, call

ORIGIN = attempt("a1")
PIECES = st.lists(st.one_of(st.text(max_size=4), st.sampled_from([",", '"', "", '","', "\\", "ü", "😀"])))


def run_of(data: bytes) -> Any:
    """What the recognizer makes of one entry."""
    return text_run([data], 0)


def assert_same_as_decode(data: bytes) -> None:
    """What is recognized is what a JSON parser finds."""
    if (run := run_of(data)) is None:
        return
    packet = decode(data)
    ((kind, ordinal, index, texts, *count),) = packet.events
    assert (run.attempt_id, run.seq, run.frames) == (packet.attempt_id, packet.seq, 1)
    assert packet.origin is None
    assert (run.is_answer, run.call, run.text) == (kind == "text", ordinal, "".join(texts))
    assert type(index) is int
    assert run.pieces == (count[0] if count else len(texts))


@given(
    PIECES.filter(bool),
    st.integers(0, 10**14),
    st.sampled_from(["text", "reasoning"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_what_is_recognized_is_what_the_frame_holds(pieces, seq, kind, merged, block):
    """Also where the pieces look like JSON themselves."""
    texts = ("".join(pieces),) if merged else tuple(pieces)
    run = TextRun(kind, 3, 7, texts, len(pieces), block)
    frame = Frame(ORIGIN, seq, (run,), waiting_since=1 if merged else None)

    data = encode(frame)

    assert_same_as_decode(data)
    escaped = any(
        character in '"\\' or character < " " or character == "\x7f" for character in "".join(pieces)
    )
    assert (run_of(data) is not None) or escaped


@given(st.data())
def test_a_frame_with_any_bytes_in_it_is_read_as_json_or_not_at_all(data):
    """Whatever a writer puts there."""
    whole = encode(Frame(ORIGIN, 12, (TextRun("text", 0, 1, ("one", "two"), 2),)))
    place = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 3))
    some = data.draw(
        st.one_of(st.binary(max_size=4), st.sampled_from([b'","', b'"', b"0", b"-", b"\\u0041"]))
    )

    mutated = whole[:place] + some + whole[place + gone :]

    if run_of(mutated) is not None:
        assert_same_as_decode(mutated)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(ORIGIN, 1, (TextRun("text", 0, 1, ("x",), 1),), header=True),
        Frame(ORIGIN, 1, ()),
        Frame(ORIGIN, 1, (TextCheck(0, 1, "00"),)),
        Frame(ORIGIN, 1, (TextRun("text", 0, 1, ("x",), 1), TextCheck(0, 1, "00"))),
    ],
)
def test_other_frames_are_left_to_the_decoder(frame):
    """Headers and ends change what is known of attempts."""
    assert run_of(encode(frame)) is None


# ------------------------------------------------------------------ a whole stream


@st.composite
def streams(draw) -> list[bytes]:
    """Frames of several attempts, with calls that end and are checked, shuffled, lost and repeated."""
    lines = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        origin = attempt(f"a{number}", number=number, started=number, activity=draw(st.sampled_from("12")))
        checks, line = CallChecks(), []
        for seq, records in enumerate(_records(draw)):
            header = seq % 5 == 0
            opened = checks.open if header else ()
            data = encode(Frame(origin, seq, checks.add(records), header=header, open_calls=opened))
            line += [data] * draw(st.sampled_from([1, 1, 1, 1, 0, 2]))
        lines.append(line)
    stream = []
    while any(lines):
        stream.append(draw(st.sampled_from([line for line in lines if line])).pop(0))
    return stream


def _records(draw) -> list[tuple[Record, ...]]:
    frames: list[tuple[Record, ...]] = []
    for ordinal in range(draw(st.integers(1, 2))):
        frames.append((CallStarted(call=call(ordinal)),))
        for index in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from(["text", "text", "reasoning"]))
            frames.append((TextRun(kind, ordinal, index, (f"{ordinal}.{index} ",), 1),))
        frames.append((CallEnded(call=call(ordinal)),))
    return [*frames, (AttemptEnded(outcome="completed_provisional", will_retry=None),)]


def reads(stream: list[bytes], skimmed: int, *, fast: bool, fencing: bool) -> tuple[list[Event], Any]:
    """The events behind so many entries, which are read silently."""
    attempts, events, place = Attempts("run", fencing=fencing), [], 0
    while place < len(stream):
        if fast and place < skimmed:
            place += attempts.skim_text(stream[place:skimmed])
            if place == skimmed:
                continue
        is_known = place < skimmed
        found = attempts.read(f"{place:03d}", decode(stream[place]), is_known=is_known)
        events += [] if is_known else found
        place += 1
    return events, attempts


@given(streams(), st.data(), st.booleans())
def test_a_reader_that_skims_gets_what_one_that_reads_gets(stream, data, fencing):
    """The same events, and the same is known of all attempts."""
    skimmed = data.draw(st.integers(0, len(stream)))

    slow, one = reads(stream, skimmed, fast=False, fencing=fencing)
    fast, other = reads(stream, skimmed, fast=True, fencing=fencing)

    assert fast == slow
    assert other.statistics == one.statistics
    assert (other.standing(), other.unended()) == (one.standing(), one.unended())


@given(streams())
def test_a_reader_gets_the_rest_from_any_event_on(stream):
    """Through a subscriber, over a transport."""

    async def all_of_it() -> None:
        backend = MemoryStreamBackend()
        key = StreamKey.of(ORIGIN)
        for data in stream:
            await backend.write(key, data)
        subscriber = TokenSubscriber(None, backend)
        whole = await events_of(subscriber, ORIGIN, None)
        for place, event in enumerate(whole[:-1]):
            assert await events_of(subscriber, ORIGIN, event.cursor) == whole[place + 1 :]

    asyncio.run(all_of_it())


async def events_of(subscriber: TokenSubscriber, origin: Origin, cursor: str | None) -> list[Event]:
    """What a subscription to a stream that is complete gives."""
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return [
        event async for event in subscriber.subscribe(origin.workflow_id, origin.run_id, cursor, until=done)
    ]


def test_a_frame_of_another_shape_is_refused_by_both():
    """Invalid UTF-8 is no text, also where two frames together would be."""
    data = encode(Frame(ORIGIN, 1, (TextRun("text", 0, 1, ("x",), 1),))).replace(b'"x"', b'"\xf0\x9f"')

    assert run_of(data) is None
    with pytest.raises(ProtocolError):
        decode(data)
