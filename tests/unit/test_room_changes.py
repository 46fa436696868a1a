"""How many calls from one of our modules into another a token costs on its way: each is a place to get lost.

One token is followed in its steady state, from LangChain's callback to the reader's loop, through the memory
transport, which is the shortest. A resumed coroutine or generator counts as a call, as it costs as much.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import temporal_token_interceptor
from temporal_token_interceptor import MemoryStreamBackend, TokenEvent, TokenSubscriber
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.worker.session import Session
from tests.support.frames import an_origin

HOME = str(Path(temporal_token_interceptor.__file__).parent)

READER = 13
WHOLE_WAY = 25


def module_of(frame: FrameType | None) -> str | None:
    """Our module that a frame, or the nearest one below it, runs in."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(HOME) and "/testing/" not in name:
            return name.removeprefix(HOME)
        frame = frame.f_back
    return None


class Tracer:
    """Notes each call from one of our modules into another."""

    def __init__(self) -> None:
        self.changes: list[tuple[str | None, str]] = []

    @contextmanager
    def tracing(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(HOME) and "/testing/" not in name:
            here, caller = name.removeprefix(HOME), module_of(frame.f_back)
            if here != caller:
                self.changes.append((caller, here))


class Unhurried(ScriptedChatModel):
    """Leaves all others the time to handle each token before the next."""

    async def _astream(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for chunk in super()._astream(*args, **options):
            yield chunk
            for _ in range(30):
                await asyncio.sleep(0)


async def test_a_token_changes_rooms_seldom():
    """I can follow a token through the code with a debugger in a minute."""
    backend, origin, tracer = MemoryStreamBackend(), an_origin(), Tracer()
    until = asyncio.get_running_loop().create_future()
    marks: dict[str, int] = {}

    async def read() -> None:
        async for event in TokenSubscriber(None, backend).subscribe("wf", "run", until=until):
            if isinstance(event, TokenEvent):
                marks[event.token] = len(tracer.changes)

    reader = asyncio.create_task(read())
    session = Session(origin, backend, budget=Budget(1 << 20), flush_timeout=timedelta(seconds=2))
    async with session:
        with capturing(Observer(session.buffer, default_node="node")), tracer.tracing():
            async for _ in Unhurried.saying(*(f"t{place}" for place in range(9))).astream("?"):
                pass
        await session.finish("completed_provisional")
    until.set_result(None)
    await reader

    changes = tracer.changes[marks["t6"] : marks["t7"]]
    decoding = ("/protocol/attempts.py", "/protocol/event_json.py")
    reads = [pair for pair in changes if pair[0] in decoding or "/reader/" in f"{pair[0]} {pair[1]}"]
    assert 5 < len(reads) <= READER, reads
    assert 10 < len(changes) <= WHOLE_WAY, changes
