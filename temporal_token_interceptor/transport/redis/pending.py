"""An entry on its way into Redis, and who has to know what became of it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import EntrySource


class Pending(ABC):
    """An entry that is to be stored.

    Attributes:
        stream: Where it is appended.
        data: What it holds.
        refused_since: When Redis began to refuse it, on the loop's clock.
    """

    __slots__ = ("data", "refused_since", "stream")

    def __init__(self, stream: StreamKey, data: bytes) -> None:
        self.stream = stream
        self.data = data
        self.refused_since: float | None = None

    @property
    @abstractmethod
    def is_given_up(self) -> bool:
        """Whether its writer waits no more."""

    def stored(self) -> None:  # noqa: B027 - not every writer wants to know before it goes on
        """Note that it is stored."""

    @abstractmethod
    def go_on(self) -> None:
        """Let its writer send the next one. A moment later than `stored`, maybe."""

    @abstractmethod
    def failed(self, error: TokenStreamError) -> None:
        """Let its writer know that it will not be stored; not once it is given up."""


class Written(Pending):
    """An entry that a task waits for.

    Args:
        stream: Where it is appended.
        data: What it holds.
        waiting: Done once it is stored; cancelled by who gives it up.
    """

    __slots__ = ("_waiting",)

    def __init__(self, stream: StreamKey, data: bytes, waiting: asyncio.Future[None]) -> None:
        super().__init__(stream, data)
        self._waiting = waiting

    @property
    def is_given_up(self) -> bool:
        """Whether its writer was cancelled."""
        return self._waiting.done()

    def go_on(self) -> None:
        """Let its writer go on."""
        if not self._waiting.done():
            self._waiting.set_result(None)

    def failed(self, error: TokenStreamError) -> None:
        """Raise in its writer."""
        self._waiting.set_exception(error)


class Fetched(Pending):
    """An entry that was taken from its source.

    Args:
        stream: Where it is appended.
        data: What it holds.
        source: Where it was taken.
        fetch: Takes the next one, in its turn.
    """

    __slots__ = ("_fetch", "_source")

    def __init__(
        self,
        stream: StreamKey,
        data: bytes,
        source: EntrySource,
        fetch: Callable[[StreamKey, EntrySource], None],
    ) -> None:
        super().__init__(stream, data)
        self._source = source
        self._fetch = fetch

    @property
    def is_given_up(self) -> bool:
        """Whether its source has ended."""
        return self._source.is_over

    def stored(self) -> None:
        """Note it at its source."""
        self._source.stored()

    def go_on(self) -> None:
        """Have the next one taken."""
        self._fetch(self.stream, self._source)

    def failed(self, error: TokenStreamError) -> None:
        """End its source."""
        self._source.failed(error)
