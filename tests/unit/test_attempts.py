"""Which frames are news: duplicates, superseded attempts and gaps, in every interleaving."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallStarted,
    Event,
    Frame,
    Gap,
    Origin,
    Record,
    TextRun,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import decode, encode

START = datetime(2026, 1, 2, tzinfo=UTC)


def attempt(attempt_id: str, *, number: int = 1, started: int = 0, activity: str = "1") -> Origin:
    """An attempt that Temporal started some seconds after `START`."""
    return Origin(
        namespace="default",
        workflow_id="order-7",
        run_id="run",
        activity_id=activity,
        activity_type="answer",
        attempt=number,
        attempt_id=attempt_id,
        started_time=START + timedelta(seconds=started),
    )


def call(ordinal: int = 0) -> Call:
    """A call of activity 1."""
    return Call(ordinal=ordinal, id=f"1:{ordinal}", node_name="agent")


def text(*tokens: str, first: int = 0) -> TextRun:
    """Tokens of call 0."""
    return TextRun("text", 0, first, tokens, len(tokens))


class Reader:
    """Reads frames as entries 1, 2, 3 ... of one stream."""

    def __init__(self) -> None:
        self.attempts = Attempts("run")
        self.entries = 0

    def read(
        self,
        origin: Origin,
        seq: int,
        *records: Record,
        header: bool | None = None,
        open_calls: tuple[Call, ...] = (),
    ) -> list[Event]:
        """Read one frame; frame 0 has a header if nothing else is said."""
        self.entries += 1
        header = seq == 0 if header is None else header
        frame = Frame(origin, seq, records, header=header, open_calls=open_calls)
        return self.attempts.read(f"{self.entries:05d}", decode(encode(frame)))


@pytest.fixture
def reader():
    """A reader that has seen nothing yet."""
    return Reader()


FIRST = attempt("a1", number=1, started=0)
SECOND = attempt("a2", number=2, started=10)


def tokens(events: list[Event]) -> list[str]:
    """The text of some events."""
    return [event.token for event in events if isinstance(event, TokenEvent)]


# ------------------------------------------------------------------ duplicates


def test_a_frame_that_is_stored_twice_is_read_once(reader):
    """A transport may write an entry again when the reply to the first write was lost."""
    reader.read(FIRST, 0, text("a"))
    reader.read(FIRST, 1, text("b", first=1))

    again = reader.read(FIRST, 1, text("b", first=1))

    assert again == []
    assert reader.attempts.statistics.duplicates == 1


def test_a_first_frame_that_is_stored_twice_starts_its_attempt_once(reader):
    """The header of a duplicate changes nothing, and its calls stay open."""
    reader.read(FIRST, 0, CallStarted(call=call()), text("a"))

    again = reader.read(FIRST, 0, CallStarted(call=call()), text("a"))
    (after,) = reader.read(FIRST, 1, text("b", first=1))

    assert again == []
    assert after.node_name == "agent"


def test_a_late_duplicate_is_dropped_however_late_it_comes(reader):
    """An old frame that arrives behind its successors is no news."""
    for seq in range(5):
        reader.read(FIRST, seq, text(str(seq), first=seq))

    assert reader.read(FIRST, 2, text("2", first=2)) == []


# ------------------------------------------------------------------ attempts


def test_a_first_attempt_supersedes_nothing(reader):
    """Nothing has been drawn yet, so there is nothing to take back."""
    started, token = reader.read(FIRST, 0, text("a"))

    assert started == AttemptStarted(supersedes=None, origin=FIRST, cursor=str(Cursor("run", "00001", 0)))
    assert token.cursor == str(Cursor("run", "00001", 2))
    assert (token.token, token.attempt, token.origin) == ("a", 1, FIRST)


def test_a_newer_attempt_supersedes_the_older_one(reader):
    """A retry takes back what the attempt before it drew, by name."""
    reader.read(FIRST, 0, text("a"))

    started, token = reader.read(SECOND, 0, text("b"))

    assert isinstance(started, AttemptStarted)
    assert started.supersedes.attempt_id == "a1"
    assert (token.token, token.attempt) == ("b", 2)


def test_a_retry_that_has_said_nothing_yet_takes_back_at_once(reader):
    """An empty frame announces a retry, long before its model answers."""
    reader.read(FIRST, 0, text("a"))

    (started,) = reader.read(SECOND, 0)

    assert isinstance(started, AttemptStarted)
    assert started.supersedes.attempt_id == "a1"


def test_a_zombie_is_fenced_from_the_moment_its_successor_appears(reader):
    """An attempt that timed out and was never told so writes on, and nobody sees it."""
    reader.read(FIRST, 0, text("a"))
    reader.read(SECOND, 0, text("b"))

    late = reader.read(FIRST, 1, text("zombie", first=1), AttemptEnded(outcome="completed_provisional"))

    assert late == []
    assert reader.attempts.statistics.superseded == 1


def test_a_zombie_is_fenced_also_if_its_first_frame_comes_after_its_successor(reader):
    """It is not the order of arrival that counts but when Temporal started the attempts."""
    reader.read(SECOND, 0, text("b"))

    late = [reader.read(FIRST, 0, text("zombie")), reader.read(FIRST, 1, text("zombie", first=1))]
    (on,) = reader.read(SECOND, 1, text("c", first=1))

    assert late == [[], []]
    assert (on.token, on.attempt) == ("c", 2)
    assert reader.attempts.statistics.superseded == 2


def test_an_activity_reset_repeats_a_number_and_still_supersedes(reader):
    """After a reset Temporal counts from 1 again: the start time tells which attempt is newer."""
    third = attempt("a3", number=3, started=10)
    again = attempt("b1", number=1, started=20)
    reader.read(third, 0, text("a"))

    started, token = reader.read(again, 0, text("b"))

    assert started.supersedes.attempt_id == "a3"
    assert (token.token, token.attempt) == ("b", 1)
    assert reader.read(third, 1, text("zombie", first=1)) == []


def test_among_attempts_started_at_the_same_time_the_higher_number_wins(reader):
    """Clocks are coarse: the number decides where they cannot."""
    one, two = attempt("a1", number=1), attempt("a2", number=2)
    reader.read(two, 0, text("b"))

    assert reader.read(one, 0, text("zombie")) == []


def test_among_attempts_that_nothing_else_orders_the_later_in_the_stream_wins(reader):
    """Every reader decides alike, because all see the same stream."""
    one, other = attempt("a1"), attempt("b1")
    reader.read(one, 0, text("a"))

    started, _ = reader.read(other, 0, text("b"))

    assert started.supersedes.attempt_id == "a1"
    assert reader.read(one, 1, text("zombie", first=1)) == []


def test_activities_do_not_supersede_each_other(reader):
    """Two activities of one workflow stream side by side."""
    other = attempt("b1", activity="2", started=10)
    reader.read(FIRST, 0, text("a"))

    started, _ = reader.read(other, 0, text("b"))
    on = reader.read(FIRST, 1, text("c", first=1))

    assert started.supersedes is None
    assert tokens(on) == ["c"]


def test_an_attempt_counts_as_unended_until_it_says_how_it_ended(reader):
    """At the end of a stream the reader knows whose last words are missing."""
    reader.read(FIRST, 0, text("a"))
    reader.read(attempt("b1", activity="2"), 0, text("b"), AttemptEnded(outcome="failed"))

    assert reader.attempts.unended() == [FIRST]

    reader.read(FIRST, 1, AttemptEnded(outcome="completed_provisional"))

    assert reader.attempts.unended() == []


# ------------------------------------------------------------------ gaps


def test_a_jump_in_seq_is_a_gap_of_that_many_frames(reader):
    """Lost frames are reported where they are missing."""
    reader.read(FIRST, 0, text("a"))

    gap, token = reader.read(FIRST, 4, text("e", first=4))

    assert gap == Gap(missing=3, reason="lost", origin=FIRST, cursor=str(Cursor("run", "00002", 1)))
    assert tokens([token]) == ["e"]
    assert reader.attempts.statistics.missing == 3


def test_an_attempt_first_seen_late_begins_with_a_gap(reader):
    """The start of a long stream is trimmed: a later header says how much is missing, and names the calls."""
    started, gap, token = reader.read(FIRST, 64, text("x", first=70), header=True, open_calls=(call(),))

    assert isinstance(started, AttemptStarted)
    assert gap == Gap(missing=64, reason="trimmed", origin=FIRST, cursor=str(Cursor("run", "00001", 1)))
    assert (token.token, token.node_name, token.call) == ("x", "agent", call())


def test_frames_of_an_attempt_without_a_header_wait_for_one(reader):
    """Whose they are cannot be known; the header that comes counts them among the missing."""
    before = [reader.read(FIRST, seq, text("?"), header=False) for seq in (62, 63)]

    started, gap, token = reader.read(FIRST, 64, text("x"), header=True)

    assert before == [[], []]
    assert reader.attempts.statistics.unattributed == 2
    assert isinstance(started, AttemptStarted)
    assert (gap.missing, gap.reason) == (64, "trimmed")
    assert tokens([token]) == ["x"]


def test_a_header_gives_calls_their_facts_back(reader):
    """A call whose start was lost has its node's name again from the next header on."""
    reader.read(FIRST, 0)
    gap, nameless = reader.read(FIRST, 2, text("a"))

    (named,) = reader.read(FIRST, 3, text("b", first=1), header=True, open_calls=(call(),))

    assert isinstance(gap, Gap)
    assert nameless.node_name == "answer"
    assert named.node_name == "agent"


