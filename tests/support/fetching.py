"""Entries that a backend fetches, one by one: tests of `write` hold for `fetch_from`, too."""

import asyncio

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend


class Entries:
    """A source of some entries. `all_stored` is done once they are, or raises why not; cancelled by a test.

    Args:
        entries: Taken in this order.
    """

    def __init__(self, *entries: bytes) -> None:
        self.all_stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken: list[bytes] = []
        self._left = list(entries)
        self._in_flight = False

    @property
    def is_over(self) -> bool:
        return self.all_stored.done()

    def take(self) -> bytes | None:
        assert not self._in_flight, "an entry is taken before the one before is stored"
        if self.is_over or not self._left:
            return None
        self._in_flight = True
        self.taken.append(self._left.pop(0))
        return self.taken[-1]

    def stored(self) -> None:
        self._in_flight = False
        if not self._left and not self.is_over:
            self.all_stored.set_result(None)

    def failed(self, error: TokenStreamError) -> None:
        self.all_stored.set_exception(error)


async def write_by_fetching(backend: RedisStreamBackend, stream: StreamKey, data: bytes) -> None:
    """Do what `backend.write` does, by `fetch_from`."""
    entries = Entries(data)
    backend.fetch_from(stream, entries)
    await entries.all_stored
