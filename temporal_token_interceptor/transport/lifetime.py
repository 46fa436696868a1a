"""The life of a backend: one event loop, named at once when it is used on a second one; and its end."""

from __future__ import annotations

import asyncio

from temporal_token_interceptor.errors import ConfigurationError, TokenStreamError


class OneLoop:
    """Remembers the event loop of the first use, and refuses all others.

    Connections, queues and tasks belong to one loop. On another one they fail late, with errors such as
    "Event loop is closed", or hang.

    Args:
        what: Named in the error.

    Attributes:
        loop: That of the first use.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Take the running loop for the one, or make sure that it is.

        Raises:
            ConfigurationError: it is another one.
        """
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            which = "one that is closed" if self.loop.is_closed() else "another one, which still runs"
            raise ConfigurationError(
                f"one loop: this {self._what} was first used on {which}; make one for each event loop (each "
                "asyncio.run, each thread), and close it there"
            )

    @property
    def is_mine(self) -> bool:
        """Whether the running loop may be used."""
        return self.loop is None or self.loop is asyncio.get_running_loop()


def closed_error() -> TokenStreamError:
    """Return the error of a writer that comes after `close`."""
    return TokenStreamError(
        "the backend is closed: the entry was not stored; it is closed by `close`, by the end of its "
        "`async with`, or by the plugin that made it"
    )
