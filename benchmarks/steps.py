"""Where the microseconds of a token go: CPU of each step on its way, worker and reader apart.

Calls take turns in lockstep: each says one token, then all of them are stored; on the other side, a page
brings one token of each run. So a batch is as large as there are calls, whatever else the machine does, and
the clock is the CPU time of one thread. At 1 call a token pays alone for its round trip; at 500 it shares
that with 499 others. Each step is measured with all before it, and shown less what those took.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from redis import Redis

from benchmarks.capture import NullSink
from benchmarks.measure import Figure, Size, collect_seldom, origin
from benchmarks.peers.ours import Chunks
from devservers import redis_server
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Call, CallStarted, Frame, Origin, Record, TextRun, TokenEvent
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.base import EntrySource, FetchingSink
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.transport.redis.keys import FIELD, Keys
from temporal_token_interceptor.worker.fetched_session import session_to

CALLS = (1, 100, 500)
LONG_CALLS = (*CALLS, 1_000)
TOKENS = 20_000  # of all calls, about: fewer calls say more
MOST_TURNS = 400
ROUNDS = 3
BYTES = 32 * 1024 * 1024
PREFIX = "tti:v1:"

_FLUSH = timedelta(seconds=10)

_Step = Callable[[str, int, int], Awaitable[float]]
"""Let so many calls say a token so many times; return the seconds of CPU that it took."""


async def figures(size: Size) -> AsyncIterator[Figure]:
    collect_seldom()
    async with redis_server() as url:
        numbers = LONG_CALLS if size.is_long else CALLS
        for calls in numbers[: size.count(len(numbers))]:
            turns = size.count(min(MOST_TURNS, TOKENS // calls), 3)
            for side, steps in (("worker", _WORKER), ("reader", _READER)):
                rounds = [
                    [await step(url, calls, turns) / calls / turns * 1e6 for step in steps.values()]
                    for _ in range(size.count(ROUNDS))
                ]
                # The least of a few: what else the machine does only adds.
                least = [min(each) for each in zip(*rounds, strict=True)]
                for name, before, taken in zip(steps, [0.0, *least], least, strict=False):
                    yield Figure(f"steps.{calls}.{side}.{name}", taken - before, "us CPU/token")
                yield Figure(f"steps.{calls}.{side}", least[-1], "us CPU/token")


# ------------------------------------------------------------------ the worker


class _Counting(NullSink):
    """Passes entries on, and says when each call has stored one."""

    def __init__(self, sink: FetchingSink, calls: int) -> None:
        self._sink = sink
        self._calls = calls
        self._left = 0
        self._all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def turn(self) -> asyncio.Future[None]:
        self._left = self._calls
        self._all = asyncio.get_running_loop().create_future()
        return self._all

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        self._sink.fetch_from(stream, _Counted(source, self))

    def count(self) -> None:
        self._left -= 1
        if not self._left and not self._all.done():
            self._all.set_result(None)


class _Counted:
    """Passes the entries of a source on, and counts those that are stored."""

    def __init__(self, source: EntrySource, counting: _Counting) -> None:
        self._source = source
        self._counting = counting

    @property
    def is_over(self) -> bool:
        return self._source.is_over

    def take(self) -> bytes | None:
        return self._source.take()

    def stored(self) -> None:
        self._source.stored()
        self._counting.count()

    def failed(self, error: TokenStreamError) -> None:
        self._source.failed(error)


async def _callback(_: str, calls: int, turns: int) -> float:
    """From LangChain's callback into the buffer, and out of it."""
    budget, buffers, says = Budget(BYTES), [], []
    for _call in range(calls):
        buffer = Buffer(budget, lambda: None)
        says.append(Chunks(Observer(buffer, default_node="bench")).say)
        buffers.append(buffer)
    taken = 0.0
    for _turn in range(turns):
        before = time.thread_time()
        for say in says:
            say("token ")
        for buffer in buffers:
            buffer.take(65_536)
        taken += time.thread_time() - before
    for buffer in buffers:
        buffer.close()
    return taken


async def _session(_: str, calls: int, turns: int) -> float:
    """And through the session: numbered, checked, encoded."""
    return await _speak(NullSink(), calls, turns)


