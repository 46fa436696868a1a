"""Both halves of a transport within one process: for tests, and for a worker that serves its own readers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Self, TypeVar

from temporal_token_interceptor._arguments import positive_number
from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.lifetime import OneLoop, closed_error

# Entries that writers write before they give way to the readers.
_MOST_AHEAD = 16

# Of so many times as many streams as are kept, it is known that there were some.
_REMEMBERED = 24

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class MemoryStreamBackend:
    """Streams in memory. Costs no server; promises nothing beyond the life of the process.

    Both halves must be used on one event loop.

    Args:
        stream_maxlen: How many entries a stream keeps; older ones are trimmed.
        max_streams: How many streams are kept; the one written longest ago goes first.

    Raises:
        ConfigurationError: a bound is not positive.
    """

    system = "memory"
    """What telemetry calls this transport."""

    read_failures = 0
    """Nothing comes between this transport and its readers."""

    last_progress: float = 0.0
    """Nothing comes in parts."""

    def __init__(self, *, stream_maxlen: int = 100_000, max_streams: int = 1_000) -> None:
        self.keep_interval: timedelta = timedelta(hours=1)
        self._stream_maxlen = positive_number("stream_maxlen", stream_maxlen)
        self._max_streams = positive_number("max_streams", max_streams)
        # One count for all: a stream that was dropped and begins again must not give out its ids twice.
        self._ids = count(1)
        self._streams: dict[StreamKey, deque[Entry]] = {}  # the one written last is last
        self._begun: dict[StreamKey, str] = {}  # longer than the streams
        self._positions: dict[str, str] = {}  # the one stored last is last
        self._newest: dict[tuple[str, str], str] = {}  # the one kept last is last
        self._waiting: dict[StreamKey, set[asyncio.Event]] = {}
        self._loop = OneLoop("MemoryStreamBackend")
        self._closed = False
        self._ahead = 0  # entries written since a reader ran

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry."""
        if self._loop.loop is not asyncio.get_running_loop():
            self._loop.check()
        if self._closed:
            raise closed_error()
        entries = self._streams.pop(stream, None) or deque(maxlen=self._stream_maxlen)
        entries.append(entry := Entry(f"{next(self._ids):015d}", data))
        if self._begun.setdefault(stream, entry.id) is entry.id:
            _shrink(self._begun, self._max_streams * _REMEMBERED)
        self._streams[stream] = entries
        _shrink(self._streams, self._max_streams)
        for changed in self._waiting.get(stream, ()):
            changed.set()
        self._ahead += 1
        if self._ahead >= _MOST_AHEAD:
            self._ahead = 0
            await asyncio.sleep(0)  # a writer that never waits would let no reader run

    def keep(self, stream: StreamKey) -> None:
        """Make the stream's run the newest of its workflow. Nothing expires here."""
        workflow = stream[:2]
        self._newest.pop(workflow, None)
        self._newest[workflow] = stream.run_id
        _shrink(self._newest, self._max_streams)

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come."""
        self._loop.check()
        if after:
            _check_id(after)
        changed = asyncio.Event()
        waiting = self._waiting.setdefault(stream, set())
        waiting.add(changed)
        try:
            while not self._closed:
                changed.clear()
                if batch := _after(self._streams.get(stream, ()), after):
                    after = batch[-1].id
                    self._ahead = 0
                    yield batch
                else:
                    await changed.wait()
        finally:
            waiting.discard(changed)
            if not waiting and self._waiting.get(stream) is waiting:
                del self._waiting[stream]

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        self._loop.check()
        entries = self._streams.get(stream)
        return entries[-1].id if entries else ""

    async def first_id(self, stream: StreamKey) -> str:
        """Return the id of the oldest entry that is still there, or an empty string."""
        self._loop.check()
        entries = self._streams.get(stream)
        return entries[0].id if entries else ""

    async def begun(self, stream: StreamKey) -> str:
        """Return the id of the first entry that the stream ever had; see `RememberingSource`."""
        self._loop.check()
        return self._begun.get(stream, "")

    async def store_positions(self, name: str, positions: str) -> None:
        """Keep positions under a name; see `PositionStore`. The oldest go first."""
        self._loop.check()
        self._positions.pop(name, None)
        self._positions[name] = positions
        _shrink(self._positions, self._max_streams)

    async def stored_positions(self, name: str) -> str | None:
        """Return what was stored under a name."""
        self._loop.check()
        return self._positions.get(name)

    def stored_time(self, entry_id: str) -> None:
        """Refuse what is no id of an entry; no id here shows a time."""
        _check_id(entry_id)

    async def newest_run(self, namespace: str, workflow_id: str) -> str | None:
        """Return the run id last given to `keep` for this workflow."""
        self._loop.check()
        return self._newest.get((namespace, workflow_id))

    async def close(self) -> None:
        """End all readers, and take no more entries."""
        self._loop.check()
        self._closed = True
        for waiting in self._waiting.values():
            for changed in waiting:
                changed.set()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    def __repr__(self) -> str:
        readers = sum(map(len, self._waiting.values()))
        closed = ", closed" if self._closed else ""
        return f"<MemoryStreamBackend {len(self._streams)} streams, {readers} readers{closed}>"


def _check_id(entry_id: str) -> None:
    if not entry_id.isdecimal():
        raise InvalidCursor(
            f"entry id {entry_id!r} is not one of this transport: a cursor is only good for the one that it "
            "came from; pass none to read from the start"
        )


def _after(entries: Sequence[Entry], last: str) -> list[Entry]:
    """Return the entries after an id: walks back only as far as it has to."""
    found: list[Entry] = []
    for entry in reversed(entries):
        if entry.id <= last:
            break
        found.append(entry)
    found.reverse()
    return found


def _shrink(kept: dict[_Key, _Value], size: int) -> None:
    while len(kept) > size:
        del kept[next(iter(kept))]
