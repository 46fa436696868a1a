"""A worker lives for months: calls, errors and cancellations leave nothing behind. Long form: `make leak`."""

import asyncio
import gc
import os
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.transport.memory import MemoryStreamBackend
from temporal_token_interceptor.worker.session import Session
from tests.differential.models import SEARCH, after_tools, search
from tests.support.frames import an_origin

CALLS = int(os.environ.get("TTI_TEST_LEAK_CALLS", "800"))

# What the allocator may keep without anybody having leaked: it rounds up to whole arenas.
NOISE_BYTES = 4 * 1024 * 1024

STATM = Path("/proc/self/statm")


def resident() -> int:
    """The process's resident memory in bytes, after a collection."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Attempts:
    """Runs attempts one after another, as a worker does, and watches what is left of them."""

    def __init__(self) -> None:
        self.budget = Budget(32 * 1024 * 1024)
        self.backend = MemoryStreamBackend(stream_maxlen=50, max_streams=50)
        self.agent: Any = create_agent(after_tools(SEARCH), tools=[search])
        self.done = 0
        self.left: weakref.WeakSet[Observer] = weakref.WeakSet()

    async def run(self, calls: int) -> None:
        while self.done < calls:
            origin = an_origin(attempt_id=f"{self.done:016x}", run_id=f"run-{self.done}")
            session = Session(origin, self.backend, budget=self.budget, flush_timeout=timedelta(seconds=2))
            async with session:
                observer = Observer(session.buffer, default_node="leak")
                self.left.add(observer)
                with capturing(observer):
                    await self._four_calls()
                await session.finish("completed_provisional")
            assert not observer._live
            assert not observer._live_tools
            assert not observer._live_nodes
            assert not observer._tool_call_above

    async def _four_calls(self) -> None:
        """An agent's two calls, one that fails, and one that is cancelled in mid-stream."""
        await self.agent.ainvoke({"messages": [("user", "?")]})
        with pytest.raises(ConnectionError):
            await ScriptedChatModel.saying("half", ConnectionError("reset")).ainvoke("?")
        endless = asyncio.ensure_future(ScriptedChatModel.saying(*["again "] * 1000).ainvoke("?"))
        for _ in range(20):
            await asyncio.sleep(0)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        self.done += 4


@pytest.mark.timeout(600)
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident memory where Linux tells it")
async def test_nothing_grows_with_the_number_of_calls(capsys):
    """After its first calls, a worker's memory is flat, whatever became of them."""
    attempts = Attempts()

    await attempts.run(CALLS // 2 if CALLS < 2_000 else 1_000)
    before, began_at = resident(), attempts.done
    await attempts.run(CALLS)
    grown = resident() - before

    with capsys.disabled():
        print(  # noqa: T201 - `make leak` is run to see this
            f"{attempts.done - began_at} calls later: {grown / 1024:+.0f} KiB of {before // 1024} KiB"
        )
    assert grown < NOISE_BYTES
    assert len(attempts.left) <= 1, "an attempt's observer outlives it"
    assert attempts.budget.leased == 0
