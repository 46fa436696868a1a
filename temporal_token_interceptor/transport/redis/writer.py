"""The writing half of the Redis transport: a group commit.

All attempts of a worker share one batch in flight; whatever arrives during its round trip leaves in the
next. So the first token leaves at once, and load makes the batches; a worker that is full answers a little
late, so that the frames that follow are larger (`late_answers`). A batch is one `EVALSHA` that does all the
`XADD`s: at 500 concurrent calls a frame costs 3 us of CPU that way, against 17 us in a pipeline of redis-py.
Where scripts are refused, a pipeline does the same.

An outage is handled here, once for all streams: what is unanswered is sent again until it is answered or
given up by its writer. Redis may then hold an entry twice (the reply, not the entry, was lost); readers drop
it by its sequence number. A stream that Redis refuses while it takes others rests alone: they go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from temporal_token_interceptor._tasks import started
from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import EntrySource
from temporal_token_interceptor.transport.lifetime import closed_error
from temporal_token_interceptor.transport.redis.batches import BatchSender
from temporal_token_interceptor.transport.redis.connection import Queries, ended
from temporal_token_interceptor.transport.redis.keys import Keys
from temporal_token_interceptor.transport.redis.late_answers import LateAnswers
from temporal_token_interceptor.transport.redis.outage import Backoff, Outage, unavailable
from temporal_token_interceptor.transport.redis.pending import Fetched, Pending, Written
from temporal_token_interceptor.transport.redis.refusals import FAILURES, classify, is_demotion, refused

# One batch blocks Redis for as long as it runs: some 3 ms at most with these.
_BATCH_ENTRIES: Final = 500
_BATCH_BYTES: Final = 1024 * 1024

# Batches in a row, at most, that what is fetched for a stream waits for what is written to it.
_HELD_BATCHES: Final = 16


class _Rest:
    """One stream's pause, while others are served."""

    def __init__(self, outage: Outage) -> None:
        self.until = 0.0  # on the loop's clock
        self.backoff = Backoff(outage)


