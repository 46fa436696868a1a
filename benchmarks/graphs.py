"""Calls in LangGraph graphs that share one process, and so one core, with their readers.

Elsewhere workers and readers have a process each, and a call is what LangChain makes of one, without a model.
Here all of it takes turns on one loop: the graph and its model, capture, the transport, and who reads. The
floor is the same graphs with a handler that does nothing: what it leaves of a core is there for the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import cache
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.capture import NoOp
from benchmarks.measure import Figure, Size, child, origin, percentile
from benchmarks.paced import Paced
from benchmarks.reading import Received, listen_within
from devservers import redis_server
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.worker.fetched_session import session_to

CALLS = (250, 500)
RATE = 50  # tokens a second, of each call
SECONDS = 4.0
RAMP = 2.0  # seconds over which the calls begin

_BYTES = 32 * 1024 * 1024


async def figures(size: Size) -> AsyncIterator[Figure]:
    tokens, ramp = size.count(round(RATE * SECONDS)), size.seconds(RAMP)
    async with child("benchmarks.graphs") as process, redis_server() as url:
        for calls in CALLS[: size.count(len(CALLS))]:
            floor = await process.run(run_alone, calls, tokens, ramp)
            received = await process.run(run_and_read, url, calls, tokens, ramp)
            said, name = calls * tokens, f"graphs.{calls}"
            yield Figure(f"{name}.lost", said - len(received.ages), "tokens", 0)
            yield Figure(f"{name}.p50", percentile(received.ages, 0.5), "ms")
            yield Figure(f"{name}.p99", percentile(received.ages, 0.99), "ms")
            yield Figure(f"{name}.floor", floor / said * 1e6, "us CPU/token")
            yield Figure(f"{name}.cpu", received.cpu / said * 1e6, "us CPU/token")
            yield Figure(f"{name}.core", 1e6 / calls / RATE, "us CPU/token")


# ------------------------------------------------------------------ in the process


class _State(TypedDict):
    model: Paced
    text: str


async def _answer(state: _State) -> dict[str, Any]:
    return {"text": (await state["model"].ainvoke("hi")).content}


@cache
def _graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    graph = StateGraph(_State).add_node("agent", _answer)
    return graph.add_edge(START, "agent").add_edge("agent", END).compile()


async def _invoke(begin: float, tokens: int, config: RunnableConfig | None = None) -> None:
    await asyncio.sleep(begin - time.monotonic())
    await _graph().ainvoke({"model": Paced(tokens=tokens, begin=begin, rate=RATE), "text": ""}, config)


def run_alone(calls: int, tokens: int, ramp: float) -> float:
    """Run graphs with a handler that does nothing; return the seconds of CPU that they took."""

    async def run() -> float:
        before, begin = time.process_time(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place in range(calls):
                group.create_task(_invoke(begin + ramp * place / calls, tokens, {"callbacks": [NoOp()]}))
        return time.process_time() - before

    return asyncio.run(run())


def run_and_read(url: str, calls: int, tokens: int, ramp: float) -> Received:
    """Run graphs as activities do, and read what each says."""

    async def run() -> Received:
        attempts = [origin(str(place)) for place in range(calls)]
        budget = Budget(_BYTES)
        deadline = time.monotonic() + ramp + tokens / RATE + 10
        async with RedisStreamBackend(url) as backend, asyncio.TaskGroup() as group:
            reading = group.create_task(listen_within("ours", url, attempts, tokens, deadline))
            begin = time.monotonic()
            for place, attempt in enumerate(attempts):
                group.create_task(_attempt(backend, budget, attempt, begin + ramp * place / calls, tokens))
        return reading.result()

    return asyncio.run(run())


async def _attempt(
    backend: RedisStreamBackend, budget: Budget, attempt: Origin, begin: float, tokens: int
) -> None:
    async with session_to(attempt, backend, budget=budget, flush_timeout=timedelta(seconds=10)) as session:
        observer = Observer(session.buffer, default_node="bench")
        with capturing(observer):
            await _invoke(begin, tokens)
        await session.finish("completed_provisional")
