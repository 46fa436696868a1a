"""The polling follower: asks for what is new in all streams, again and again.

For clusters, where one `XREAD` may not name two streams and each blocked one holds a connection; and for
servers that do not block.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import ResponseError

from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import (
    Queries,
    entries,
    range_after,
    streams,
)
from temporal_token_interceptor.transport.redis.feeds import Feed
from temporal_token_interceptor.transport.redis.follower import Follower
from temporal_token_interceptor.transport.redis.outage import Backoff, Outage
from temporal_token_interceptor.transport.redis.packing import Command
from temporal_token_interceptor.transport.redis.pages import FIRST_ENTRIES, PageSize
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge
from temporal_token_interceptor.transport.redis.refusals import (
    FAILURES,
    classify,
    described,
    is_final,
    refused,
)

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.01
"""Seconds between two rounds while entries come."""

CLUSTER_PAUSE: Final = 0.05
"""Seconds between two rounds at a cluster while none come."""

SINGLE_PAUSE: Final = 0.2
"""The same at a single server, where this costs a command each: five a second."""

_SLOWDOWN: Final = 1.5

BROKEN_ROUNDS: Final = 4
"""So many broken connections in a row show that something else has to be asked."""


class PollingFollower(Follower):
    """Asks for what is new in all streams at once.

    Args:
        queries: Answers.
        outage: Notes when reading fails.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
        longest_pause: Seconds between two rounds while no entries come.
        first_entries: Entries of each stream in the first round.
        by_xread: Whether to ask with one `XREAD`, as long as the server permits it; else with an `XRANGE` for
            each stream.
    """

    def __init__(
        self,
        queries: Queries,
        outage: Outage,
        *,
        patience: float,
        longest_pause: float = CLUSTER_PAUSE,
        first_entries: int = FIRST_ENTRIES,
        by_xread: bool = False,
    ) -> None:
        super().__init__(outage, patience=patience)
        self._queries = queries
        self._longest_pause = longest_pause
        self._page = PageSize(first_entries)
        self._by_xread = by_xread
        self._broken = 0  # connections in a row

    async def _serve(self, turn: object, backoff: Backoff) -> None:
        await self._poll(turn, backoff)

    async def _poll(self, turn: object, backoff: Backoff, until: float = math.inf) -> None:
        """Ask while it is this turn, until a time of the loop's clock."""
        pause = FIRST_PAUSE
        now = asyncio.get_running_loop().time
        while self._turn is turn and now() < until:
            self._joined.clear()
            feeds = self._feeds.copy()
            try:
                served = await self._ask(feeds)
            except ReplyTooLarge:
                self._page.too_large()
                continue
            backoff.over()
            self._publish(turn, feeds, served, self._page)
            pause = FIRST_PAUSE if served else min(pause * _SLOWDOWN, self._longest_pause)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        """Pause, or until a feed joins that has not been asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._joined.wait()

    async def _ask(self, feeds: Mapping[str, Feed]) -> Sequence[tuple[str, list[Entry]]]:
        """Return what is new; end the feeds that are refused.

        Raises:
            FAILURES: Redis refuses all of them, or could not be reached.
        """
        if self._by_xread:
            try:
                served = await self._ask_together(feeds)
            except FAILURES as error:
                # Some proxies refuse a command by closing the connection.
                self._broken += not isinstance(error, ResponseError)
                if classify(error).wait == "outage" and self._broken < BROKEN_ROUNDS:
                    raise
                self._broken = 0
                served, errors = await self._ask_each(feeds)
                if not errors:
                    self._by_xread = False
                    logger.info("Redis refuses XREAD (%s); asking with XRANGE", described(error))
            else:
                self._broken = 0
            return served
        served, _ = await self._ask_each(feeds)
        return served

    async def _ask_together(self, feeds: Mapping[str, Feed]) -> Sequence[tuple[str, list[Entry]]]:
        positions = [feed.asked or feed.ask() for feed in feeds.values()]
        words: Command = ("XREAD", "COUNT", self._page.count, "STREAMS", *feeds, *positions)
        return streams(await self._queries.ask(*words, at_most=self._page.most_bytes))

    async def _ask_each(
        self, feeds: Mapping[str, Feed]
    ) -> tuple[Sequence[tuple[str, list[Entry]]], Mapping[str, Exception]]:
        """Return what is new, and what was refused; end the feeds that were.

        Raises:
            FAILURES: Redis refuses all of them, or could not be reached.
        """
        replies = await self._ranges(feeds)
        served = [
            (key, batch)
            for key, reply in zip(feeds, replies, strict=True)
            if not isinstance(reply, Exception) and (batch := entries(reply))
        ]
        errors = {
            key: reply for key, reply in zip(feeds, replies, strict=True) if isinstance(reply, Exception)
        }
        passing = [error for error in errors.values() if not is_final(error)]
        if passing and len(errors) == len(feeds):
            raise passing[0]
        for key, error in errors.items():
            # A reader that is let go without an error asks for itself, as long as its patience lasts.
            feeds[key].end(refused(key, error) if is_final(error) else None)
            self._remove_if_unread(key, feeds[key])
        return served, errors

    async def _ranges(self, feeds: Mapping[str, Feed]) -> list[Any]:
        """Return the reply for each feed, or the error in its place."""
        while True:
            commands = [range_after(key, feed.position, self._page.count) for key, feed in feeds.items()]
            try:
                return await self._queries.ask_many(commands, at_most=self._page.most_bytes)
            except ReplyTooLarge:
                self._page.too_large()
