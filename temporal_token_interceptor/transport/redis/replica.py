"""Whether the Redis that is read from is a replica, and has received all that its primary took so far.

A replica gets what its primary took in that order. So once it has received anything after a moment, it has
all that was stored before. How long ago that was it says itself, in whole seconds; a primary sends something
every 10 seconds at least.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from redis.exceptions import ResponseError

from temporal_token_interceptor.transport.redis.connection import Queries
from temporal_token_interceptor.transport.redis.refusals import FAILURES, described

logger = logging.getLogger(__name__)

LONGEST: Final = 15.0
"""Seconds to wait for a primary: one and a half times as long as it may have nothing to say."""

_PAUSE: Final = 0.25  # seconds between two questions

# For so long a primary is taken to be one still: to become a replica it has to break its connections.
_KNOWN_SECONDS: Final = 30.0

_ROUNDED: Final = 1.2  # seconds: its clock is read now and then, and has whole ones

_FACT = re.compile(r"^(role|master_link_status|master_last_io_seconds_ago):(\S+)\r?$", re.MULTILINE)


class Replica:
    """Asks a server about its role.

    Args:
        queries: Asks.
    """

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._asks_from = 0.0  # on the loop's clock
        self._turn = asyncio.Lock()

    async def caught_up(self) -> bool:
        """Wait until the server has all that was stored before this call; return whether it has.

        A primary has, and a server that does not say what it is is taken for one.
        """
        now = asyncio.get_running_loop().time
        since = now()
        while now() - since < LONGEST:
            if now() < self._asks_from:
                return True
            received = await self._received()
            if received is None or received >= since:
                return True
            await asyncio.sleep(_PAUSE)
        logger.warning(
            "the replica that token streams are read from has received nothing of its primary for %g s: "
            "readers get a gap at the end of their streams; let them read from the primary",
            LONGEST,
        )
        return False

    async def _received(self) -> float | None:
        """Return since when at least the replica has received something last; None if it is none."""
        loop = asyncio.get_running_loop()
        async with self._turn:  # many streams may end at once
            if loop.time() < self._asks_from:
                return None
            try:
                reply = await self._queries.ask("INFO", "replication")
            except ResponseError as error:
                logger.info("Redis does not say whether it is a replica (%s)", described(error))
                self._asks_from = float("inf")
                return None
            except FAILURES:
                return None  # the reader that asks for entries next notices, and waits
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
        facts: dict[str, str] = dict(_FACT.findall(text))
        if facts.get("role") != "slave":
            self._asks_from = loop.time() + _KNOWN_SECONDS
            return None
        seconds = facts.get("master_last_io_seconds_ago", "-1")
        if facts.get("master_link_status") != "up" or not seconds.isdecimal():
            return float("-inf")
        return loop.time() - int(seconds) - _ROUNDED
