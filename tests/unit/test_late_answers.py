"""A worker that is full answers its writers a little late; one that keeps up, or ends, never does."""

import asyncio
import time

import pytest

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis import late_answers
from temporal_token_interceptor.transport.redis.late_answers import LATE, LateAnswers, busy_clock

ONE, OTHER = (StreamKey("default", name, "run") for name in ("one", "other"))


def now() -> float:
    return asyncio.get_running_loop().time()


class Answer:
    """What a writer waits for."""

    def __init__(self) -> None:
        self.times = 0
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __call__(self) -> None:
        self.times += 1
        if not self.come.done():
            self.come.set_result(None)

    def done(self) -> bool:
        return self.come.done()


@pytest.fixture
def full() -> LateAnswers:
    late = LateAnswers()
    late.late = LATE
    return late


def looked(*shares: float) -> LateAnswers:
    """One that has looked at a thread which was busy for these shares of three seconds each."""
    clock, busy = 1_000.0, 5.0
    late = LateAnswers(lambda: busy)
    late.look(clock)
    for share in shares:
        for _ in range(300):
            clock, busy = clock + 0.0101, busy + 0.0101 * share
            late.look(clock)
    return late


@pytest.mark.parametrize(
    ("shares", "least", "most"),
    [
        ([0.5, 0.84], 0, 0),
        ([0.91], 0.3, 0.6),
        ([1.0], 0.9, 1),
        ([1.0, 0.91], 0.4, 0.7),  # larger frames take less, and that is why
        ([1.0, 0.5], 0, 0),
    ],
)
def test_the_less_time_is_left_the_later_are_answers(shares, least, most):
    """It is looked at ten times a second, and one moment says little."""
    late = looked(*shares)

    assert LATE * least <= late.late <= LATE * most


def test_a_worker_that_was_idle_is_not_full():
    """What it took before it was idle says nothing about now."""
    clock = iter([5.0, 5.3, 6.0])
    late = LateAnswers(lambda: next(clock))
    for now in (1_000.0, 1_000.3, 1_060.0):
        late.look(now)

    assert late.late == 0


def test_a_look_that_fails_changes_nothing():
    """A process out of file descriptors cannot read what the kernel counts."""

    def busy() -> float:
        raise OSError(24, "too many open files")

    late = looked(1.0)
    late._clock, before = busy, late.late
    late.look(1_010.0)

    assert late.late == before > 0


def test_a_clock_that_could_not_be_looked_for_is_looked_for_again(monkeypatch):
    """Too many open files just then: the kernel's count is used all the same, later."""

    class Busy:
        def read_text(self, _: str) -> str:
            raise OSError(24, "too many open files")

    late = LateAnswers()
    with monkeypatch.context() as patched:
        patched.setattr(late_answers, "_STATISTICS", Busy())
        late.look(1_000.0)
    assert late._clock is None
    late.look(1_001.0)
    assert late._clock is not None


def test_time_that_a_thread_works_counts():
    """On Linux also what it waits for a processor."""
    clock = busy_clock()
    begun, end = clock(), time.thread_time() + 0.02
    while time.thread_time() < end:
        pass

    assert clock() - begun >= 0.02 - 0.005  # the kernel counts in ticks


@pytest.mark.parametrize("text", [None, "0 0 0", "no numbers"])
def test_a_system_that_does_not_count_gives_the_time_of_the_processor(monkeypatch, tmp_path, text):
    """Another system, or a sandbox: what the thread waits for is not seen, what it takes is."""
    statistics = tmp_path / "schedstat"
    if text is not None:
        statistics.write_text(text)
    monkeypatch.setattr(late_answers, "_STATISTICS", statistics)

    assert busy_clock() is time.thread_time


async def test_a_worker_that_keeps_up_answers_at_once():
    stored = Answer()
    LateAnswers().answer(ONE, stored, now())

    assert stored.done()


async def test_a_full_worker_answers_a_little_late_and_in_order(full):
    begin, answers = now(), [Answer() for _ in range(3)]
    order: list[asyncio.Future[None]] = []
    for place, stored in enumerate(answers):
        stored.come.add_done_callback(order.append)
        full.answer(ONE, stored, begin + place * 0.005)

    assert not any(stored.done() for stored in answers)
    async with asyncio.timeout(5):
        await asyncio.gather(*(stored.come for stored in answers))
    assert now() - begin >= LATE
    assert order == [stored.come for stored in answers]


async def test_a_stream_that_ends_is_answered_at_once(full):
    """What waits, and what is written from then on; others wait on."""
    waiting, other = Answer(), Answer()
    full.answer(ONE, waiting, now())
    full.answer(OTHER, other, now())
    full.hurry(ONE, now())
    last = Answer()
    full.answer(ONE, last, now())

    assert waiting.done()
    assert last.done()
    assert not other.done()
    async with asyncio.timeout(5):
        await other.come


async def test_a_stream_that_ended_waits_again_when_another_attempt_writes_to_it(full):
    full.hurry(ONE, now() - 10)
    full.hurry(OTHER, now())
    later = Answer()
    full.answer(ONE, later, now())

    assert not later.done()
    assert list(full._hurried) == [OTHER]
    full.end()


async def test_each_is_answered_once(full):
    """A stream is hurried while its answer waits, and the time of that comes all the same."""
    hurried, stored = Answer(), Answer()
    for stream, answer in ((ONE, hurried), (OTHER, stored)):
        full.answer(stream, answer, now())
    full.hurry(ONE, now())

    assert hurried.done()
    async with asyncio.timeout(5):
        await stored.come
    assert (hurried.times, stored.times) == (1, 1)


async def test_the_end_of_the_backend_answers_all(full):
    answers = [Answer() for _ in range(3)]
    for stored in answers:
        full.answer(ONE, stored, now())
    full.end()

    assert all(stored.done() for stored in answers)
    full.end()
