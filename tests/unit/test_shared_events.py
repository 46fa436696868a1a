"""Readers that read a run alike share its events, and each gets what it would get alone."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    Event,
    Frame,
    Gap,
    Origin,
    TextCheck,
    TextRun,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader import shared_events
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.entry_decoder import EntryDecoder
from temporal_token_interceptor.reader.position import ReadPosition
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.memory import MemoryStreamBackend

START = datetime(2026, 1, 2, tzinfo=UTC)
STREAM = StreamKey("default", "order-7", "run")


def attempt(number: int, activity: str = "1") -> Origin:
    """The attempt of an activity that began so many seconds after the first."""
    return Origin(
        namespace="default",
        workflow_id="order-7",
        run_id="run",
        activity_id=activity,
        attempt=number,
        attempt_id=f"a{activity}{number}",
        started_time=START + timedelta(seconds=number),
    )


def call(ordinal: int) -> Call:
    """A call of an activity."""
    return Call(ordinal=ordinal, id=f"1:{ordinal}", node_name="agent")


def frame(origin: Origin, seq: int, *records, header: bool | None = None) -> bytes:
    """A frame as it is stored; the first one has a header."""
    return encode(Frame(origin, seq, records, header=seq == 0 if header is None else header))


RECORDS = (
    TextRun("text", 0, 0, ("Hello", " you"), 2),
    TextRun("reasoning", 0, 0, ("hm",), 1),
    CallStarted(call=call(0)),
    CallStarted(call=call(1)),
    TextCheck(0, 2, "0" * 16),
    CallEnded(call=call(0)),
    AttemptEnded(outcome="failed", will_retry=True),
    AttemptEnded(outcome="completed_provisional", will_retry=False),
    Gap(missing=1, reason="unserializable"),
)


@st.composite
def stored(draw):
    """Entries of a stream: of several attempts, lost and repeated ones, and some that are no frames."""
    entries, seqs = [], {}
    for place in range(draw(st.integers(1, 30))):
        origin = attempt(draw(st.integers(1, 3)), draw(st.sampled_from("12")))
        seq = seqs.get(origin, 0) + draw(st.sampled_from((0, 0, 0, 0, 1, -1)))
        seqs[origin] = max(seq, seqs.get(origin, 0) - 1) + 1
        data = frame(origin, max(seq, 0), *draw(st.lists(st.sampled_from(RECORDS), max_size=3)))
        entries.append(Entry(f"{place:05d}", draw(st.sampled_from((data, data, data, data, b"{}")))))
    return entries


class Reader:
    """What `RunStream` does with the batches of a transport."""

    def __init__(self, cache: EntryCache, *, shares: bool) -> None:
        self.where = ReadPosition("run", None)
        self.statistics = ReaderStatistics()
        self.decoder = EntryDecoder(STREAM, self.where, self.statistics)
        self.cache = cache
        self.place = 0
        self.events = []
        if shares:
            self.decoder.share(cache.events)

    def read(self, entries, count):
        """Read some more entries."""
        batch = entries[self.place : self.place + count]
        self.place += len(batch)
        followed, rest = self.decoder.follow(batch)
        self.events += followed
        if rest:
            self.events += self.decoder.read(self.where.transport, rest, self.cache.decoded(rest))

    def facts(self):
        """All that can be seen of it."""
        state = self.decoder.state
        known = [state.standing(), state.doubtful(), state.unsettled()]
        return [self.events, self.statistics, self.where.transport.at, *known]


def a_cache() -> EntryCache:
    """The cache of a run with several readers."""
    cache = EntryCache(STREAM, FrameCodec(None, STREAM))
    cache.readers = 2
    return cache


@given(
    stored(),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 7), st.integers(0, 9)), max_size=25),
    st.sampled_from((150, 400, 10**6)),
)
def test_a_reader_gets_what_it_would_get_alone(entries, turns, kept):
    """In whatever order readers take their turns, however much is kept, and wherever they part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_events, "_HALF_BYTES", kept)
        cache = a_cache()
        together = [Reader(cache, shares=True) for _ in range(4)]
        alone = [Reader(a_cache(), shares=False) for _ in range(4)]

        for who, count, parts in [*turns, *((who, len(entries), 1) for who in range(4))]:
            for readers in (together, alone):
                readers[who].read(entries, count)
                if not parts:
                    readers[who].decoder.attempts.cut("transport")
            assert together[who].facts() == alone[who].facts()
    for readers in (together, alone):
        for reader in readers:
            reader.decoder.count()
    assert [reader.statistics for reader in together] == [reader.statistics for reader in alone]


