"""One slow subscriber among many of a process: bounded, told what it missed, and nobody else's business."""

import asyncio
import time
from contextlib import aclosing
from statistics import quantiles

import pytest

from temporal_token_interceptor import (
    AttemptEnded,
    Entry,
    Event,
    Gap,
    RedisStreamBackend,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.events import CallEnded, CallStarted, Frame, Record, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.feeds import QUEUE_BYTES, QUEUE_ENTRIES, Listener
from temporal_token_interceptor.transport.redis.pages import PAGE_ENTRIES
from tests.support.frames import a_call, an_origin
from tests.support.streams import unique

QUICK = 10
TOKENS = 1_500
PACE = 0.001  # seconds from one token to the next
LIVE = 50  # by then, subscribers have caught up and get what comes


class Crowd:
    """Many subscribers of one run in one process, and perhaps one that soon stops to read.

    Attributes:
        counts: Tokens that each quick subscriber heard; all of them in order, without a gap.
        ages: Of their tokens, in seconds.
        late: What the slow subscriber was given.
        unread: The most entries that were queued for one subscriber.
        dropped: Whether the shared read stopped to queue for the slow one.
    """

    def __init__(self, reader: RedisStreamBackend) -> None:
        self.counts: list[int] = []
        self.ages: list[float] = []
        self.late: list[Event] = []
        self.unread = 0
        self.dropped = False
        self._reader = reader
        self._origin = an_origin(workflow_id=unique("slow"), run_id=unique("run"))
        self._spoken = asyncio.get_running_loop().create_future()

    @property
    def p99(self) -> float:
        """Of the quick subscribers' delays, in seconds."""
        return quantiles(self.ages, n=100)[98]

    async def listen(self, writer: RedisStreamBackend, *, slow: bool) -> None:
        """Say everything while all listen; return once all have heard it."""
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            for _ in range(QUICK):
                group.create_task(self._be_quick())
            if slow:
                group.create_task(self._be_slow())
            group.create_task(self._speak(writer))

    def _events(self):
        subscriber = TokenSubscriber(None, self._reader)
        origin = self._origin
        return aclosing(subscriber.subscribe(origin.workflow_id, origin.run_id, until=self._spoken))

    async def _be_quick(self):
        count = 0
        async with self._events() as events:
            async for event in events:
                assert not isinstance(event, Gap)
                if isinstance(event, TokenEvent):
                    assert event.index == count
                    count += 1
                    self.ages.append(time.monotonic() - float(event.token))
        self.counts.append(count)

    async def _be_slow(self):
        async with self._events() as events:
            async for event in events:
                self.late.append(event)
                if isinstance(event, TokenEvent) and event.index == LIVE:
                    await asyncio.wait({self._spoken})

    async def _speak(self, writer):
        stream, call = StreamKey.of(self._origin), a_call()
        for seq in range(TOKENS):
            said: list[Record] = [TextRun("text", 0, seq, (f"{time.monotonic()} ",), 1)]
            if seq == 0:
                said.insert(0, CallStarted(call=call))
            if seq == TOKENS - 1:
                said += [CallEnded(call=call), AttemptEnded(outcome="completed_provisional")]
            frame = Frame(self._origin, seq, tuple(said), header=seq == 0, open_calls=())
            await writer.write(stream, encode(frame))
            self._look(seq)
            await asyncio.sleep(PACE)
        self._spoken.set_result(None)

    def _look(self, seq):
        """See what is queued for whom."""
        feeds = self._reader._reader._follower._feeds.values()
        listeners = [listener for feed in feeds for listener in feed.listeners]
        self.unread = max([self.unread, *(listener.entries for listener in listeners)])
        self.dropped = self.dropped or (seq > TOKENS // 2 and len(listeners) == QUICK)


async def a_crowd(redis_url, *, slow, maxlen=10_000):
    async with (
        RedisStreamBackend(redis_url) as reader,
        RedisStreamBackend(redis_url, stream_maxlen=maxlen) as writer,
    ):
        crowd = Crowd(reader)
        await crowd.listen(writer, slow=slow)
        return crowd


async def test_a_slow_subscriber_gets_everything_later_and_the_others_notice_nothing(redis_url, capsys):
    """One browser tab hangs: it gets the rest when it is back, and all others are as quick as before."""
    alone = await a_crowd(redis_url, slow=False)

    beside = await a_crowd(redis_url, slow=True)

    with capsys.disabled():
        print(  # noqa: T201 - for whoever runs the tests
            f"\n{QUICK} quick subscribers: p99 {alone.p99 * 1e3:.1f} ms alone, {beside.p99 * 1e3:.1f} ms "
            f"beside a slow one, for which at most {beside.unread} entries were queued"
        )
    assert beside.counts == alone.counts == [TOKENS] * QUICK
    assert beside.p99 < 3 * alone.p99 + 0.05
    assert [event.index for event in beside.late if isinstance(event, TokenEvent)] == [*range(TOKENS)]
    assert not any(isinstance(event, Gap) for event in beside.late)
    assert beside.dropped
    assert QUEUE_ENTRIES <= beside.unread < QUEUE_ENTRIES + PAGE_ENTRIES


async def test_a_slow_subscriber_that_was_overtaken_is_told_how_much_is_missing(redis_url):
    """The stream is trimmed under it: a `Gap` says so, and what is left follows."""
    crowd = await a_crowd(redis_url, slow=True, maxlen=100)

    gaps = [event for event in crowd.late if isinstance(event, Gap)]
    tokens = [event.index for event in crowd.late if isinstance(event, TokenEvent)]
    assert crowd.counts == [TOKENS] * QUICK
    assert {gap.reason for gap in gaps} == {"trimmed"}
    assert tokens == sorted(set(tokens))
    assert len(tokens) + sum(gap.missing or 0 for gap in gaps) == TOKENS  # a token, a frame
    assert len(tokens) < TOKENS


@pytest.mark.parametrize(("size", "fits"), [(1, QUEUE_ENTRIES), (QUEUE_BYTES // 10, 11)])
def test_what_waits_for_a_subscriber_is_bounded_in_entries_and_bytes(size, fits):
    """However large the frames are, a reader that hangs costs the process a bounded amount."""
    listener = Listener("")

    put = 0
    while listener.put([Entry(f"{put}", b"x" * size)], size):
        put += 1

    assert put == fits
    assert listener.entries == listener.size == 0
