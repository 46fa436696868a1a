"""What a Redis that cannot be used costs: pauses between tries, the end of patience, one log line.

The writer, the shared read and every reader that catches up notice the same outage, each at its own time.
The log has it once: one warning when the first of them has to wait, one when the last is served again.
One failure is no outage: that a connection of the pool is dead is found out by using it.
"""

from __future__ import annotations

import asyncio
import logging
import math

from temporal_token_interceptor.errors import TransportUnavailable
from temporal_token_interceptor.transport.redis.refusals import UNREACHABLE, classify, explained

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds


class Outage:
    """Logs once that Redis is unusable, and once that all who had to wait are served again."""

    def __init__(self) -> None:
        self.failures = 0  # of all users: readers ask whether they were cut off meanwhile
        self._waiting: set[Backoff] = set()
        self._served = False  # a party was, since the last failure
        self._logged = False

    def begin(self, who: Backoff, error: Exception) -> None:
        """Note that a party has to wait."""
        self._waiting.add(who)
        self._served = False
        if not self._logged:
            self._logged = True
            logger.warning(
                "Redis does not serve token streams (%s); activities go on, and it is tried again",
                explained(error),
            )

    def end(self, who: Backoff) -> None:
        """Note that Redis served a party."""
        self._waiting.discard(who)
        self._served = True
        self._log_the_end()

    def forget(self, who: Backoff) -> None:
        """Note that a party no longer waits, served or not."""
        self._waiting.discard(who)
        self._log_the_end()

    def _log_the_end(self) -> None:
        if self._logged and self._served and not self._waiting:
            self._logged = False
            logger.warning("Redis serves token streams again")

    def __repr__(self) -> str:
        return "<Outage>" if self._logged else "<Outage none>"


class Backoff:
    """Pauses of one party between its tries, longer each time, and the end of its patience.

    Args:
        outage: Notes failures and successes.
        patience: Seconds from the first failure in a row to `TransportUnavailable`.
    """

    def __init__(self, outage: Outage, patience: float = math.inf) -> None:
        self._outage = outage
        self._patience = patience
        self._since: float | None = None
        self._pause = _FIRST_PAUSE
        self.error: Exception | None = None

    def failed(self, error: Exception) -> float:
        """Note a failure; return the seconds to pause before the next try.

        Raises:
            TransportUnavailable: patience is at an end.
        """
        now = asyncio.get_running_loop().time()
        self._outage.failures += 1
        if self._since is None:
            self._since = now
        else:
            self._outage.begin(self, error)
        self.error = error
        if now - self._since >= self._patience:
            raise self.unavailable(self._patience) from error
        pause = self._pause
        self._pause = min(pause * 2, _LONGEST_PAUSE)
        return pause

    async def wait(self, error: Exception) -> None:
        """Pause before the next try.

        Raises:
            TransportUnavailable: patience is at an end.
        """
        await asyncio.sleep(self.failed(error))

    def over(self) -> None:
        """Note a success."""
        self._since, self._pause, self.error = None, _FIRST_PAUSE, None
        self._outage.end(self)

    def leave(self) -> None:
        """Give up trying, or have no more to try."""
        self._outage.forget(self)

    def unavailable(self, patience: float) -> TransportUnavailable:
        """Return the error for a party that waited this many seconds."""
        return unavailable(self.error, patience)


def unavailable(error: Exception | None, patience: float) -> TransportUnavailable:
    """Return the error for what Redis has not answered, or has refused, for so many seconds."""
    if error is None:
        return TransportUnavailable(
            f"Redis has not answered for {patience:g} s ({UNREACHABLE.advice}); "
            "resume from the last event's cursor once it does"
        )
    verb = "answered" if classify(error) is UNREACHABLE else "served token streams"
    return TransportUnavailable(
        f"Redis has not {verb} for {patience:g} s ({explained(error)}); "
        "resume from the last event's cursor once it does"
    )
