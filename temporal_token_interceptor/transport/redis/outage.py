"""When Redis cannot be used: which errors pass by themselves, how long to pause, and what the log says.

The writer, the shared read and every reader that catches up notice the same outage, each at its own time.
The log shall have it once: one warning when the first of them suffers, one when the last is served again.
One failure is no outage: a connection that died in the pool is found out by using it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from temporal_token_interceptor.errors import TokenStreamError, TransportUnavailable

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds

# redis-py has a type for some errors of a server in a bad state, and for others only the first word. Words
# and not types come out of a script; before Redis 7 they come as "@user_script: 7: -OOM ...".
_PASSING = (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_PASSING_WORD = re.compile(
    r"(@\S+: \d+: )?-?"
    r"(ASK|BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|MOVED|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNBLOCKED)\b"
)


def passes(error: Exception) -> bool:
    """Tell whether trying again may help: it does, unless Redis answered that it refuses this command."""
    if not isinstance(error, ResponseError):
        return True
    return isinstance(error, _PASSING) or _PASSING_WORD.match(str(error)) is not None


def refused(key: str, error: Exception) -> TokenStreamError:
    """Return the error for whoever wants of a key what Redis refuses for good."""
    return TokenStreamError(
        f"Redis refuses key {key!r} ({described(error)}); "
        "if somebody else uses it, choose another channel_prefix"
    )


def described(error: Exception) -> str:
    """Name an error by type and text; some have an empty text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def demoted(error: Exception) -> bool:
    """Tell whether the server is no primary any more, and new connections may lead to the one that is."""
    word = _PASSING_WORD.match(str(error))
    return isinstance(error, ReadOnlyError) or (word is not None and word[2] == "READONLY")


class Outage:
    """Tells the log once when Redis becomes unusable, and once when all who suffered are served again."""

    def __init__(self) -> None:
        self._suffering: set[Trouble] = set()
        self._served = False  # somebody was, since the last failure
        self._told = False

    def begin(self, who: Trouble, error: Exception) -> None:
        """Note that somebody has to wait."""
        self._suffering.add(who)
        self._served = False
        if not self._told:
            self._told = True
            logger.warning(
                "Redis does not serve token streams (%s); activities go on, and it is tried again",
                described(error),
            )

    def end(self, who: Trouble) -> None:
        """Note that Redis served somebody."""
        self._suffering.discard(who)
        self._served = True
        self._tell_the_end()

    def forget(self, who: Trouble) -> None:
        """Note that somebody no longer waits, served or not."""
        self._suffering.discard(who)
        self._tell_the_end()

    def _tell_the_end(self) -> None:
        if self._told and self._served and not self._suffering:
            self._told = False
            logger.warning("Redis serves token streams again")

    def __repr__(self) -> str:
        return "<Outage>" if self._told else "<Outage none>"


class Trouble:
    """One party's share of an outage: pauses between its tries, and the end of its patience.

    Args:
        outage: Whom to tell.
        patience: Seconds from the first failure in a row to `TransportUnavailable`.
    """

    def __init__(self, outage: Outage, patience: float = math.inf) -> None:
        self._outage = outage
        self._patience = patience
        self._since: float | None = None
        self._pause = _FIRST_PAUSE
        self.error: Exception | None = None

    async def wait(self, error: Exception) -> None:
        """Pause before the next try, longer each time.

        Raises:
            TransportUnavailable: patience is at an end.
        """
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        else:
            self._outage.begin(self, error)
        self.error = error
        if now - self._since >= self._patience:
            raise self.unavailable(self._patience) from error
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def over(self) -> None:
        """Note a success."""
        self._since, self._pause, self.error = None, _FIRST_PAUSE, None
        self._outage.end(self)

    def leave(self) -> None:
        """Give up trying, or have no more to try."""
        self._outage.forget(self)

    def unavailable(self, patience: float) -> TransportUnavailable:
        """Return the error for whoever waited this many seconds."""
        reason = f" ({described(self.error)})" if self.error else ""
        return TransportUnavailable(
            f"Redis has not served token streams for {patience:g} s{reason}; "
            "resume from the last event's cursor once it does"
        )
