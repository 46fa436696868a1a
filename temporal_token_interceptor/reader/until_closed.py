"""A stream's batches, in the reader's own task, up to the end that it has once its run has closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from temporal_token_interceptor._tasks import ProgressTimeout
from temporal_token_interceptor.errors import TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.catch_up import CatchUp
from temporal_token_interceptor.reader.position import Reach
from temporal_token_interceptor.reader.temporal.live_entries import is_live
from temporal_token_interceptor.transport.base import Entry, ReplicatedSource, TimedSource

logger = logging.getLogger(__name__)

# How often a reader asks for the end of a closed stream whose last entries it does not get.
_DRAIN_LOOKS = 3

# How long a reader that knows where the stream ends waits for the next entries up to there, before it asks
# whether that end still exists.
_DRAIN_TIMEOUT = 5.0


# A reader that was busy elsewhere for so long may have been overtaken by the trimming. One that waits for the
# next entry gets each.
_OVERTAKEN_AFTER = 1.0

Cut = Literal["trimmed", "transport"]
"""Why entries are missing: the stream was cut or has expired; or the transport lost what it had taken."""


class Entries(Protocol):
    """Where the entries of a run come from: a `TokenSource`, or Temporal's history."""

    def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over the entries after an id, as they come, in batches that are never empty."""
        ...

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry, or an empty string."""
        ...


@runtime_checkable
class Lingering(Protocol):
    """What entries may offer beside: batches that came before the run closed, and belong to no order."""

    def leftover(self) -> Iterator[Sequence[Entry]]:
        """Yield, once the run has closed, those that were not read."""
        ...


class UntilClosed:
    """Reads batches until the run has closed, and then up to the entry that is the last one at that moment.

    For `async with`. Not an async generator: each of those between a transport and a user costs a
    microsecond for each token.

    Args:
        entries: Where they come from.
        stream: The run.
        reach: It is read on behind its `last`. Updated with each batch; `is_short` where the end could not be
            read.
        closing: Done when the run has closed.
        catch_up: Looks how far the reading came, each time that a batch has been taken.

    Attributes:
        doubt: Why entries before the last batch may be missing: the reader was busy elsewhere, or the
            transport was cut off from its server. None where neither is so: a stream that expired in a pause,
            and has begun again, is whole for a reader that was waiting all the time.
    """

    def __init__(
        self,
        entries: Entries,
        stream: StreamKey,
        reach: Reach,
        closing: asyncio.Future[Any],
        catch_up: CatchUp,
    ) -> None:
        self._entries = entries
        self._stream = stream
        self._reach = reach
        self._closing = closing
        self._catch_up = catch_up
        self._source: AsyncGenerator[Sequence[Entry]] | None = None
        self._end: str | None = None  # once the run has closed
        self._looks = 0
        self._waiting: asyncio.Task[Any] | None = None
        self._interrupted = False
        self.doubt: Cut | None = None
        self._taken = monotonic()
        self._timed = entries if isinstance(entries, TimedSource) else None
        self._leftover = entries.leftover() if isinstance(entries, Lingering) else None
        self._replicated = entries if isinstance(entries, ReplicatedSource) else None
        self._failures = 0 if self._timed is None else self._timed.read_failures

    async def __aenter__(self) -> Self:
        self._source = self._entries.read(self._stream, self._reach.last)
        self._closing.add_done_callback(self._interrupt)  # once: with many readers, it adds up
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.remove_done_callback(self._interrupt)
        await self._leave_source()

    async def next(self) -> Sequence[Entry] | None:
        """Return the next batch, never empty; None once all is read.

        Raises:
            TransportUnavailable: the transport was away for too long, or was closed.
        """
        if not self._catch_up.is_over:
            self._catch_up.look(self._reach.last)
        source, task = self._source, asyncio.current_task()
        self.doubt = "trimmed" if monotonic() - self._taken > _OVERTAKEN_AFTER else None
        if self._end is not None or source is None or task is None:
            return await self._rest()
        # The closing cancels the wait, as `asyncio.timeout` would do; a timeout for each batch, or a task,
        # would cost more than all the rest of reading it.
        cancelling = task.cancelling()
        self._waiting = task
        try:
            if not self._closing.done():
                return self._take(await anext(source))
        except asyncio.CancelledError:
            if not self._interrupted or task.uncancel() > cancelling:
                raise  # it was cancelled from outside, too
        except StopAsyncIteration:
            raise _closed_backend() from None
        finally:
            self._waiting = None
        await self._leave_source()
        has_all = (
            await self._replicated.caught_up() if self._replicated and has_closed(self._closing) else True
        )
        self._end = await self._entries.last_id(self._stream)
        # Where what was read is gone, others may be; and a copy that is behind has not got them yet.
        self._reach.is_short = self._end < self._reach.last or not has_all
        return await self._rest()

    def _interrupt(self, _: asyncio.Future[Any]) -> None:
        if self._waiting is not None:
            self._interrupted = True
            self._waiting.cancel()

    async def _rest(self) -> Sequence[Entry] | None:
        """Return the next batch of those that were stored when the run closed."""
        reach = self._reach
        while self._end is not None and reach.last < self._end:
            if self._source is None:
                self._source = self._entries.read(self._stream, reach.last)
            try:
                async with ProgressTimeout(_DRAIN_TIMEOUT, self._last_progress):
                    batch = await anext(self._source)
            except TimeoutError:
                await self._leave_source()
                self._looks += 1
                self._end = await self._entries.last_id(self._stream)
                if self._looks == _DRAIN_LOOKS or self._end <= reach.last:
                    reach.is_short = True
                    logger.warning(
                        "the end of stream %r could not be read: entry %s does not arrive",
                        self._stream.name,
                        self._end or "(deleted)",
                    )
                    self._end = reach.last
            except StopAsyncIteration:
                raise _closed_backend() from None
            else:
                return self._take(batch)
        return None if self._leftover is None else next(self._leftover, None)

    def _take(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        self._taken = monotonic()
        if self._timed is not None and self._timed.read_failures != self._failures:
            self._failures = self._timed.read_failures
            self.doubt = "transport"
        # Heartbeats keep no order, and are no part of where the stream ends.
        if self._leftover is None or not is_live(batch):
            self._reach.last = batch[-1].id
        return batch

    def _last_progress(self) -> float:
        return 0.0 if self._timed is None else self._timed.last_progress

    async def _leave_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()


def has_closed(closing: asyncio.Future[Any]) -> bool:
    """Whether the run has closed, and not only its reader had enough, or failed to learn."""
    return closing.exception() is None and closing.result() is not None


def _closed_backend() -> TransportUnavailable:
    return TransportUnavailable(
        "the backend was closed while it was read (by `close`, by the end of its `async with`, or by the "
        "plugin that made it); resume from the last event's cursor with another"
    )
