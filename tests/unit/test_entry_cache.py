"""Entries are opened and decoded once for all readers of a run, and kept for no longer than these read."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from temporal_token_interceptor import MemoryStreamBackend, TokenEvent, TokenSubscriber
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import ProtocolError
from temporal_token_interceptor.events import Frame, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader import entry_cache
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.transport.base import Entry
from tests.support.frames import an_origin

STREAM = StreamKey.of(an_origin())


def a_cache(readers: int = 2) -> EntryCache:
    """The cache of a run that has so many readers."""
    cache = EntryCache(STREAM, FrameCodec(None, STREAM))
    cache.readers = readers
    return cache


def an_entry(number: int, text: str = "token ") -> Entry:
    """A frame of one token, as a transport stores it."""
    frame = Frame(an_origin(), number, (TextRun("text", 0, number, (text,), 1),), header=number == 0)
    return Entry(f"{number:05d}", encode(frame))


def decoded(cache: EntryCache, *entries: Entry) -> list[Any]:
    """What plain entries hold."""
    found = cache.decoded(entries)
    assert found is not None
    return found


def test_several_readers_share_what_was_decoded():
    """A hundred viewers of one answer cost one decoding."""
    cache = a_cache()

    (first,) = decoded(cache, an_entry(0))
    (second,) = decoded(cache, an_entry(0))

    assert first is second


def test_a_lone_reader_keeps_nothing():
    """Nobody else wants it."""
    cache = a_cache(readers=1)

    cache.decoded([an_entry(0)])

    assert not cache._kept


def test_what_is_kept_is_bounded_by_bytes():
    """Large frames push each other out; one beyond the bound is not kept at all."""
    cache = a_cache()
    size = entry_cache._KEPT_BYTES // 4

    cache.decoded([an_entry(number, "x" * size) for number in range(10)])
    cache.decoded([an_entry(99, "x" * 5 * size)])

    assert sum(len(data) for data, _ in cache._kept.values()) == cache._size <= entry_cache._KEPT_BYTES
    assert "00009" in cache._kept
    assert "00099" not in cache._kept


def test_an_id_that_is_given_out_again_is_decoded_again():
    """A stream that was deleted and begun again may repeat an id."""
    cache = a_cache()
    cache.decoded([an_entry(0, "old")])

    (packet,) = decoded(cache, an_entry(0, "new"))

    assert packet.events[0][3] == ["new"]


def test_what_is_no_frame_is_known_as_that():
    """Each reader counts it; none decodes it again."""
    cache = a_cache()
    junk = Entry("00000", b"junk")

    (first,), (second,) = decoded(cache, junk), decoded(cache, junk)

    assert isinstance(first, ProtocolError)
    assert first is second


async def test_nothing_is_kept_once_the_last_reader_has_left(monkeypatch):
    """My process reads thousands of runs a day, and some are secret."""
    made: list[weakref.ref[EntryCache]] = []

    class Watched(EntryCache):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr("temporal_token_interceptor.reader.temporal.shared_parts.EntryCache", Watched)
    backend = MemoryStreamBackend()
    await backend.write(STREAM, an_entry(0).data)
    subscriber = TokenSubscriber(None, backend)
    until = asyncio.get_running_loop().create_future()

    kept: list[int] = []

    async def read() -> None:
        async for event in subscriber.subscribe(STREAM.workflow_id, STREAM.run_id, until=until):
            if isinstance(event, TokenEvent):
                kept.extend(len(cache()._kept) for cache in made)
                if len(kept) == 3:
                    until.set_result(None)

    async with asyncio.timeout(5):
        await asyncio.gather(*(read() for _ in range(3)))
    gc.collect()

    assert kept[-1] == 1

    assert len(made) == 1
    assert made[0]() is None


@pytest.mark.parametrize("left", ["by leaving", "by cancelling"])
async def test_a_reader_that_leaves_early_is_counted_out(left):
    """What is kept is kept for those who read."""
    backend = MemoryStreamBackend()
    await backend.write(STREAM, an_entry(0).data)
    subscriber = TokenSubscriber(None, backend)
    until = asyncio.get_running_loop().create_future()
    events = subscriber.subscribe(STREAM.workflow_id, STREAM.run_id, until=until)
    await anext(events)
    (cache,) = subscriber._runs._shared._caches.values()
    assert cache.readers == 1

    if left == "by cancelling":
        await anext(events)
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    await events.aclose()

    assert cache.readers == 0
