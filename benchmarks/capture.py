"""What capture costs a streaming model call, per token, over a handler that does nothing.

All variants run the same model, one after another within each round, so that a slow moment of the machine
meets all of them. A ratio is the median of the rounds' ratios. The clock is CPU time: it does not run while
another process has the processor.

A model that never waits is the strict case: the session's task gets no turn before the end, so this is the
callback alone, and one big frame. `yielding` gives up control at each token instead, as a model over a
network does; then every token is a frame of its own, which is the most that a token can cost.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from statistics import median
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, origin
from benchmarks.peers.predecessor import TaskPerToken
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import EntrySource
from temporal_token_interceptor.worker.fetched_session import session_to

TOKENS = 2_000
ROUNDS = 24
RATIO = 1.15

_T = TypeVar("_T")
_Ask = Callable[[BaseChatModel, list[BaseCallbackHandler]], Awaitable[float]]


class NullSink:
    """Stores nothing, at once."""

    keep_interval = timedelta(hours=1)

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Forget an entry."""

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:  # noqa: ARG002 - nothing is stored
        """Forget what a source has."""
        asyncio.get_running_loop().call_soon(self._take_all, source)

    def _take_all(self, source: EntrySource) -> None:
        while source.take() is not None:
            source.stored()

    def keep(self, stream: StreamKey) -> None:
        """Keep nothing."""

    async def close(self) -> None:
        """Nothing is open."""


class SlowSink(NullSink):
    """Stores nothing, in the millisecond that Redis takes."""

    def _take_all(self, source: EntrySource) -> None:
        if source.take() is not None:
            asyncio.get_running_loop().call_later(0.001, self._go_on, source)

    def _go_on(self, source: EntrySource) -> None:
        source.stored()
        self._take_all(source)


class Model(BaseChatModel):
    """Says its chunks as fast as it can."""

    tokens: int = TOKENS
    piece: str | list[str | dict[str, Any]] = "word "
    tool: bool = False
    yielding: bool = False

    @property
    def _llm_type(self) -> str:
        return "bench"

    def _chunk(self, index: int) -> ChatGenerationChunk:
        if not self.tool:
            return ChatGenerationChunk(message=AIMessageChunk(content=self.piece))
        # The whole has to be JSON: on anything else LangChain spends a hundred times of what is measured.
        args = '{"text": "' if index == 0 else '"}' if index == self.tokens - 1 else "word "
        part = tool_call_chunk(name=None if index else "write", args=args, id=None if index else "1", index=0)
        return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for index in range(self.tokens):
            yield self._chunk(index)

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for index in range(self.tokens):
            if self.yielding:
                await asyncio.sleep(0)
            yield self._chunk(index)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("word " * self.tokens))])


class NoOp(BaseCallbackHandler):
    """Makes `invoke` stream, by the two methods that LangChain looks for, and does nothing."""

    run_inline = True

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def tap_output_iter(self, _run_id: UUID, output: Iterator[_T]) -> Iterator[_T]:
        """Pass through."""
        return output

    def tap_output_aiter(self, _run_id: UUID, output: AsyncIterator[_T]) -> AsyncIterator[_T]:
        """Pass through."""
        return output