def test_a_broken_event_takes_nothing_with_it():
    """Its attempt starts, its neighbours arrive, and its place says that something is missing."""
    packet = decode(encode(Frame(FIRST, 0, (text("a"), text("b", first=1)), header=True)))
    packet.events.insert(1, ["text", "broken"])

    events = Attempts("run").read("1", packet)

    assert [type(event) for event in events] == [AttemptStarted, TokenEvent, Gap, TokenEvent]
    assert events[2] == Gap(missing=None, reason="unreadable", origin=FIRST, cursor=events[2].cursor)


# ------------------------------------------------------------------ cursors


def test_the_places_of_what_was_sent_do_not_depend_on_what_was_seen_before(reader):
    """A reader that knows the attempt and one that meets it here give a token the same cursor."""
    frame = Frame(FIRST, 64, (text("x", "y"),), header=True)
    knows, meets = Attempts("run"), Attempts("run")
    for seq in range(64):
        knows.read(f"{seq:05d}", decode(encode(Frame(FIRST, seq, (), header=seq == 0))))

    known = knows.read("00064", decode(encode(frame)))
    met = meets.read("00064", decode(encode(frame)))

    assert known == met[2:]


# ------------------------------------------------------------------ any stream at all


class Sent(NamedTuple):
    """A frame on its way: its one token names it."""

    origin: Origin
    seq: int
    header: bool

    @property
    def token(self) -> str:
        """A text that no other frame has."""
        return f"{self.origin.attempt_id}#{self.seq}"

    @property
    def age(self) -> Any:
        """What orders the attempts of an activity."""
        return self.origin.started_time, self.origin.attempt


