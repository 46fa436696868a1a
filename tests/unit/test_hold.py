"""The reader policies: an attempt shown only once it succeeded, and all attempts shown."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Event,
    Frame,
    Origin,
    Record,
    TextRun,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.reader.hold_policy import Held
from tests.support.frames import a_call, an_origin

START = datetime(2026, 1, 2, tzinfo=UTC)
END = 999_000_000


def attempt(attempt_id: str, started: int, activity: str = "1") -> Origin:
    """An attempt that Temporal started some seconds after `START`; its number is always 1: it was reset."""
    return Origin(
        namespace="default",
        workflow_id="order-7",
        run_id="run",
        activity_id=activity,
        attempt_id=attempt_id,
        started_time=START + timedelta(seconds=started),
    )


def said(token: str) -> TextRun:
    """One token."""
    return TextRun("text", 0, 0, (token,), 1)


class Stream:
    """Frames, stored in order; `read` reads them from some entry on, in each way."""

    def __init__(self) -> None:
        self.stored: list[Frame] = []

    def write(self, origin: Origin, seq: int, *records: Record, header: bool | None = None) -> None:
        """Store a frame."""
        self.stored.append(Frame(origin, seq, records, header=seq == 0 if header is None else header))

    def held(self, trimmed: int = 0) -> list[Event]:
        """What a reader that holds is shown, up to the end of the stream."""
        attempts, held = Attempts("run"), Held("run")
        shown: list[Event] = []
        for place, frame in enumerate(self.stored):
            if place >= trimmed:
                shown += held.read(f"{place:05d}", attempts.read(f"{place:05d}", decode(encode(frame))))
        return shown + held.rest(f"{len(self.stored):05d}", END)

    def annotated(self) -> list[Event]:
        """What a reader that wants everything is shown."""
        attempts = Attempts("run", fencing=False)
        return [
            event
            for place, frame in enumerate(self.stored)
            for event in attempts.read(f"{place:05d}", decode(encode(frame)))
        ]


def tokens(events: list[Event]) -> list[str]:
    """The text of events."""
    return [event.token for event in events if isinstance(event, TokenEvent)]


WELL = AttemptEnded(outcome="completed_provisional")
FIRST, SECOND, THIRD = attempt("a1", 0), attempt("a2", 10), attempt("a3", 20)


def test_an_attempt_that_fails_is_never_shown():
    """My viewers would rather wait than see a sentence taken back."""
    stream = Stream()
    stream.write(FIRST, 0, said("Hel"))
    stream.write(FIRST, 1, AttemptEnded(outcome="failed", will_retry=True))
    stream.write(SECOND, 0, said("Hello"), WELL)

    events = stream.held()

    assert tokens(events) == ["Hello"]
    assert [event.supersedes for event in events if isinstance(event, AttemptStarted)] == [None]


def test_what_was_shown_and_did_not_stand_is_still_taken_back():
    """A worker said "completed", and Temporal could not take the result: the attempt was made again."""
    stream = Stream()
    stream.write(FIRST, 0, said("one"), WELL)
    stream.write(SECOND, 0, said("two"))
    stream.write(THIRD, 0, said("three"), WELL)

    events = stream.held()

    assert tokens(events) == ["one", "three"]
    assert [event.supersedes for event in events if isinstance(event, AttemptStarted)] == [None, FIRST]


def test_what_nobody_ended_is_shown_at_the_end_of_the_stream():
    """An activity that is completed from elsewhere said all it had to say before."""
    stream = Stream()
    stream.write(FIRST, 0, said("later"), AttemptEnded(outcome="async_pending"))

    assert tokens(stream.held()) == ["later"]


def test_trimming_the_start_of_an_attempt_moves_no_cursor_of_its_rest():
    """A cursor that I stored yesterday means the same today, though the stream is shorter."""
    stream = Stream()
    for seq in range(70):
        stream.write(FIRST, seq, said(str(seq)), header=seq % 64 == 0)
    stream.write(FIRST, 70, said("70"), WELL)

    whole = {event.token: event.cursor for event in stream.held() if isinstance(event, TokenEvent)}
    rest = {event.token: event.cursor for event in stream.held(trimmed=10) if isinstance(event, TokenEvent)}

    assert list(rest) == [str(seq) for seq in range(64, 71)]
    assert rest.items() <= whole.items()


def test_a_zombie_is_shown_under_its_own_name_to_those_who_want_everything():
    """For debugging I want to see what the attempt that timed out went on to say, and that it was void."""
    stream = Stream()
    stream.write(SECOND, 0, said("Hi"))
    stream.write(FIRST, 0, said("Hel"))
    stream.write(FIRST, 1, said("lo"))

    events = stream.annotated()

    assert tokens(events) == ["Hi", "Hel", "lo"]
    started = [event for event in events if isinstance(event, AttemptStarted)]
    assert [(event.supersedes, event.superseded_by) for event in started] == [(None, None), (None, SECOND)]


class Attempting(RuleBasedStateMachine):
    """Attempts of two activities begin, speak, end, are written twice and come back as zombies, in any order.

    The model: of each activity, a viewer that obeys `supersedes` holds the text of one attempt at most; and
    what it is shown is known from the plain history alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.origins: list[Origin] = []
        self.written: dict[str, int] = {}
        self.text: dict[str, list[str]] = {}  # said while the attempt was the newest
        self.newest: dict[str, Origin] = {}
        self.outcome: dict[str, str] = {}
        self.released: dict[
            str, str
        ] = {}  # by activity: the attempt whose text stands at a viewer that holds

    @rule(activity=st.sampled_from("12"))
    def begin(self, activity: str) -> None:
        """Temporal starts the next attempt."""
        number = len(self.origins)
        origin = attempt(f"a{number}", number, activity)
        self.origins.append(origin)
        self.written[origin.attempt_id] = 0
        self.text[origin.attempt_id] = []

    @precondition(lambda self: self.origins)
    @rule(
        data=st.data(), ends=st.sampled_from([None, None, "completed_provisional", "failed", "async_pending"])
    )
    def speak(self, data: st.DataObject, ends: str | None) -> None:
        """Some attempt that has not ended writes a frame, maybe its last, whatever its age."""
        live = [origin for origin in self.origins if origin.attempt_id not in self.outcome]
        if not live:
            return
        origin = data.draw(st.sampled_from(live))
        seq = self.written[origin.attempt_id]
        self.written[origin.attempt_id] += 1
        token = f"{origin.attempt_id}.{seq};"
        last = () if ends is None else (AttemptEnded(outcome=ends),)
        self.stream.write(origin, seq, said(token), *last)
        newest = self.newest.get(origin.activity_id)
        if newest is None or newest.started_time <= origin.started_time:
            self.newest[origin.activity_id] = origin
            self.text[origin.attempt_id].append(token)
            if ends == "completed_provisional":
                self.released[origin.activity_id] = origin.attempt_id
        if ends is not None:
            self.outcome[origin.attempt_id] = ends

    @precondition(lambda self: self.stream.stored)
    @rule(data=st.data())
    def store_again(self, data: st.DataObject) -> None:
        """The reply to some write was lost, so it is written again."""
        self.stream.stored.append(data.draw(st.sampled_from(self.stream.stored)))

    @invariant()
    def a_viewer_that_holds_sees_what_succeeded(self) -> None:
        """And at the end, what nobody knows the outcome of, in place of what stood before."""
        standing: dict[str, list[str]] = {}
        for event in self.stream.held():
            assert event.origin is not None
            if isinstance(event, AttemptStarted) and event.supersedes:
                del standing[event.supersedes.attempt_id]
            elif isinstance(event, TokenEvent):
                standing.setdefault(event.origin.attempt_id, []).append(event.token)

        expected = dict(self.released)
        for activity, origin in self.newest.items():
            if self.outcome.get(origin.attempt_id) in (None, "async_pending"):
                expected[activity] = origin.attempt_id
        assert standing == {attempt_id: self.text[attempt_id] for attempt_id in expected.values()}

    @invariant()
    def cursors_of_a_viewer_that_holds_only_grow(self) -> None:
        """So resuming from any of them goes on exactly there."""
        cursors = [Cursor.parse(event.cursor) for event in self.stream.held()]
        assert cursors == sorted(set(cursors))

    @invariant()
    def a_viewer_that_wants_everything_gets_each_token_once(self) -> None:
        """Of every attempt, in its order."""
        seen = tokens(self.stream.annotated())
        for origin in self.origins:
            name = f"{origin.attempt_id}."
            mine = [token for token in seen if token.startswith(name)]
            assert mine == [f"{name}{seq};" for seq in range(self.written[origin.attempt_id])]


TestAttempting = Attempting.TestCase
TestAttempting.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_call_that_failed_within_a_good_attempt_never_comes_out():
    """The first model failed in mid-sentence and the second answered: only the answer is released."""
    first, second = a_call(), a_call(ordinal=1)
    origin = an_origin()
    events = [
        AttemptStarted(origin=origin),
        CallStarted(call=first, origin=origin),
        TokenEvent("Sorry", "answer", 0, call=first, origin=origin),
        CallEnded(call=first, error="ConnectionError", origin=origin),
        CallStarted(call=second, origin=origin),
        TokenEvent("Plan B", "answer", 0, call=second, origin=origin),
        CallEnded(call=second, origin=origin),
        AttemptEnded(outcome="completed_provisional", origin=origin),
    ]

    released = Held("run").read("1", events)

    assert [event.token for event in released if isinstance(event, TokenEvent)] == ["Plan B"]
    assert [event.call.ordinal for event in released if isinstance(event, CallStarted | CallEnded)] == [1, 1]
