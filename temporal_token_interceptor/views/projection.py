"""What a run says of one kind, as it comes: a bounded queue for one reader, with LangGraph's names.

LangGraph's own `StreamChannel` keeps all that its reader leaves, and nothing before it has one. Here a reader
may come later, and what no reader takes is bounded: past the bound the oldest is dropped, and reported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from temporal_token_interceptor.errors import ConfigurationError, TokensMissing

_T = TypeVar("_T")

KEPT = 1_000
"""Each projection keeps so many items that are not read yet."""

More = Callable[[], Awaitable[None]]
"""Waits until the run has read one more event."""


class Projection(Generic[_T]):
    """Items of one kind; for one reader, by `async for` or `anext`.

    Raises:
        ConfigurationError: a second reader; `tee` is for several.
        TokensMissing: not read for so long that items were dropped; the next ones follow.
    """

    def __init__(self, more: More, stamp: Callable[[], int], *, kept: int = KEPT) -> None:
        self._more = more
        self._stamp = stamp
        self._kept = kept
        self._items: deque[tuple[int, _T]] = deque()
        self._dropped = 0
        self._ended = False
        self._error: Exception | None = None
        self._has_reader = False

    def push(self, item: _T) -> None:
        """Add an item, for the reader."""
        if len(self._items) == self._kept:
            self._items.popleft()
            self._dropped += 1
        self._items.append((self._stamp(), item))

    def lose(self, count: int) -> None:
        """Let the reader know that so many items are gone."""
        self._dropped += count

    def end(self, error: Exception | None) -> None:
        """Say that there is no more; the first end counts."""
        if not self._ended:
            self._ended, self._error = True, error

    def __aiter__(self) -> AsyncIterator[_T]:
        self._claim()
        return Reader(self)

    async def __anext__(self) -> _T:
        while not self._items and not self._dropped:
            if self._ended:
                raise self._error or StopAsyncIteration
            await self._more()
        if self._dropped:
            reasons, self._dropped = ("overflow",) * min(self._dropped, 100), 0
            raise TokensMissing(reasons, "")
        return self._items.popleft()[1]

    async def some(self) -> list[_T]:
        """Wait for an item; return all that there are; empty at the end. For readers in other threads.

        Raises:
            Exception: as the reader of single items gets it.
        """
        try:
            found = [await anext(self)]
        except StopAsyncIteration:
            return []
        while self._items and not self._dropped:
            found.append(self._items.popleft()[1])
        return found

    def tee(self, n: int = 2) -> tuple[Projection[_T], ...]:
        """Return this projection for several readers, each at a pace of its own, and bounded as this one.

        Args:
            n: How many.

        Raises:
            ConfigurationError: less than one; or the projection has a reader.
        """
        if n < 1:
            raise ConfigurationError(f"n must be at least 1, not {n!r}")
        self._claim()
        tee = _Tee(self)
        tee.branches += (Projection(tee.pull, self._stamp, kept=self._kept) for _ in range(n))
        return tuple(tee.branches)

    atee = tee
    """LangGraph's name for the same."""

    @property
    def oldest(self) -> int | None:
        """The place of the first item in the order in which all items of the run came; None without one."""
        return self._items[0][0] if self._items else None

    @property
    def ended(self) -> bool:
        """Whether no more comes, and all was read."""
        return self._ended and not self._items

    @property
    def error(self) -> Exception | None:
        """The error that it ends with."""
        return self._error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be its reader for a while.

        Raises:
            ConfigurationError: it has one.
        """
        self._claim()
        try:
            yield
        finally:
            self._has_reader = False

    def _claim(self) -> None:
        if self._has_reader:
            raise ConfigurationError("this projection has a reader: use .tee(n) for several")
        self._has_reader = True


class Reader(AsyncIterator[_T]):
    """The one loop over a projection."""

    def __init__(self, projection: Projection[_T]) -> None:
        self._projection = projection

    async def some(self) -> list[_T]:
        """Return all items that there are; see `Projection.some`."""
        return await self._projection.some()

    async def __anext__(self) -> _T:
        return await anext(self._projection)


class _Tee(Generic[_T]):
    """Copies the items of a projection to several."""

    def __init__(self, source: Projection[_T]) -> None:
        self.branches: list[Projection[_T]] = []
        self._source = source
        self._pulling = asyncio.Lock()
        self._pulled = 0

    async def pull(self) -> None:
        """Copy one more item, unless another branch does meanwhile."""
        before = self._pulled
        async with self._pulling:
            if self._pulled != before:
                return
            try:
                item = await anext(self._source)
            except StopAsyncIteration:
                self._end(None)
            except Exception as error:  # noqa: BLE001 - each reader gets it
                if isinstance(error, TokensMissing) and not self._source.ended:
                    for branch in self.branches:
                        branch.lose(len(error.reasons))
                else:
                    self._end(error)
            else:
                for branch in self.branches:
                    branch.push(item)
            self._pulled += 1

    def _end(self, error: Exception | None) -> None:
        for branch in self.branches:
            branch.end(error)


async def interleaved(
    projections: Mapping[str, Projection[Any]], more: More
) -> AsyncIterator[tuple[str, Any]]:
    """Iterate over several projections in the order in which their items came.

    Each has no other reader meanwhile. An error that one ends with comes after all items.
    """
    with ExitStack() as claims:
        for projection in projections.values():
            claims.enter_context(projection.claimed())
        while True:
            stamps = {
                name: projection.oldest
                for name, projection in projections.items()
                if projection.oldest is not None
            }
            if stamps:
                name = min(stamps, key=lambda name: stamps[name])
                yield name, await anext(projections[name])
            elif all(projection.ended for projection in projections.values()):
                break
            else:
                await more()
    for projection in projections.values():
        if projection.error is not None:
            raise projection.error
