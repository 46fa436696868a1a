"""The shared read: one blocking `XREAD` for all streams that a process follows.

Each round of it serves exactly the feeds that it was sent for. A feed that joins during the round gets
nothing from it, also when its stream was in it (left and joined again): the round reads on from where the
earlier feed was, which may be ahead of the new one, and the difference would be lost.

When a feed joins, `CLIENT UNBLOCK` cuts the round short. It may come before the `XREAD` blocks, and then
does nothing; so it is repeated until the next round begins. One that comes too late only makes that round
short, too. Where Redis does not permit it, rounds are short.

A server that refuses to block, or does not block though it is asked to, is polled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from redis.asyncio import ConnectionPool
from redis.exceptions import ResponseError

from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.redis.connection import (
    Line,
    Queries,
    QueryConnection,
    borrowed,
    ended,
    streams,
)
from temporal_token_interceptor.transport.redis.feeds import Feed
from temporal_token_interceptor.transport.redis.outage import Backoff, Outage
from temporal_token_interceptor.transport.redis.pages import REPLY_BYTES
from temporal_token_interceptor.transport.redis.polling import BROKEN_ROUNDS, SINGLE_PAUSE, PollingFollower
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge
from temporal_token_interceptor.transport.redis.refusals import FAILURES, classify, described

logger = logging.getLogger(__name__)

# A round costs Redis and us some microseconds for each stream that it names, served or not. So it is sent
# again only when as much time has gone by: more has come by then, and what is named is worth it.
_PAUSE_PER_STREAM: Final = 10e-6  # seconds
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds; below 50 streams there is none

_SHORT_BLOCK_MS: Final = 200
_REPEAT: Final = 0.01  # seconds from one CLIENT UNBLOCK to the next, if it did not help

# A server is polled for so long before it is asked again whether it blocks: permissions are reloaded.
_POLL_SECONDS: Final = 60.0

# So many blocking reads in a row that return nothing at once: the server does not block.
_EARLY_RETURNS: Final = 5

# So many refused rounds, with pauses between them, though each stream can be read: the server does not block.
_REFUSED_ROUNDS: Final = 3
_REFUSED_PAUSE: Final = 0.2  # seconds


class BlockingFollower(PollingFollower):
    """Waits for all streams of one server in one `XREAD`, over one connection.

    Args:
        pool: Where the connection comes from.
        queries: For `CLIENT UNBLOCK`.
        outage: Notes when reading fails.
        block_ms: How long one `XREAD` may wait; less than the connection's own timeout.
        patience: Seconds that reading may fail before listeners get `TransportUnavailable`.
    """

    def __init__(
        self, pool: ConnectionPool, queries: Queries, outage: Outage, *, block_ms: int, patience: float
    ) -> None:
        super().__init__(
            QueryConnection(pool), outage, patience=patience, longest_pause=SINGLE_PAUSE, by_xread=True
        )
        self._pool = pool
        self._unblocking = queries
        self._block_ms = block_ms
        self._one_by_one = False  # the next round reads one stream after the other
        self._asked_for: Mapping[str, Feed] = {}  # by the round under way
        self._blocked = False  # it may wait
        self._early = 0  # blocking rounds in a row that returned nothing at once
        self._refused = 0  # rounds since the last blocking one that was served
        self._polls_until = 0.0  # on the loop's clock; 0: it does not poll
        self._logged: set[str] = set()

    async def _serve(self, turn: object, backoff: Backoff) -> None:
        if self._polls_until:
            await self._poll(turn, backoff, self._polls_until)
            if asyncio.get_running_loop().time() >= self._polls_until:
                self._polls_until = 0.0
            return
        try:
            async with borrowed(self._pool) as line:
                await self._run_rounds(turn, line, backoff)
        except ReplyTooLarge:
            return  # over a new connection, and with fewer entries
        except ResponseError as error:
            await self._judge(error)
        except FAILURES as error:
            await self._judge_broken(error)

    async def _run_rounds(self, turn: object, line: Line, backoff: Backoff) -> None:
        interrupter = await self._interrupter(turn, line)
        block_ms = 0  # the first round shows whether Redis serves us, and so must not wait
        now = asyncio.get_running_loop().time
        try:
            while self._turn is turn and not self._polls_until:
                self._joined.clear()
                self._begun.set()
                self._asked_for = feeds = self._feeds.copy()
                self._blocked = bool(block_ms)
                begun = now()
                served = await self._round(line, feeds, block_ms)
                backoff.over()
                self._watch_for_early_returns(now() - begun, block_ms, is_served=bool(served))
                block_ms = self._block_ms if interrupter else min(self._block_ms, _SHORT_BLOCK_MS)
                self._publish(turn, feeds, served, self._page)
                if served and self._turn is turn:
                    pause = min(len(feeds) * _PAUSE_PER_STREAM, _LONGEST_PAUSE)
                    # At least once around the loop: readers first, the next XREAD takes a while to send.
                    await asyncio.sleep(pause if pause >= _SHORTEST_PAUSE else 0)
        finally:
            if interrupter is not None:
                await ended(interrupter)

    # ------------------------------------------------------------------ one round

    async def _round(
        self, line: Line, feeds: Mapping[str, Feed], block_ms: int
    ) -> list[tuple[str, list[Entry]]]:
        """Read all feeds at once; after a reply that was too large, with fewer entries or one by one."""
        if self._one_by_one:
            served: list[tuple[str, list[Entry]]] = []
            for key, feed in feeds.items():
                served += await _read(line, {key: feed}, 0, 1, None)
            self._one_by_one = False
            return served
        count = self._page.count
        at_most = REPLY_BYTES if count > 1 or len(feeds) > 1 else None
        try:
            return await _read(line, feeds, block_ms, count, at_most)
        except ReplyTooLarge:
            if count > 1:
                self._page.too_large()
            else:
                self._one_by_one = True
            raise

    async def _judge(self, error: ResponseError) -> None:
        """Find out what a refused round was about: one of its streams, the wait, or all of it.

        Raises:
            FAILURES: all of it; it is waited out.
        """
        if classify(error).wait == "outage":
            raise error
        _, errors = await self._ask_each(self._asked_for)
        if errors:  # the feeds that are refused have ended
            return
        self._refused += 1
        if self._refused < _REFUSED_ROUNDS:
            await asyncio.sleep(_REFUSED_PAUSE)
            return
        self._refused = 0
        command = "XREAD BLOCK" if self._blocked else "XREAD"
        self._poll_for_a_while(f"Redis refuses {command} ({described(error)})")

    async def _judge_broken(self, error: Exception) -> None:
        """Find out whether connections break because of what we ask: some proxies refuse commands like that.

        Raises:
            FAILURES: there is no connection at all, or not often enough to know.
        """
        self._broken += 1
        if self._broken < BROKEN_ROUNDS:
            raise error
        await self._ask_each(self._feeds.copy())
        self._broken = 0
        self._poll_for_a_while(f"Connections break in XREAD or CLIENT ({described(error)})")

    def _watch_for_early_returns(self, seconds: float, block_ms: int, *, is_served: bool) -> None:
        if not block_ms:
            return
        self._refused = self._broken = 0
        if is_served or self._joined.is_set() or seconds * 1_000 > block_ms / 2:
            self._early = 0
            return
        self._early += 1
        if self._early >= _EARLY_RETURNS:
            self._early = 0
            self._poll_for_a_while("Redis does not wait in XREAD BLOCK")

    def _poll_for_a_while(self, reason: str) -> None:
        self._polls_until = asyncio.get_running_loop().time() + _POLL_SECONDS
        self._log_once(f"{reason}; asking up to {1 / SINGLE_PAUSE:g} times a second instead")

    def _log_once(self, message: str) -> None:
        if message not in self._logged:
            self._logged.add(message)
            logger.info("%s", message)

    # ------------------------------------------------------------------ cutting a round short

    async def _interrupter(self, turn: object, line: Line) -> asyncio.Task[None] | None:
        """Start what cuts a blocked read of this connection short, if Redis permits it."""
        try:
            client_id = int(await line.ask("CLIENT", "ID"))
            await line.ask("CLIENT", "UNBLOCK", client_id)  # of nothing: is it permitted?
        except ResponseError as error:
            if classify(error).wait == "outage":
                raise
            self._log_once(f"Redis permits no CLIENT UNBLOCK ({described(error)}); reading in short rounds")
            return None
        return asyncio.get_running_loop().create_task(
            self._interrupt(client_id, turn), name="token-stream-unblock"
        )

    async def _interrupt(self, client_id: int, turn: object) -> None:
        while True:
            await self._joined.wait()
            if self._turn is not turn:  # the feed that joined waits for the task after that one
                return
            self._begun.clear()
            with suppress(*FAILURES):  # the round then ends by itself
                await self._unblocking.ask("CLIENT", "UNBLOCK", client_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPEAT):
                    await self._begun.wait()


async def _read(
    line: Line,
    feeds: Mapping[str, Feed],
    block_ms: int,
    count: int,
    at_most: int | None,
) -> list[tuple[str, list[Entry]]]:
    block = ("BLOCK", block_ms) if block_ms else ()
    positions = [feed.asked or feed.ask() for feed in feeds.values()]
    return streams(
        await line.ask(
            *("XREAD", "COUNT", count, *block, "STREAMS", *feeds, *positions),
            blocks=block_ms / 1_000,
            at_most=at_most,
        )
    )
