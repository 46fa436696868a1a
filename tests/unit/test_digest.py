"""A reader verifies the text of each call."""

from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.events import CallEnded, CallStarted, Frame, Gap, Record, TextCheck, TextRun
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.text_check import TextDigest
from tests.support.frames import a_call, an_origin

pieces = st.lists(st.text(st.characters(), min_size=1), min_size=1, max_size=8)  # with lone surrogates


def checked(*texts: str) -> TextCheck:
    """What a worker says of a call that said these."""
    digest = TextDigest()
    digest.add("".join(texts), len(texts))
    return TextCheck(0, digest.count, digest.hexdigest())


def gaps(*frames: tuple[Record, ...] | None) -> list[tuple[str, int | None]]:
    """Read frames, the missing ones left out; return what is told to be missing."""
    attempts = Attempts("run")
    return [
        (event.reason, event.missing)
        for seq, records in enumerate(frames)
        if records is not None
        for event in attempts.read(
            f"{seq:05d}", decode(encode(Frame(an_origin(), seq, records, header=seq == 0)))
        )
        if isinstance(event, Gap)
    ]


@given(pieces)
def test_a_text_is_the_same_however_it_was_cut(texts):
    """Merged during an outage, or half an emoji at a time: what was sent is what was read."""
    start, end = CallStarted(call=a_call()), CallEnded(call=a_call())
    apart = tuple(TextRun("text", 0, index, (text,), 1) for index, text in enumerate(texts))
    merged = TextRun("text", 0, 0, ("".join(texts),), len(texts))

    assert gaps((start, *apart, checked(*texts), end)) == []
    assert gaps((start, merged), (checked(*texts), end)) == []


def test_a_call_that_lost_text_says_how_many_pieces():
    """The gap in the frames says that something is missing; the end of the call says what."""
    start, end = CallStarted(call=a_call()), CallEnded(call=a_call())
    lost = TextRun("text", 0, 1, ("b", "c"), 2)

    told = gaps((start, TextRun("text", 0, 0, ("a",), 1)), None, (checked("a", "b", "c"), end))
    unharmed = gaps((start, TextRun("text", 0, 0, ("a",), 1)), (lost,), (checked("a", "b", "c"), end))

    assert told == [("lost", 1), ("mismatch", 2)]
    assert unharmed == []


def test_a_text_that_was_altered_on_the_way_is_told():
    """As many pieces, but others."""
    assert gaps((TextRun("text", 0, 0, ("x",), 1), checked("y"))) == [("mismatch", None)]


def test_a_check_takes_one_place_whether_it_agrees_or_not():
    """A cursor means the same to a reader that lost something and to one that did not."""
    run, end = TextRun("text", 0, 0, ("x",), 1), CallEnded(call=a_call())

    def cursor_of_the_end(check: TextCheck) -> str:
        frame = Frame(an_origin(), 0, (run, check, end), header=True)
        return Attempts("run").read("1", decode(encode(frame)))[-1].cursor

    assert cursor_of_the_end(checked("x")) == cursor_of_the_end(checked("other"))