class RedisWriter:
    """Appends entries to streams, keeps streams from expiring, outlives outages.

    It has a task only while something is to be sent.

    Args:
        queries: Sends; a client's own retries may store an entry twice, which readers tolerate.
        keys: Names the keys.
        outage: Notes when writing fails.
        maxlen: Entries that a stream keeps, approximately.
        ttl: Seconds from the last write or `keep` of a stream to its expiry.
        patience: Seconds that a refusal is waited out; see `refusals`.
        scripts: Whether to send batches as scripts; in a cluster, all keys of one would need the same slot.
        go_on: Has the next entry of a source fetched; by default, this writer does.
    """

    def __init__(
        self,
        queries: Queries,
        keys: Keys,
        outage: Outage,
        *,
        maxlen: int,
        ttl: int,
        patience: float,
        scripts: bool = True,
        go_on: Callable[[StreamKey, EntrySource], None] | None = None,
    ) -> None:
        self._queries = queries
        self._keys = keys
        self._outage = outage
        self._backoff = Backoff(outage)
        self._patience = patience
        self._sender = BatchSender(queries, keys, maxlen=maxlen, ttl=ttl, scripts=scripts)
        self._queue: deque[Pending] = deque()
        self._sources: deque[tuple[StreamKey, EntrySource]] = deque()  # that may have an entry
        self._batch: list[Pending] = []  # what is in flight
        self._held = 0  # batches in a row that made sources wait for what is written to their streams
        self._kept: dict[StreamKey, None] = {}  # to be kept, the last asked for last
        self._resting: dict[StreamKey, _Rest] = {}
        self._answers = LateAnswers()
        self._go_on = go_on or self.fetch_from
        self._changed = asyncio.Event()  # there is more to send
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once Redis has it, or a moment later (`late_answers`). Cancel to give up.

        Raises:
            TokenStreamError: Redis refuses this very entry, or the backend is closed.
            TransportUnavailable: Redis has refused it for longer than `patience`.
        """
        if self._closed:
            raise closed_error()
        stored = asyncio.get_running_loop().create_future()
        data = bytes(data)  # a `bytearray` cannot be packed: it would be tried without end
        self._queue.append(Written(stream, data, stored))
        self._start()
        await stored

    def fetch_from(self, stream: StreamKey, source: EntrySource) -> None:
        """Take entries from a source, each when it can be sent, until it has none; see `FetchingSink`."""
        if self._closed:
            source.failed(closed_error())
            return
        self._sources.append((stream, source))
        self._start()

    def keep(self, stream: StreamKey) -> None:
        """Put the expiry of a stream off, and point its workflow to its run."""
        if not self._closed:
            self._kept.pop(stream, None)
            self._kept[stream] = None
            self._start()

    def hurry(self, stream: StreamKey) -> None:
        """Answer what is written to a stream at once; see `HurriedSink`."""
        if not self._closed:
            self._answers.hurry(stream, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Stop. What is not stored is given up, and its writers get an error. Closing twice is fine."""
        self._closed = True
        if self._task is not None:
            await ended(self._task)
        await self._queries.silence()
        self._answers.end()
        for pending in (*self._batch, *self._queue):
            if not pending.is_given_up:
                pending.failed(closed_error())
        for _, source in self._sources:
            if not source.is_over:
                source.failed(closed_error())
        self._batch, self._queue, self._sources, self._kept = [], deque(), deque(), {}

    def __repr__(self) -> str:
        return f"<RedisWriter {len(self._batch)} in flight, {len(self._queue) + len(self._sources)} queued>"

    # ------------------------------------------------------------------ the task

    def _start(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = started(self._run(), "token-stream-writer")

    async def _run(self) -> None:
        try:
            while (self._queue or self._sources or self._kept) and not self._closed:
                await self._send_once()
        finally:
            self._backoff.leave()
            for rest in self._resting.values():
                rest.backoff.leave()
            self._resting.clear()

    async def _send_once(self) -> None:
        """Send what there is, up to a batch; pause if Redis does not take it."""
        now = asyncio.get_running_loop().time()
        self._changed.clear()
        self._batch = self._next_batch(now)
        kept = list(self._kept)[:_BATCH_ENTRIES]
        for stream in kept:
            del self._kept[stream]
        if not self._batch and not kept:
            await self._await_change(now)
            return
        try:
            errors = await self._sender.send(
                [(pending.stream, pending.data) for pending in self._batch], kept, now
            )
        except Exception as error:  # noqa: BLE001 - redis-py raises FAILURES and, at times, others
            # What Redis has of it is unknown. What was to be kept since then is newer, and goes last.
            self._kept = dict.fromkeys(kept) | self._kept
            errors = [error for _ in self._batch]
            reason: Exception | None = error
        else:
            passing = [error for error in errors if error and classify(error).wait != "never"]
            reason = passing[0] if passing and all(errors) else None
        self._settle(errors, alone=reason is None)
        if reason is None:
            self._backoff.over()
            if self._held:
                await asyncio.sleep(0)  # for who writes the next of what goes before
            return
        # While nothing is sent, sources end without being asked again.
        self._sources = deque([(stream, source) for stream, source in self._sources if not source.is_over])
        if is_demotion(reason):
            with suppress(*FAILURES):
                await self._queries.reconnect()
        await self._backoff.wait(reason)

    async def _await_change(self, now: float) -> None:
        """Wait until a stream has rested, or there is more to send."""
        waiting = [*(pending.stream for pending in self._queue), *(stream for stream, _ in self._sources)]
        if not waiting:
            return
        until = min(self._resting[stream].until for stream in waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(until - now):
                await self._changed.wait()

    def _next_batch(self, now: float) -> list[Pending]:
        """Return what is sent next: what is queued, and what the sources have by now."""
        batch: list[Pending] = []
        size = 0
        later: list[Pending] = []
        while self._queue and len(batch) < _BATCH_ENTRIES and size < _BATCH_BYTES:
            pending = self._queue.popleft()
            if pending.is_given_up:
                continue
            if self._rests(pending.stream, now):
                later.append(pending)
                continue
            batch.append(pending)
            size += len(pending.data)
        self._queue.extendleft(reversed(later))
        # What is written to a stream goes before what is fetched for it: last words of attempts that ended.
        written = {pending.stream for pending in batch if isinstance(pending, Written)}
        if self._held >= _HELD_BATCHES:
            written.clear()
        resting: list[tuple[StreamKey, EntrySource]] = []
        while self._sources and len(batch) < _BATCH_ENTRIES and size < _BATCH_BYTES:
            stream, source = self._sources.popleft()
            if stream in written or self._rests(stream, now):
                if not source.is_over:
                    resting.append((stream, source))
            elif (data := source.take()) is not None:
                batch.append(Fetched(stream, data, source, self._go_on))
                size += len(data)
        self._sources.extendleft(reversed(resting))
        self._held = self._held + 1 if any(stream in written for stream, _ in resting) else 0
        return batch

    def _rests(self, stream: StreamKey, now: float) -> bool:
        rest = self._resting.get(stream) if self._resting else None
        return rest is not None and rest.until > now

    def _settle(self, errors: Sequence[Exception | None], *, alone: bool) -> None:
        """Answer the writers of the batch; what may still be stored goes back to the head of the queue.

        Args:
            errors: For each entry of the batch.
            alone: Whether others were served: then refused streams rest by themselves.
        """
        now = asyncio.get_running_loop().time()
        self._answers.look(now)
        again: list[Pending] = []
        rested: set[StreamKey] = set()
        for pending, error in zip(self._batch, errors, strict=True):
            if error is None:
                if rest := self._resting.pop(pending.stream, None) if self._resting else None:
                    rest.backoff.over()
                pending.stored()
                if not pending.is_given_up:
                    self._answers.answer(pending.stream, pending.go_on, now)
                continue
            if pending.is_given_up:
                continue
            if final := self._final_error(pending, error, now):
                pending.failed(final)
                continue
            again.append(pending)
            if alone and pending.stream not in rested:
                rested.add(pending.stream)
                rest = self._resting.setdefault(pending.stream, _Rest(self._outage))
                rest.until = now + rest.backoff.failed(error)
        self._queue.extendleft(reversed(again))
        self._batch = []

    def _final_error(self, pending: Pending, error: Exception, now: float) -> TokenStreamError | None:
        """Return what the writer of an entry gets, if it is not tried again."""
        wait = classify(error).wait
        if wait == "never":
            return refused(self._keys.stream(pending.stream), error)
        if wait == "outage":
            pending.refused_since = None
            return None
        if pending.refused_since is None:
            pending.refused_since = now
        if now - pending.refused_since < self._patience:
            return None
        final = unavailable(error, self._patience)
        final.__cause__ = error
        return final
