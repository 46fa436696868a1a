"""The seam between this package and a transport: a sink that workers write to, a source that readers read.

A transport keeps one append-only stream for each workflow run and knows nothing of what is in an entry.
`temporal_token_interceptor.testing` has the conformance checks that an implementation must pass.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One entry of a stream.

    A tuple, because one is made for each: a frozen dataclass takes three times as long.

    Attributes:
        id: Its place; ids of one stream sort as strings, in the order of the stream. At most 44 letters,
            digits, `-` and `_`, and no `h` at the beginning: they stand in cursors, and those in URLs.
        data: What was written; empty for an entry that another program put there.
    """

    id: str
    data: bytes


@runtime_checkable
class TokenSink(Protocol):
    """Where workers write. One sink serves all activities of a worker, from the worker's event loop."""

    keep_interval: timedelta
    """How often `keep` has to be called for a stream that lives."""

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once it is stored.

        While the transport is away this waits and tries again, as long as it takes: the caller bounds the
        wait by cancelling, and the entry is then stored once, twice or not at all.

        Entries that are written one after the other keep their order.

        Raises:
            TokenStreamError: the transport refuses this very entry, or is closed; trying again cannot help.
            TransportUnavailable: it has refused for longer than its bound.
        """
        ...

    def keep(self, stream: StreamKey) -> None:
        """Ask that the stream not expire soon, and that its run become its workflow's newest. No waiting.

        It never raises; after `close` it does nothing.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and tasks. What is being written is given up. Closing twice is fine."""
        ...


class EntrySource(Protocol):
    """What has entries for one stream, one after the other. No method raises, waits or takes long."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be taken any more, and what was taken is given up."""
        ...

    def take(self) -> bytes | None:
        """Return the next entry; None where there is none now: it asks again for what comes then."""
        ...

    def stored(self) -> None:
        """Note that the entry taken last is stored."""
        ...

    def failed(self, error: TokenStreamError) -> None:
        """Note that the sink refuses the entry taken last, or all: it takes no more. Not once `is_over`."""
        ...


@runtime_checkable
class FetchingSink(TokenSink, Protocol):
    """What a sink may offer beside `write`: to fetch entries at the moment when it can send them.

    So an entry has all that has come by then, and needs no task that hands it over.
    """

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        """Take entries from a source and append them, one after the other, until it has none. No waiting.

        The next is taken once the one before is stored. It never raises; an error goes to `source.failed`:
        `TokenStreamError` and `TransportUnavailable` as in `write`, `ConfigurationError` on another loop.
        """
        ...


@runtime_checkable
class HurriedSink(Protocol):
    """What a sink may offer beside `TokenSink`: it answers a little later while its worker is full.

    What comes meanwhile shares the next entry. `hurry` is called where nothing is gathered.
    """

    def hurry(self, stream: StreamKey) -> None:
        """Let writers of this stream go on as soon as an entry is stored, for the next seconds. No waiting.

        That is: return from `write`, and take the next entry of a source. It never raises.
        """
        ...


@runtime_checkable
class TimedSource(Protocol):
    """What a source may offer beside `TokenSource`: what its ids show, and whether it was cut off."""

    read_failures: int
    """How often reading failed so far and was taken up again: entries may have been lost meanwhile."""

    last_progress: float
    """When a part of what a reader asked for last came, on the loop's clock: it is not waited for in vain."""

    def stored_time(self, entry_id: str) -> datetime | None:
        """Return when an entry was stored, by its id; None where that does not show it.

        Raises:
            InvalidCursor: no entry of this transport has such an id.
        """
        ...


@runtime_checkable
class RememberingSource(Protocol):
    """What a source may offer beside `TokenSource`: to remember that there was a stream that is gone."""

    async def begun(self, stream: StreamKey) -> str:
        """Return the id of the first entry that the stream ever had; empty if that is not known (any more).

        A stream whose oldest entry is a later one, or that has none, has lost what was before.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
        """
        ...


@runtime_checkable
class PositionStore(Protocol):
    """What a source may offer beside `TokenSource`: to keep the places of many streams, for short cursors."""

    async def store_positions(self, name: str, positions: str) -> None:
        """Keep positions under a name for about as long as a stream that is no longer written; return then.

        The same name always has the same positions: storing them again keeps them for longer.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
            TokenStreamError: the transport does not permit it.
        """
        ...

    async def stored_positions(self, name: str) -> str | None:
        """Return what was stored under a name; None if it has expired, or never was.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
        """
        ...


@runtime_checkable
class ReplicatedSource(Protocol):
    """What a source may offer beside `TokenSource`: to know that it reads from a copy that is behind."""

    async def caught_up(self) -> bool:
        """Wait until all that was stored before this call can be read.

        Returns:
            Whether it can; not, where the copy has received nothing for longer than its bound.
        """
        ...


@runtime_checkable
class TokenSource(Protocol):
    """Where readers read. One source serves all subscribers of a process, from one event loop."""

    def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come, in batches that are never empty.

        The iterator does not end before `close`; a stream that does not exist yet is waited for. It outlives
        outages of the transport. A reader that leaves it early closes it (`contextlib.aclosing`): until then
        it keeps its place, and what that costs.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
            InvalidCursor: `after` is no id of this transport.
            TokenStreamError: the transport refuses this very stream.
        """
        ...

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry; empty if the stream is empty or does not exist.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
        """
        ...

    async def first_id(self, stream: StreamKey) -> str:
        """Return the id of the oldest entry that is still there; empty if there is none.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
        """
        ...

    async def newest_run(self, namespace: str, workflow_id: str) -> str | None:
        """Return the run id last given to `keep` for this workflow, if it has not expired.

        Raises:
            TransportUnavailable: the transport was away for longer than its bound.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and tasks. Iterators that are still open end. Closing twice is fine."""
        ...


class StandIn(ABC):
    """A sink that stands for another one, which is made later, and shared: to be inherited."""

    @property
    @abstractmethod
    def opened(self) -> TokenSink:
        """That one; itself, until it is there."""


def opened(sink: TokenSink) -> TokenSink:
    """Return the sink that one stands for; or itself."""
    return sink.opened if isinstance(sink, StandIn) else sink


def fetching(sink: TokenSink) -> FetchingSink | None:
    """Return a sink as one that fetches; None if it does not, or if that would pass its own `write` by."""
    if not isinstance(sink, FetchingSink) or "write" in getattr(sink, "__dict__", ()):
        return None
    by_name = {
        name: place for place, kind in reversed([*enumerate(type(sink).__mro__)]) for name in vars(kind)
    }
    fetch, write = by_name.get("fetch_from"), by_name.get("write")
    return sink if fetch is not None and write is not None and fetch <= write else None


def hurry(sink: TokenSink, stream: StreamKey) -> None:
    """Have a sink answer at once where it may answer late: nothing is gathered for the next entry."""
    sink = opened(sink)  # of ours: it does not raise
    if isinstance(sink, HurriedSink):
        try:
            sink.hurry(stream)
        except Exception:  # a sink of the user's: no activity must fail because of it
            logger.exception("the transport failed in `hurry`")