@st.composite
def streams(draw):
    """Frames of several attempts, each attempt's in order, with repeats and holes, shuffled together."""
    lines = []
    starts = draw(st.lists(st.tuples(st.sampled_from("12"), st.integers(0, 3)), min_size=1, max_size=5))
    for number, (activity, started) in enumerate(starts, 1):
        origin = attempt(f"a{number}", number=number, started=started, activity=activity)
        line = []
        for seq in range(draw(st.integers(1, 6))):
            if draw(st.integers(0, 4)):  # else: lost
                line.append(Sent(origin, seq, seq % 3 == 0))
            if line and not draw(st.integers(0, 3)):
                line.append(draw(st.sampled_from(line)))  # written again
        lines.append(line)
    stream = []
    while any(lines):
        stream.append(draw(st.sampled_from([line for line in lines if line])).pop(0))
    return stream


def model(stream: list[Sent]) -> tuple[list[str], int]:
    """What a reader must be told: tokens, and how many frames are missing. Slow, and plain to see."""
    said: list[Sent] = []
    missing = 0
    for place, sent in enumerate(stream):
        headers = [seen for seen in stream[: place + 1] if seen.header]
        is_known = any(seen.origin == sent.origin for seen in headers)
        is_newest = all(
            seen.age <= sent.age for seen in headers if seen.origin.activity_id == sent.origin.activity_id
        )
        before = [seen.seq for seen in said if seen.origin == sent.origin]
        last = max(before, default=-1)
        if is_known and is_newest and sent.seq > last:
            said.append(sent)
            missing += sent.seq - last - 1
    return [sent.token for sent in said], missing


@given(streams())
def test_any_stream_reads_as_the_model_says(stream):
    """Each token once, in order, of the newest attempt only; and every missing frame is reported."""
    reader = Reader()

    events = [
        event
        for sent in stream
        for event in reader.read(sent.origin, sent.seq, text(sent.token), header=sent.header)
    ]

    said, missing = model(stream)
    assert tokens(events) == said
    assert sum(event.missing or 0 for event in events if isinstance(event, Gap)) == missing
    assert reader.attempts.statistics.missing == missing


@given(streams())
def test_cursors_only_ever_grow(stream):
    """Events come in the order of their cursors, so that a stored cursor cuts the stream in two."""
    reader = Reader()
    events = [
        event
        for sent in stream
        for event in reader.read(sent.origin, sent.seq, text(sent.token, "more"), header=sent.header)
    ]

    cursors = [Cursor.parse(event.cursor) for event in events]

    assert cursors == sorted(set(cursors))


@given(streams())
def test_what_is_superseded_was_started_and_is_silent_from_then_on(stream):
    """Whoever clears what `supersedes` names, and draws the rest, draws every activity once."""
    reader = Reader()
    alive: dict[str, str] = {}
    for sent in stream:
        for event in reader.read(sent.origin, sent.seq, text(sent.token), header=sent.header):
            if isinstance(event, AttemptStarted):
                superseded = event.supersedes and event.supersedes.attempt_id
                assert superseded == alive.get(event.origin.activity_id)
                alive[event.origin.activity_id] = event.origin.attempt_id
            assert alive[event.origin.activity_id] == event.origin.attempt_id
