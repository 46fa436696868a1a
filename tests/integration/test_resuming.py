"""A viewer that comes back to a long stream: it is there at once, and gets exactly what is new."""

import asyncio
import time

from benchmarks.measure import origin
from benchmarks.resuming import frames, resume
from temporal_token_interceptor import RedisStreamBackend, TokenEvent, TokenSubscriber
from temporal_token_interceptor.events import Frame, Origin, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey

ENTRIES = 10_000

# Seconds, of the best of five. `make bench` measures 0.04; the rest is for what else runs on the machine.
BOUND = 0.25


async def written(backend: RedisStreamBackend, attempt: Origin) -> str:
    """Store a stream of that many entries; return the id of the last."""
    stream = StreamKey.of(attempt)
    await asyncio.gather(*(backend.write(stream, data) for data in frames(attempt, ENTRIES)))
    return await backend.last_id(stream)


async def test_resuming_at_the_end_of_a_long_stream_is_quick(redis_url):
    """The best of a few: a busy machine makes any of them slow."""
    attempt = origin()
    async with RedisStreamBackend(redis_url, stream_maxlen=2 * ENTRIES) as backend:
        last = await written(backend, attempt)
        subscriber = TokenSubscriber(None, backend)
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            await resume(subscriber, attempt, last)
            taken.append(time.perf_counter() - begun)

    assert min(taken) < BOUND
    assert subscriber.statistics.entries == 5 * ENTRIES
    assert subscriber.statistics.gaps == 5  # at the end of each: the attempt has not ended


async def test_a_viewer_that_resumed_there_gets_the_next_token_and_the_check_holds(redis_url):
    """What was skimmed counts for the check at the end of its call: nothing is reported as missing."""
    attempt = origin()
    async with RedisStreamBackend(redis_url, stream_maxlen=2 * ENTRIES) as backend:
        await written(backend, attempt)
        said = Frame(attempt, ENTRIES, (TextRun("text", 0, ENTRIES - 1, ("last ",), 1),))
        await backend.write(StreamKey.of(attempt), encode(said))
        now = asyncio.get_running_loop().create_future()
        now.set_result(None)
        events = [
            event
            async for event in TokenSubscriber(None, backend).subscribe(
                attempt.workflow_id, attempt.run_id, until=now
            )
        ]
        tokens = [event for event in events if isinstance(event, TokenEvent)]

        rest = [
            event
            async for event in TokenSubscriber(None, backend).subscribe(
                attempt.workflow_id, attempt.run_id, tokens[-2].cursor, until=now
            )
        ]

    assert len(tokens) == ENTRIES
    assert rest == events[events.index(tokens[-1]) :]
    assert rest[0] == tokens[-1]
