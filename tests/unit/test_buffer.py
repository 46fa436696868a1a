"""The hand-off from callbacks to the loop: in order, bounded, and honest about what did not fit."""

import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.text_path import SentText, digest_of, text_path
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    Gap,
    Record,
    TextRun,
    ToolCallChunk,
)

PLENTY = 10**7  # bytes
ALL = 10**9  # bytes: everything that waits


def call(ordinal: int = 0) -> Call:
    """One of the calls of an attempt."""
    return Call(ordinal=ordinal, node_name="agent")


def tool(args: str, ordinal: int = 0) -> ToolCallChunk:
    """A record that is neither text nor the start or end of a call."""
    return ToolCallChunk(index=0, id=None, name=None, args=args, call=call(ordinal))


Way = Literal["put_text", "callback"]
WAYS: tuple[Way, ...] = ("put_text", "callback")


def speaker_of(buffer: Buffer, ordinal: int, way: Way) -> Callable[[int, str], object]:
    """What adds a piece of a call's text: with the buffer's lock, or without it, as LangChain's callback."""
    if way == "put_text":
        return lambda index, text: buffer.put_text(call(ordinal), "text", index, text)

    def fail(error: Exception) -> None:
        raise error

    def no_text(*_: object, **__: object) -> None:
        raise AssertionError("a chunk of text was taken for something else")

    on_token = text_path(SentText(buffer, call(ordinal)), no_text, fail)
    return lambda _, text: on_token(text, chunk=ChatGenerationChunk(message=AIMessageChunk(text)))


