"""What an attempt weighs, while Redis takes its tokens and while Redis is away.

Python's own count of bytes (`tracemalloc`), of attempts whose calls have said a second's worth of tokens.
With Redis away, calls go on sending until the worker's bound is reached several times over.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

from benchmarks.capture import NullSink
from benchmarks.measure import Figure, Size, origin, stamp
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.transport.base import EntrySource
from temporal_token_interceptor.worker.fetched_session import session_to

ATTEMPTS = 500
TOKENS = 50
ATTEMPT_KIB = 64.0

BOUND = 4 * 1024 * 1024  # bytes; the default is eight times that, and takes as much longer to fill
SPEAKERS = 10
WORD = 1_024  # characters of a token while Redis is away, so that the bound is met soon


class _AwaySink(NullSink):
    """Stores nothing, ever."""

    def __init__(self) -> None:
        self._in_flight: list[bytes | None] = []

    def _take_all(self, source: EntrySource) -> None:
        self._in_flight.append(source.take())


async def figures(size: Size) -> AsyncIterator[Figure]:
    attempts = size.count(ATTEMPTS)
    yield Figure(
        "memory.attempt", await _weight(attempts, TOKENS, NullSink()) / attempts / 1024, "KiB", ATTEMPT_KIB
    )
    tokens = size.count(3 * BOUND // WORD // SPEAKERS)
    empty = await _weight(SPEAKERS, 1, _AwaySink(), padding="." * WORD)
    held = await _weight(SPEAKERS, tokens, _AwaySink(), BOUND, padding="." * WORD)
    yield Figure("memory.away.share", (held - empty) / BOUND, "of bound", 1.0)


async def _weight(
    attempts: int, tokens: int, sink: NullSink, bound: int = 32 * 1024 * 1024, padding: str = ""
) -> int:
    """Return how many bytes so many attempts hold."""
    budget = Budget(bound)
    _traced_start()
    try:
        async with AsyncExitStack() as stack:
            before = _traced()
            observers = [await _live(stack, budget, tokens, sink, padding) for _ in range(attempts)]
            await asyncio.sleep(0.1)  # the sessions send what they have
            held = _traced() - before
            for observer in observers:
                observer.close()
            return held
    finally:
        tracemalloc.stop()


async def _live(stack: AsyncExitStack, budget: Budget, tokens: int, sink: NullSink, padding: str) -> Observer:
    session = await stack.enter_async_context(
        session_to(origin(), sink, budget=budget, flush_timeout=timedelta(seconds=2))
    )
    observer = Observer(session.buffer, default_node="bench")
    run_id = uuid.uuid4()
    observer.on_chat_model_start({}, [], run_id=run_id)
    for _ in range(tokens):
        observer.on_llm_new_token(stamp() + padding, run_id=run_id)
        await asyncio.sleep(0)
    return observer


def _traced_start() -> None:
    gc.collect()
    tracemalloc.start()


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
