"""What the results of a run's activities hold that no transport took: whole attempts, or the ends of some.

What a transport has, too, is known by its numbers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from temporal_token_interceptor.errors import StreamNotFound, TransportUnavailable
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.entry_decoder import EntryDecoder
from temporal_token_interceptor.reader.position import ReadPosition
from temporal_token_interceptor.reader.temporal.results import Result
from temporal_token_interceptor.transport.base import Entry

if TYPE_CHECKING:
    from temporal_token_interceptor.reader.temporal.history import RunHistory

logger = logging.getLogger(__name__)


class Healing:
    """Reads a run's results, for one reader that has read its transport.

    Args:
        history: The run's.
        where: Where the reader stands.
        decoder: Makes its events.
        cache: Decodes entries.
    """

    def __init__(
        self, history: RunHistory, where: ReadPosition, decoder: EntryDecoder, cache: EntryCache
    ) -> None:
        self._history = history
        self._where = where
        self._decoder = decoder
        self._cache = cache

    async def all(self, stream_name: str) -> AsyncGenerator[list[Event]]:
        """Iterate over what all of them hold; where the history cannot be read, note that."""
        try:
            async with aclosing(self.results()) as batches:
                async for events in batches:
                    yield events
        except (TransportUnavailable, StreamNotFound) as error:
            logger.warning("the history of %r cannot be read: %s", stream_name, error)
            self._where.history.is_short = True

    async def results(self, *, up_to: str | None = None) -> AsyncGenerator[list[Event]]:
        """Iterate over what results hold, up to an entry of the history; compare which attempts completed.

        Raises:
            TransportUnavailable: the history could not be read in time.
            StreamNotFound: no such run.
        """
        # A reader that resumes may have got from the transport what that has no more, or may get it yet.
        counts = up_to is None and not self._where.has_read_transport
        for result in await self._history.results():
            if up_to is None or result.id <= up_to:
                batch = await self._missing(result, counts=counts)
                if events := self._decoder.read(self._where.history, batch, self._cache.from_history(batch)):
                    yield events
                if (other := self._decoder.state.other(*result.named)) is not None:
                    self._decoder.attempts.doubt(*other)

    async def check_all_settled(self) -> AsyncGenerator[list[Event]]:
        """Note that something may be missing where the transport is away: it may have what nothing else has.

        All of it is here if each attempt that Temporal has a result of was read up to its end.
        """
        settled = self._decoder.state.is_settled
        are_settled = [settled(*result.named) for result in await self._history.results()]
        self._where.transport.is_short |= not all(are_settled)
        yield []

    async def _missing(self, result: Result, *, counts: bool) -> Sequence[Entry]:
        """Return what a result holds of an attempt that did not report here how it completed."""
        if self._decoder.state.is_settled(*result.named):
            return ()
        held = await result.contents()
        return [*held.frames, *(held.counted if counts else ())]