async def _worker_redis(url: str, calls: int, turns: int) -> float:
    """And stored in Redis."""
    async with RedisStreamBackend(url) as backend:
        return await _speak(backend, calls, turns)


async def _speak(sink: FetchingSink, calls: int, turns: int) -> float:
    budget, counting = Budget(BYTES), _Counting(sink, calls)
    async with AsyncExitStack() as stack:
        says: list[Callable[[str], None]] = []
        sessions = []
        for place in range(calls):
            session = await stack.enter_async_context(
                session_to(origin(str(place)), counting, budget=budget, flush_timeout=_FLUSH)
            )
            says.append(Chunks(Observer(session.buffer, default_node="bench")).say)
            sessions.append(session)
        await counting.turn()  # the calls' starts
        taken = 0.0
        for _turn in range(turns):
            stored = counting.turn()
            before = time.thread_time()
            for say in says:
                say("token ")
            await stored
            taken += time.thread_time() - before
        return taken


# ------------------------------------------------------------------ the reader

# All entries at once: a reader that waits is served when the script is over.
_STORE = f"for i = 1, #KEYS do redis.call('XADD', KEYS[i], '*', '{FIELD}', ARGV[i]) end"

_Got = Callable[[int], None]
_Follow = Callable[[RedisStreamBackend, Origin, _Got], Coroutine[Any, Any, None]]


async def _fetch(backend: RedisStreamBackend, attempt: Origin, got: _Got) -> None:
    async for batch in backend.read(StreamKey.of(attempt)):
        got(len(batch))


async def _decode(backend: RedisStreamBackend, attempt: Origin, got: _Got) -> None:
    key = StreamKey.of(attempt)
    cache = EntryCache(key, FrameCodec(None, key))
    async for batch in backend.read(key):
        cache.decoded(batch)
        got(len(batch))


async def _subscribe(backend: RedisStreamBackend, attempt: Origin, got: _Got) -> None:
    until = asyncio.get_running_loop().create_future()
    got(1)  # in place of the call's start
    async for event in TokenSubscriber(None, backend).subscribe(
        attempt.workflow_id, attempt.run_id, until=until
    ):
        if type(event) is TokenEvent:
            got(1)


def _following(follow: _Follow) -> _Step:
    async def step(url: str, calls: int, turns: int) -> float:
        attempts = [origin(str(place)) for place in range(calls)]
        waiting, left = asyncio.Event(), 0
        ask, answer = os.pipe()

        def got(count: int) -> None:
            nonlocal left
            left -= count
            if not left:
                waiting.set()

        writer = threading.Thread(target=_store, args=(url, attempts, turns, ask), daemon=True)
        writer.start()
        async with RedisStreamBackend(url) as backend, asyncio.TaskGroup() as group:
            left = calls
            following = [group.create_task(follow(backend, attempt, got)) for attempt in attempts]
            os.write(answer, b".")
            await waiting.wait()
            before = time.thread_time()
            for _turn in range(turns):
                waiting.clear()
                left = calls
                os.write(answer, b".")
                await waiting.wait()
            taken = time.thread_time() - before
            for task in following:
                task.cancel()
        os.write(answer, b".")  # only now may the streams go
        await asyncio.to_thread(writer.join)
        os.close(ask)
        os.close(answer)
        return taken

    return step


def _store(url: str, attempts: Sequence[Origin], turns: int, asked: int) -> None:
    """Store a frame of each attempt each time that the pipe has a byte: first the start of its call."""
    keys = [Keys(PREFIX).stream(StreamKey.of(attempt)) for attempt in attempts]
    call = Call(ordinal=0, id="1:0", node_name="bench")
    with Redis.from_url(url) as client:
        store = client.register_script(_STORE)
        for seq in range(turns + 1):
            record: Record = TextRun("text", 0, seq - 1, ("token ",), 1) if seq else CallStarted(call=call)
            frames = [encode(Frame(attempt, seq, (record,), header=seq == 0)) for attempt in attempts]
            os.read(asked, 1)
            store(keys, frames)
        os.read(asked, 1)
        client.delete(*keys)


_WORKER: dict[str, _Step] = {"callback": _callback, "session": _session, "redis": _worker_redis}
_READER: dict[str, _Step] = {
    "redis": _following(_fetch),
    "decoding": _following(_decode),
    "events": _following(_subscribe),
}
