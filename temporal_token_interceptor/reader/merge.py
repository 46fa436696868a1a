"""Many streams as one, fairly: each has its turn, and a quick one keeps nothing of a slow one waiting.

One task for each stream reads ahead, within a bound, and puts lists of events down; the consumer goes around
the streams that have some, and takes one from each. A stream that fails ends alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import NamedTuple

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.reader.run_stream import Batches

# So many events of a stream wait to be taken before its reader pauses; one list may go over it.
_AHEAD = 64


class Over(NamedTuple):
    """The last that comes of a stream.

    Attributes:
        error: Why it ended early; None if it did not.
    """

    error: Exception | None


class _Stream:
    """One of the streams, and what of it waits to be taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Event | Over] = deque()
        self.room = asyncio.Event()
        self.has_turn = False
        self.reading: asyncio.Task[None] | None = None


class Merge:
    """Reads streams by name, each in a task; `close` joins them."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._turns: deque[_Stream] = deque()  # those that have something, the next one first
        self._woken = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def add(self, name: str, batches: Batches) -> None:
        """Read a stream, from now on."""
        stream = self._streams[name] = _Stream(name)
        stream.reading = started(self._read(stream, batches), f"token-stream of {name}")

    def remove(self, name: str) -> None:
        """Read a stream no more: what waits of it is dropped."""
        stream = self._streams.pop(name, None)
        if stream is None or stream.reading is None:
            return
        stream.waiting.clear()
        stream.reading.cancel()
        if not stream.reading.done():
            self._leaving.add(stream.reading)
            stream.reading.add_done_callback(self._leaving.discard)
        self.wake()

    def wake(self) -> None:
        """Let `next` look whether it still has to wait."""
        self._woken.set()

    async def next(self, is_complete: Callable[[], bool]) -> tuple[str, Event | Over] | None:
        """Return the next event and the name of its stream; None once all is over.

        Args:
            is_complete: Whether no stream will be added any more; it is asked after each `wake`. What it
                raises is raised here.
        """
        while True:
            while self._turns:
                stream = self._turns.popleft()
                if self._streams.get(stream.name) is not stream:
                    continue  # it was removed
                event = stream.waiting.popleft()
                if stream.waiting:
                    self._turns.append(stream)
                else:
                    stream.has_turn = False
                    stream.room.set()
                if isinstance(event, Over):
                    del self._streams[stream.name]
                return stream.name, event
            self._woken.clear()
            if is_complete() and not self._streams:
                return None
            await self._woken.wait()

    async def close(self) -> None:
        """End all streams."""
        for name in list(self._streams):
            self.remove(name)
        for task in list(self._leaving):
            await joined(task)

    async def _read(self, stream: _Stream, batches: Batches) -> None:
        error: Exception | None = None
        try:
            async with aclosing(batches):
                async for events in batches:
                    self._put(stream, *events)
                    if len(stream.waiting) >= _AHEAD:
                        stream.room.clear()
                        await stream.room.wait()
        except Exception as raised:  # noqa: BLE001 - the consumer gets it
            error = raised
        self._put(stream, Over(error))

    def _put(self, stream: _Stream, *events: Event | Over) -> None:
        stream.waiting.extend(events)
        if not stream.has_turn:
            stream.has_turn = True
            self._turns.append(stream)
            self.wake()
