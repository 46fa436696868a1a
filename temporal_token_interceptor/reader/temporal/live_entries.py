"""What a reader without a transport follows while the run lives: its heartbeats and its results, as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.events.origin import LIVE
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.temporal.heartbeats import Inbox, RunHeartbeats
from temporal_token_interceptor.reader.temporal.history import LiveHistory
from temporal_token_interceptor.transport.base import Entry


class LiveEntries:
    """What one reader follows while the run lives: heartbeats, and results as activities complete.

    Args:
        heartbeats: Those of the run.
        history: The results of the run.
    """

    def __init__(self, heartbeats: RunHeartbeats, history: LiveHistory) -> None:
        self._heartbeats = heartbeats
        self._history = history
        self._inbox = Inbox()
        self._has_read = False

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        """Iterate over batches, each of one place.

        `after` is an id of the history, and says that the run has closed: heartbeats are asked no more.
        """
        if after or self._has_read:
            while self._inbox.batches:  # what came, and was not read before the run closed
                batch = self._inbox.batches.popleft()
                if is_live(batch) or (batch := [entry for entry in batch if entry.id > after]):
                    after = after if is_live(batch) else batch[-1].id
                    yield batch
            async with aclosing(self._history.read(stream, after)) as batches:
                async for batch in batches:
                    yield batch
            return
        self._has_read = True
        inbox = self._inbox
        try:
            with self._heartbeats.listening(inbox):
                results = started(self._results(stream), "token-stream results")
                results.add_done_callback(lambda _: inbox.changed.set())
                try:
                    while True:
                        inbox.changed.clear()
                        while inbox.batches:
                            yield inbox.batches.popleft()
                        if results.done():
                            await results  # raises what ended them
                        await inbox.changed.wait()
                finally:
                    await joined(results)
        finally:
            await self._heartbeats.leave()

    async def last_id(self, stream: StreamKey) -> str:
        """Return the id of the newest entry of the history, or an empty string.

        Where nothing was read, what heartbeats hold now is left over.
        """
        if not self._has_read:
            self._has_read = True
            self._inbox.put(await self._heartbeats.now())
        return await self._history.last_id(stream)

    def leftover(self) -> Iterator[Sequence[Entry]]:
        """Yield the batches from heartbeats that came, and were not read before the run closed."""
        while self._inbox.batches:
            batch = self._inbox.batches.popleft()
            if is_live(batch):
                yield batch

    async def _results(self, stream: StreamKey) -> None:
        async with aclosing(self._history.read(stream)) as batches:
            async for batch in batches:
                self._inbox.put(batch)


def is_live(batch: Sequence[Entry]) -> bool:
    """Whether entries come from heartbeats."""
    return bool(batch) and batch[0].id.startswith(LIVE)
