"""Many streams as one: in order, fair, bounded, and each ends alone."""

import asyncio
from collections import Counter

from temporal_token_interceptor import TokenEvent
from temporal_token_interceptor.reader.merge import Merge, Over


def words(name, count):
    return [TokenEvent(token=f"{name}{number}", node_name="node", index=number) for number in range(count)]


async def in_lists(events, size, *, error=None, closed=None):
    try:
        for begin in range(0, len(events), size):
            yield events[begin : begin + size]
            await asyncio.sleep(0)
        if error is not None:
            raise error
    finally:
        if closed is not None:
            closed.set()


async def endless(name, read):
    while True:
        read[name] += 1
        yield words(name, 1)


async def taken(merge):
    found = []
    while (one := await merge.next(lambda: True)) is not None:
        found.append(one)
    return found


async def test_each_stream_keeps_its_order_and_misses_nothing():
    merge = Merge()
    whole = {f"s{number}": words(f"s{number}.", 7 * number) for number in range(20)}
    for number, (name, events) in enumerate(whole.items()):
        merge.add(name, in_lists(events, 1 + number % 5))

    found = await taken(merge)

    for name, events in whole.items():
        assert [event for of, event in found if of == name] == [*events, Over(None)]
    await merge.close()


async def test_a_quick_stream_keeps_none_of_the_others_waiting():
    """One that always has more, and ninety-nine that have one word: the words come within a round or two."""
    merge = Merge()
    merge.add("quick", endless("quick", Counter()))
    for _ in range(500):
        await merge.next(lambda: False)
    for number in range(99):
        merge.add(f"slow{number}", in_lists(words("word", 1), 1))

    came = [await merge.next(lambda: False) for _ in range(400)]
    names = [one[0] for one in came if one is not None]

    assert max(names.index(f"slow{number}") for number in range(99)) < 300
    await merge.close()


async def test_what_nobody_takes_is_not_read_ahead_without_a_bound():
    """A stream whose events wait pauses; it goes on once they were taken."""
    merge, read = Merge(), Counter()
    merge.add("stream", endless("stream", read))
    for _ in range(1_000):
        await asyncio.sleep(0)

    assert read["stream"] == 64
    for _ in range(200):
        await merge.next(lambda: False)
    assert 200 <= read["stream"] <= 200 + 64
    await merge.close()


async def test_a_stream_that_fails_ends_alone():
    merge, error = Merge(), ValueError("gone")
    merge.add("bad", in_lists(words("bad", 3), 2, error=error))
    merge.add("good", in_lists(words("good", 5), 2))

    found = await taken(merge)

    assert [event for of, event in found if of == "bad"] == [*words("bad", 3), Over(error)]
    assert [event for of, event in found if of == "good"] == [*words("good", 5), Over(None)]
    await merge.close()


async def test_nothing_comes_of_a_stream_after_it_was_removed():
    """Also what had been read of it already; the stream is closed, and its name is free again."""
    merge, closed = Merge(), asyncio.Event()
    merge.add("stream", in_lists(words("old", 9), 3, closed=closed))
    assert await merge.next(lambda: True) == ("stream", words("old", 1)[0])

    merge.remove("stream")
    merge.add("stream", in_lists(words("new", 2), 1))

    assert [event for _, event in await taken(merge)] == [*words("new", 2), Over(None)]
    async with asyncio.timeout(5):
        await closed.wait()
    await merge.close()


async def test_a_wait_that_is_cancelled_loses_nothing():
    """I may wait for the next event with a time limit."""
    merge, going = Merge(), asyncio.Event()

    async def later():
        await going.wait()
        yield words("word", 1)

    merge.add("stream", later())
    for _ in range(3):
        waiting = asyncio.ensure_future(merge.next(lambda: True))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    going.set()

    assert [event for _, event in await taken(merge)] == [*words("word", 1), Over(None)]
    await merge.close()


async def test_leaving_closes_every_stream():
    merge = Merge()
    closed = [asyncio.Event() for _ in range(30)]
    for number, one in enumerate(closed):
        merge.add(f"s{number}", in_lists(words("word", 500), 3, closed=one))
    for _ in range(50):
        await merge.next(lambda: False)

    await merge.close()

    assert all(one.is_set() for one in closed)