def entries_of_a_call(count: int) -> list[Entry]:
    """A call of so many tokens, each in an entry."""
    records = [CallStarted(call=call(0)), *(TextRun("text", 0, at, ("token ",), 1) for at in range(count))]
    return [Entry(f"{at:05d}", frame(attempt(1), at, record)) for at, record in enumerate(records)]


def test_events_are_made_once():
    entries, cache = entries_of_a_call(50), a_cache()
    readers = [Reader(cache, shares=True) for _ in range(3)]

    for reader in readers:
        reader.read(entries, len(entries))

    first, *others = ([event for event in reader.events if type(event) is TokenEvent] for reader in readers)
    assert len(first) == 50
    assert all(mine is theirs for other in others for mine, theirs in zip(first, other, strict=True))


class Watched(MemoryStreamBackend):
    """Notes from where on it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.begins: list[str] = []

    def read(self, stream, after=""):
        """Iterate over entries."""
        self.begins.append(after)
        return super().read(stream, after)


async def test_who_comes_late_is_given_what_the_others_have():
    """It is read on from there: a thousand that come within a second do not ask for all of it, each."""
    backend, until = Watched(), asyncio.get_running_loop().create_future()
    for entry in entries_of_a_call(30):
        await backend.write(STREAM, entry.data)
    subscriber = TokenSubscriber(None, backend)
    said: list[list[Event]] = [[], [], []]

    async def read(place: int, enough: asyncio.Event) -> None:
        async for event in subscriber.subscribe("order-7", "run", until=until):
            said[place].append(event)
            if type(event) is TokenEvent and event.index == 29:
                enough.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for places in ((0, 1), (2,)):
            events = [asyncio.Event() for _ in places]
            for place, enough in zip(places, events, strict=True):
                group.create_task(read(place, enough))
            await asyncio.gather(*(enough.wait() for enough in events))
        until.set_result(None)

    assert said[0] == said[1] == said[2]
    assert backend.begins[:2] == ["", ""]
    assert backend.begins[2] == said[2][-3].cursor.split("~")[-2]
    assert sum(type(event) is TokenEvent for event in said[2]) == 30


def test_what_is_kept_is_bounded_by_bytes(monkeypatch):
    """A reader that is far behind goes on alone, and one that comes later does, too."""
    entries, cache = entries_of_a_call(500), a_cache()
    monkeypatch.setattr(shared_events, "_HALF_BYTES", 2_000)
    behind, ahead = Reader(cache, shares=True), Reader(cache, shares=True)
    behind.read(entries, 3)

    ahead.read(entries, len(entries))
    late = Reader(cache, shares=True)
    for reader in (behind, late):
        reader.read(entries, len(entries))

    kept = cache.events.made(cache.events.first, len(entries))
    assert 2_000 < sum(len(made.entry.data) for made in kept) <= 2 * 2_000 + 2 * len(entries[0].data)
    assert ahead.events == behind.events == late.events


def test_an_entry_that_cannot_be_read_costs_only_itself(monkeypatch):
    """Whatever it raises: the others go on together, as if it were not there."""
    entries, cache = entries_of_a_call(20), a_cache()
    readers = [Reader(cache, shares=True) for _ in range(2)]
    read = Attempts.read

    def failing(self, entry, packet, **options):
        events = read(self, entry, packet, **options)
        if entry == entries[10].id:
            raise RecursionError(entry)
        return events

    monkeypatch.setattr(Attempts, "read", failing)
    for reader in readers:
        reader.read(entries, len(entries))

    ones, others = ([event for event in reader.events if type(event) is TokenEvent] for reader in readers)
    assert len(ones) == len(others) == 19
    assert [reader.statistics.unreadable for reader in readers] == [1, 1]