class Bench:
    """A buffer, its budget, and how often it woke its reader."""

    def __init__(self, limit: int = PLENTY) -> None:
        self.budget = Budget(limit)
        self.wakes = 0
        self.buffer = Buffer(self.budget, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def say(self, *texts: str, ordinal: int = 0, first: int = 0) -> None:
        """Put texts of a call, one chunk each."""
        for index, text in enumerate(texts, first):
            self.buffer.put_text(call(ordinal), "text", index, text)


@pytest.fixture
def bench():
    """A buffer with plenty of room."""
    return Bench()


@pytest.fixture
def busy_threads():
    """Threads take turns far more often than usual, so that what a lock forgets comes to light."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


# ------------------------------------------------------------------ runs


def test_neighbouring_tokens_of_a_call_share_a_record(bench):
    """A hundred tokens cost one record, and each stays a token."""
    bench.say("Hel", "lo", "!")

    assert bench.buffer.take(ALL) == (TextRun("text", 0, 0, ["Hel", "lo", "!"], 3),)


def test_calls_that_speak_at_once_do_not_tear_each_others_runs(bench):
    """Order counts within a call: parallel calls each keep one record."""
    for index, letter in enumerate("abc"):
        bench.say(letter, first=index)
        bench.say(letter.upper(), ordinal=1, first=index)

    assert bench.buffer.take(ALL) == (
        TextRun("text", 0, 0, ["a", "b", "c"], 3),
        TextRun("text", 1, 0, ["A", "B", "C"], 3),
    )


def test_answer_and_reasoning_are_kept_apart(bench):
    """Reasoning is never part of the answer's text."""
    bench.buffer.put_text(call(), "reasoning", 0, "hm")
    bench.buffer.put_text(call(), "text", 0, "yes")
    bench.buffer.put_text(call(), "reasoning", 1, "hm?")

    assert bench.buffer.take(ALL) == (
        TextRun("reasoning", 0, 0, ["hm"], 1),
        TextRun("text", 0, 0, ["yes"], 1),
        TextRun("reasoning", 0, 1, ["hm?"], 1),
    )


def test_other_records_keep_their_place_within_their_call(bench):
    """A tool call between two tokens stays between them; other calls do not mind."""
    bench.say("a")
    bench.say("A", ordinal=1)
    bench.buffer.put(tool("{}"), call())
    bench.say("b", first=1)
    bench.say("B", ordinal=1, first=1)

    assert bench.buffer.take(ALL) == (
        TextRun("text", 0, 0, ["a"], 1),
        TextRun("text", 1, 0, ["A", "B"], 2),
        tool("{}"),
        TextRun("text", 0, 1, ["b"], 1),
    )


def test_a_long_run_is_joined_and_loses_no_character(bench):
    """What gathers during an outage shrinks to its characters; how many tokens it was is still known."""
    said = [f"{number} " for number in range(1_300)]

    bench.say(*said)
    records = bench.buffer.take(ALL)

    assert "".join(text for run in records if isinstance(run, TextRun) for text in run.texts) == "".join(said)
    assert sum(run.count for run in records if isinstance(run, TextRun)) == 1_300
    assert [run.first_index for run in records if isinstance(run, TextRun)] == [0, 512, 1024]


def test_joining_gives_memory_back(bench):
    """A joined run costs its characters, not its tokens: the same budget holds a longer outage."""
    small = Bench(limit=80_000)

    small.say(*("x" for _ in range(5_000)))

    assert small.budget.dropped == 0


# ------------------------------------------------------------------ taking


def test_what_was_taken_is_gone(bench):
    """A record is taken once."""
    bench.say("a")
    bench.buffer.take(ALL)

    assert bench.buffer.take(ALL) == ()
    assert len(bench.buffer) == 0


def test_text_after_a_take_begins_a_run_of_its_own(bench):
    """What was taken is on its way: nothing is added to it behind its reader's back."""
    bench.say("a")
    (taken,) = bench.buffer.take(ALL)

    bench.say("b", first=1)

    assert taken == TextRun("text", 0, 0, ["a"], 1)
    assert bench.buffer.take(ALL) == (TextRun("text", 0, 1, ["b"], 1),)


def test_a_take_stops_at_its_bound_and_the_next_goes_on(bench):
    """Frames stay small: the oldest leave first, the rest waits and still grows."""
    bench.say("a" * 100)
    bench.say("b" * 100, ordinal=1)
    bench.say("c" * 100, ordinal=2)

    first = bench.buffer.take(200)
    bench.say("a again", first=1)
    bench.say("c again", ordinal=2, first=1)

    assert first == (TextRun("text", 0, 0, ["a" * 100], 1), TextRun("text", 1, 0, ["b" * 100], 1))
    assert bench.buffer.take(ALL) == (
        TextRun("text", 2, 0, ["c" * 100, "c again"], 2),
        TextRun("text", 0, 1, ["a again"], 1),
    )


def test_a_record_beyond_the_bound_is_taken_all_the_same(bench):
    """Otherwise it would never leave."""
    bench.say("x" * 1_000)

    assert len(bench.buffer.take(1)) == 1


# ------------------------------------------------------------------ waking


def test_the_reader_is_woken_only_when_the_buffer_stops_being_empty(bench):
    """A token costs an append, not a wake-up."""
    bench.say("a", "b", "c")
    bench.buffer.put(tool("{}"), call())
    first = bench.wakes

    bench.buffer.take(ALL)
    bench.say("d", first=3)

    assert first == 1
    assert bench.wakes == 2


def test_a_gap_wakes_the_reader_too():
    """Other attempts used up the budget: the reader still hears of what was dropped, and of what follows."""
    bench = Bench(limit=100)
    other = Buffer(bench.budget, lambda: None)
    other.put_text(call(), "text", 0, "x" * 30)

    bench.say("too much")
    other.close()
    bench.say("fits", first=1)

    assert bench.wakes == 1
    assert bench.buffer.take(ALL) == (
        Gap(missing=1, reason="overflow", call=call()),
        TextRun("text", 0, 1, ["fits"], 1),
    )


# ------------------------------------------------------------------ overflow


def test_what_does_not_fit_is_counted_where_it_is_missing():
    """The reader learns how many tokens of which call are missing, and where."""
    bench = Bench(limit=200)

    bench.say("a", "b", "c", "d", "e")
    bench.say("A", ordinal=1)
    bench.buffer.put(tool("{}"), call())
    records = bench.buffer.take(ALL)

    assert records == (
        TextRun("text", 0, 0, ["a", "b", "c"], 3),
        Gap(missing=3, reason="overflow", call=call(0)),
        Gap(missing=1, reason="overflow", call=call(1)),
    )
    assert bench.budget.dropped == 4


def test_after_an_overflow_text_goes_on_behind_the_gap():
    """Once what was taken is delivered there is room again, and the gap stays where it was."""
    bench = Bench(limit=200)
    bench.say("a", "b", "c", "lost")

    taken = bench.buffer.take(ALL)
    bench.say("lost, too", first=4)  # what was taken is not delivered yet
    between = bench.buffer.take(ALL)
    bench.say("e", first=5)

    assert taken[1] == Gap(missing=1, reason="overflow", call=call())
    assert between == (Gap(missing=1, reason="overflow", call=call()),)
    assert bench.buffer.take(ALL) == (TextRun("text", 0, 5, ["e"], 1),)


def test_starts_and_ends_of_calls_are_kept_when_text_no_longer_is():
    """Without them a reader could not tell whose text is missing."""
    bench = Bench(limit=1)

    bench.buffer.put(CallStarted(call=call()), call())
    bench.say("a", "b")
    bench.buffer.put(CallEnded(call=call()), call())

    assert bench.buffer.take(ALL) == (
        CallStarted(call=call()),
        Gap(missing=2, reason="overflow", call=call()),
        CallEnded(call=call()),
    )


def test_even_starts_and_ends_have_a_bound_and_a_count():
    """An endless outage costs bounded memory; what has no place of its own is still counted."""
    bench = Bench(limit=1)

    for ordinal in range(5_000):
        bench.buffer.put(CallStarted(call=call(ordinal)), call(ordinal))
    waiting = len(bench.buffer)
    *kept, last = bench.buffer.take(ALL)

    assert waiting == len(kept) < 5_000
    assert last == Gap(missing=5_000 - waiting, reason="overflow")


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1", None, True])
def test_a_budget_must_be_a_positive_number_of_bytes(limit):
    """A wrong bound is an error at once, not a stream without tokens."""
    with pytest.raises(
        ConfigurationError, match="max_buffered_bytes must be a positive whole number of bytes"
    ):
        Budget(limit)


# ------------------------------------------------------------------ closing


def test_a_closed_buffer_is_deaf(bench):
    """Tasks that outlive their activity record nothing, wake nobody and hold no memory."""
    bench.say("a")
    bench.buffer.close()
    bench.say("b")
    bench.buffer.put(tool("{}"), call())

    assert len(bench.buffer) == 0
    assert bench.buffer.take(ALL) == ()
    assert bench.wakes == 1
    assert bench.budget.leased == 0


def test_closing_twice_gives_memory_back_once(bench):
    """A session may close on more than one way out."""
    bench.say("a")

    bench.buffer.close()
    bench.buffer.close()

    assert bench.budget.leased == 0


# ------------------------------------------------------------------ any use at all

operations = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(0, 2), st.integers(0, 300)),
        st.tuples(st.just("reasoning"), st.integers(0, 2), st.integers(0, 300)),
        st.tuples(st.just("tool"), st.integers(0, 2), st.integers(0, 600)),
        st.tuples(st.just("start"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.integers(1, 2_000)),
        st.tuples(st.just("burst"), st.integers(0, 2), st.integers(500, 1_100)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)  # thousands of tokens; how long that takes is no law
@given(operations, st.sampled_from([100, 2_000, 20_000, 60_000, PLENTY]))
def test_everything_put_is_delivered_in_order_or_counted_in_its_place(way, operations, limit):
    """Per call: what came out, with each gap standing for that many, is what went in."""
    bench = Bench(limit)
    say = [speaker_of(bench.buffer, ordinal, way) for ordinal in range(3)]
    put: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    indices: dict[Any, Iterator[int]] = defaultdict(count)
    taken: list[Record] = []

    for number, (kind, ordinal, size) in enumerate(operations):
        if kind == "take":
            taken += bench.buffer.take(size)
        elif kind == "tool":
            record = tool(f"{number}", ordinal)
            put[ordinal].append(record)
            bench.buffer.put(record, call(ordinal))
        elif kind == "start":
            start = CallStarted(call=call(ordinal))
            put[ordinal].append(start)
            bench.buffer.put(start, call(ordinal))
        else:
            texts = [f"{number} "] * size if kind == "burst" else [f"{number}".ljust(size, ".")]
            for text in texts:
                said: Any = "reasoning" if kind == "reasoning" else "text"
                chunk = (said, next(indices[ordinal, said]), text)
                put[ordinal].append(chunk)
                if said == "text":
                    say[ordinal](chunk[1], text)
                else:
                    bench.buffer.put_text(call(ordinal), *chunk)
        assert bench.buffer.received == sum(map(len, put.values()))
        assert 0 <= bench.budget.leased <= limit
    taken += bench.buffer.take(ALL)

    for ordinal, expected in put.items():
        _assert_accounted(expected, [record for record in taken if _ordinal(record) == ordinal])
    assert bench.budget.dropped == sum(record.missing or 0 for record in taken if isinstance(record, Gap))
    bench.buffer.close()
    assert bench.budget.leased == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("busy_threads")
def test_threads_that_put_at_once_lose_nothing(way):
    """Sync nodes call from worker threads, concurrently, while the loop takes."""
    threads, tokens = 8, 2_000
    budget = Budget(PLENTY)
    awake = threading.Event()
    buffer = Buffer(budget, awake.set)
    ready = threading.Barrier(threads)

    def speak(ordinal: int) -> None:
        say = speaker_of(buffer, ordinal, way)
        ready.wait()
        for index in range(tokens):
            say(index, f"{ordinal}:{index} ")

    speakers = [threading.Thread(target=speak, args=(ordinal,)) for ordinal in range(threads)]
    for speaker in speakers:
        speaker.start()
    taken: list[Record] = []
    while sum(record.count for record in taken if isinstance(record, TextRun)) < threads * tokens:
        assert awake.wait(timeout=30)
        awake.clear()
        while records := buffer.take(4_096):
            taken += records
    for speaker in speakers:
        speaker.join()

    for ordinal in range(threads):
        expected = [("text", index, f"{ordinal}:{index} ") for index in range(tokens)]
        _assert_accounted(expected, [record for record in taken if _ordinal(record) == ordinal])
    buffer.close()
    assert budget.leased == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("busy_threads")
def test_threads_that_overflow_one_budget_are_accounted_for_to_the_byte(way):
    """Many attempts, one budget, no reader: what fits is kept, the rest counted, and all of it returned."""
    threads, tokens = 8, 1_000
    budget = Budget(50_000)
    buffers = [Buffer(budget, lambda: None) for _ in range(threads)]
    ready = threading.Barrier(threads)

    def speak(buffer: Buffer) -> None:
        say = speaker_of(buffer, 0, way)
        ready.wait()
        for index in range(tokens):
            say(index, f"{index} ")

    speakers = [threading.Thread(target=speak, args=(buffer,)) for buffer in buffers]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()

    assert budget.leased <= budget.limit
    for buffer in buffers:
        _assert_accounted([("text", index, f"{index} ") for index in range(tokens)], buffer.take(ALL))
        buffer.close()
    assert budget.leased == 0


@pytest.mark.usefixtures("busy_threads")
def test_a_piece_that_comes_while_its_run_is_taken_is_in_the_next_one():
    """The thread of a call adds to a run without the lock: the moment in which it is taken costs no piece."""
    buffer = Buffer(Budget(PLENTY), lambda: None)
    say, tokens = speaker_of(buffer, 0, "callback"), 20_000
    said = threading.Event()

    def speak() -> None:
        for index in range(tokens):
            say(index, f"{index} ")
        said.set()

    thread = threading.Thread(target=speak)
    thread.start()
    taken: list[Record] = []
    while not said.is_set():
        taken += buffer.take(1)  # as often as it can
    thread.join()
    taken += buffer.take(ALL)

    _assert_accounted([("text", index, f"{index} ") for index in range(tokens)], taken)
    assert len(taken) > 1
    assert buffer.received == tokens


@given(
    st.lists(
        st.sampled_from(["a", "bc", "\N{GRINNING FACE}", "x" * 5_000, "many", "think", "take", "tool"]),
        max_size=300,
    )
)
@example(["many", "think", "a", "a"])  # a run that is long enough to be joined, ended by the other kind
def test_the_hash_of_what_was_sent_is_that_of_the_text(steps):
    """The final message is compared with it, wherever the pieces went."""
    buffer = Buffer(Budget(60_000), lambda: None)
    sent, thought = SentText(buffer, call()), SentText(buffer, call(), "reasoning")
    on_token = text_path(sent, lambda *_, **__: None, pytest.fail)
    texts = []

    for step in steps:
        if step == "take":
            buffer.take(ALL)
        elif step == "tool":
            buffer.put(tool("{}"), call())
        elif step == "think":
            thought.add("hm ")
        else:
            for text in ["1 "] * 520 if step == "many" else [step]:
                texts.append(text)
                on_token(text, chunk=ChatGenerationChunk(message=AIMessageChunk(text)))
    sent.take_hash()

    text = "".join(texts)
    assert (sent.count, sent.length, sent.digest) == (len(texts), len(text), digest_of(text))


def test_a_call_that_is_over_sends_nothing_more(bench):
    """A thread may outlive its attempt, and still hold the callback of its call."""
    sent = SentText(bench.buffer, call())
    on_token = text_path(sent, lambda *_, **__: None, pytest.fail)
    chunk = ChatGenerationChunk(message=AIMessageChunk("a"))
    on_token("a", chunk=chunk)
    on_token("a", chunk=chunk)

    sent.is_over = True
    bench.buffer.put(CallEnded(call=call()), call())
    on_token("a", chunk=chunk)

    assert bench.buffer.take(ALL) == (TextRun("text", 0, 0, ["a", "a"], 2), CallEnded(call=call()))


def _ordinal(record: Record) -> int | None:
    if isinstance(record, TextRun):
        return record.call
    call = getattr(record, "call", None)
    return None if call is None else call.ordinal


def _assert_accounted(expected: Sequence[Any], records: Sequence[Record]) -> None:
    """Walk along what was put: every record is its next part, every gap stands for that many."""
    place = 0
    for record in records:
        if isinstance(record, Gap):
            assert record.missing
            place += record.missing
        elif isinstance(record, TextRun):
            part = expected[place : place + record.count]
            texts = [text for _, _, text in part]
            assert {kind for kind, _, _ in part} == {record.kind}
            assert record.first_index == part[0][1]
            assert list(record.texts) == (texts if len(record.texts) == record.count else ["".join(texts)])
            place += record.count
        else:
            assert record == expected[place]
            place += 1
    assert place == len(expected)