async def figures(size: Size) -> AsyncIterator[Figure]:
    tokens = size.count(TOKENS, 2)
    text = Model(tokens=tokens)
    yielding = Model(tokens=tokens, yielding=True)
    tool_calls = Model(tokens=tokens, tool=True)
    reasoning = Model(tokens=tokens, piece=[{"type": "reasoning", "reasoning": "word ", "index": 0}])
    blocks = Model(tokens=tokens, piece=[{"type": "text", "text": "word ", "index": 0}])  # as Anthropic's
    for name, model, ask, budget in (
        ("ainvoke", text, _ainvoke, RATIO),
        ("invoke", text, _invoke, RATIO),
        ("invoke_process", text, _invoke_process, None),
        ("ainvoke_yielding", yielding, _ainvoke, None),
        ("ainvoke_tool_calls", tool_calls, _ainvoke, None),
        ("ainvoke_text_blocks", blocks, _ainvoke, None),
        ("ainvoke_reasoning", reasoning, _ainvoke, None),
    ):
        rounds = size.count(ROUNDS if budget else ROUNDS // 3)
        async for figure in _compare(f"capture.{name}", model, ask, budget, rounds):
            yield figure
    taken = [await _predecessor(text) / tokens * 1e6 for _ in range(size.count(ROUNDS // 6))]
    yield Figure("capture.ainvoke.predecessor", median(taken), "us/token")


async def _compare(
    name: str, model: Model, ask: _Ask, budget: float | None, rounds: int
) -> AsyncIterator[Figure]:
    variants = {"bare": _bare, "noop": _noop, "ours": _ours}
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    for round_ in range(rounds + 1):
        order = list(variants)[round_ % 3 :] + list(variants)[: round_ % 3]
        for variant in order:
            gc.collect()
            seconds = await variants[variant](model, ask)
            if round_:  # the first one warms up
                taken[variant].append(seconds / model.tokens * 1e6)
    for variant, values in taken.items():
        yield Figure(f"{name}.{variant}", median(values), "us/token")
    ratios = [ours / noop for ours, noop in zip(taken["ours"], taken["noop"], strict=True)]
    yield Figure.of_rounds(f"{name}.ratio", ratios, "x", budget)


async def _bare(model: Model, ask: _Ask) -> float:
    return await ask(model, [])


async def _noop(model: Model, ask: _Ask) -> float:
    return await ask(model, [NoOp()])


async def _ours(model: Model, ask: _Ask) -> float:
    """Run all that an activity's attempt runs, but for the transport."""
    budget = Budget(32 * 1024 * 1024)
    # A thread shares the interpreter with the loop that stores what it says: there it matters how long that
    # takes. A model on the loop either leaves it no turn or, yielding, shall pay for a frame with each token.
    sink = NullSink() if ask is _ainvoke else SlowSink()
    async with session_to(origin(), sink, budget=budget, flush_timeout=timedelta(seconds=2)) as session:
        observer = Observer(session.buffer, default_node="bench")
        with capturing(observer):
            seconds = await ask(model, [])
        start = time.process_time()
        await session.finish("completed_provisional")
        seconds += time.process_time() - start
    if session.statistics.undelivered or budget.dropped or not session.statistics.frames:
        raise RuntimeError(f"the benchmark measured a session that lost tokens: {session!r}")
    return seconds


async def _predecessor(model: Model) -> float:
    """Run the handler that is not inline over a Redis that costs nothing. By `astream`: it sees no others."""
    handler = TaskPerToken(cast("Redis", _NullRedis()), "bench")
    gc.collect()
    start = time.process_time()
    async for _ in model.astream("hi", {"callbacks": [handler]}):
        pass
    await handler.drain()
    return time.process_time() - start


class _NullRedis:
    async def xadd(self, *_: Any, **__: Any) -> None:
        """Store nothing, at once."""


async def _ainvoke(model: BaseChatModel, callbacks: list[BaseCallbackHandler]) -> float:
    start = time.process_time()
    await model.ainvoke("hi", {"callbacks": callbacks})
    return time.process_time() - start


async def _invoke(model: BaseChatModel, callbacks: list[BaseCallbackHandler]) -> float:
    """Call on a thread, as a sync activity does, and count what it costs this thread."""

    def call() -> float:
        start = time.thread_time()
        model.invoke("hi", {"callbacks": callbacks})
        return time.thread_time() - start

    return await asyncio.to_thread(call)


async def _invoke_process(model: BaseChatModel, callbacks: list[BaseCallbackHandler]) -> float:
    """Call on a thread, and count also the frames that the loop's thread sends meanwhile."""
    start = time.process_time()
    await asyncio.to_thread(model.invoke, "hi", {"callbacks": callbacks})
    return time.process_time() - start
