"""A cursor that a subscription from the start has yet to come to; and when it will not come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Literal

from temporal_token_interceptor.protocol.cursor import Cursor

IDLE = 1.0
"""Seconds without an event after which a cursor that has not come is not expected any more."""


class Seeking:
    """Compares what is read with a cursor, and gives up where it was trimmed away or is of no run here.

    What is passed over is known at once where the ids of entries are Redis's, which have an order. Where they
    are not, or where the cursor is another workflow's, the end of what is there shows it.

    Args:
        cursor: What is sought.
        read_at: Returns when the last event came, by the loop's clock; 0 before the first.
        give_up: Called when nothing has come for `IDLE` and the cursor was not among it.

    Raises:
        InvalidCursor: it is none.
    """

    def __init__(self, cursor: str, read_at: Callable[[], float], give_up: Callable[[], None]) -> None:
        self._cursor = cursor
        self._sought = Cursor.parse(cursor)
        self._read_at = read_at
        self._give_up = give_up
        self._timer = asyncio.get_running_loop().call_later(IDLE, self._look)

    def look_at(self, cursor: str) -> Literal["before", "found", "behind"]:
        """Return where the cursor of an event stands; the seeking is over unless that is `before`."""
        if not cursor:
            return "before"
        where: Literal["before", "found", "behind"] = "before"
        if cursor == self._cursor:
            where = "found"
        elif self._is_behind(Cursor.parse(cursor)):
            where = "behind"
        if where != "before":
            self.close()
        return where

    def close(self) -> None:
        """Seek no more."""
        self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if (read_at := self._read_at()) and loop.time() - read_at >= IDLE:
            self._give_up()
        else:
            self._timer = loop.call_later(IDLE, self._look)

    def _is_behind(self, there: Cursor) -> bool:
        if there.run_id != self._sought.run_id:
            return False
        one, other = _REDIS_ID.fullmatch(there.transport), _REDIS_ID.fullmatch(self._sought.transport)
        if one is None or other is None:
            return False
        return (int(one[1]), int(one[2]), there.position) > (
            int(other[1]),
            int(other[2]),
            self._sought.position,
        )


_REDIS_ID = re.compile(r"([0-9]{1,16})-([0-9]{1,20})")
