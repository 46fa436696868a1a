"""The writing half of the Redis transport: a group commit.

All attempts of a worker share one batch in flight; whatever arrives during its round trip leaves in the
next. So the first token leaves at once, and load makes the batches. A batch is one `EVALSHA` that does
all the `XADD`s: at 500 concurrent calls a frame costs 3 us of CPU that way, against 17 us in a pipeline
of redis-py. Where scripts are refused, a pipeline does the same.

An outage is handled here, once for all streams: what is unanswered is sent again until it is answered or
whoever waits for it gives up. Redis may then hold an entry twice (the reply, not the entry, was lost);
readers drop it by its sequence number.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError, ResponseError

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.connection import ANSWER_SECONDS, ended
from temporal_token_interceptor.transport.redis.keys import FIELD, Keys
from temporal_token_interceptor.transport.redis.outage import (
    Outage,
    Trouble,
    demoted,
    described,
    passes,
    refused,
)

logger = logging.getLogger(__name__)

# One batch blocks Redis for as long as it runs: some 3 ms at most with these.
_BATCH_ENTRIES = 500
_BATCH_BYTES = 1024 * 1024

# KEYS: streams, then pointers. ARGV: maxlen, ttl, number of streams, a run id for each pointer, then pairs
# (index of a stream, entry). Returns an error or an empty string for each entry. pcall, because one
# stream that cannot be written to must not take the others with it.
_SCRIPT = f"""
local streams = tonumber(ARGV[3])
local pointers = #KEYS - streams
local results = {{}}
for i = 4 + pointers, #ARGV, 2 do
  local reply = redis.pcall('XADD', KEYS[tonumber(ARGV[i])], 'MAXLEN', '~', ARGV[1], '*',
                            '{FIELD}', ARGV[i + 1])
  results[#results + 1] = type(reply) == 'table' and reply.err or ''
end
for i = 1, streams do redis.pcall('EXPIRE', KEYS[i], ARGV[2]) end
for i = 1, pointers do redis.pcall('SET', KEYS[streams + i], ARGV[3 + i], 'EX', ARGV[2]) end
return results
"""
_SCRIPT_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class _Pending:
    stream: StreamKey
    data: bytes
    stored: asyncio.Future[None]


class RedisWriter:
    """Appends entries to streams, keeps streams from expiring, outlives outages.

    It has a task only while something is to be sent.

    Args:
        client: Sends; its own retries may store an entry twice, which readers put up with.
        keys: Names the keys.
        outage: Is told when writing fails.
        maxlen: Entries that a stream keeps, approximately.
        ttl: Seconds from the last write or `keep` of a stream to its expiry.
        scripts: Whether to send batches as scripts; in a cluster, all keys of one would need the same slot.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        keys: Keys,
        outage: Outage,
        *,
        maxlen: int,
        ttl: int,
        scripts: bool = True,
    ) -> None:
        self._client = client
        self._keys = keys
        self._trouble = Trouble(outage)
        self._maxlen = maxlen
        self._ttl = ttl
        self._scripts = scripts
        self._queue: deque[_Pending] = deque()
        self._batch: list[_Pending] = []  # what is in flight
        self._kept: dict[StreamKey, None] = {}  # to be kept, the last asked for last
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, stream: StreamKey, data: bytes) -> None:
        """Append an entry; return once Redis has it. Cancel to give up.

        Raises:
            TokenStreamError: Redis refused this very entry, or the backend is closed.
        """
        if self._closed:
            raise _closed()
        pending = _Pending(stream, data, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        self._start()
        await pending.stored

    def keep(self, stream: StreamKey) -> None:
        """Put the expiry of a stream off, and point its workflow to its run."""
        if not self._closed:
            self._kept.pop(stream, None)
            self._kept[stream] = None
            self._start()

    async def close(self) -> None:
        """Stop. What is not stored is given up, and whoever waits for it is told. Closing twice is fine."""
        self._closed = True
        if self._task is not None:
            await ended(self._task)
        for pending in (*self._batch, *self._queue):
            if not pending.stored.done():
                pending.stored.set_exception(_closed())
        self._batch, self._queue, self._kept = [], deque(), {}

    def __repr__(self) -> str:
        return f"<RedisWriter {len(self._batch)} in flight, {len(self._queue)} queued>"

    # ------------------------------------------------------------------ the task

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="token-stream-writer")

    async def _run(self) -> None:
        try:
            while (self._queue or self._kept) and not self._closed:
                await self._send_once()
        finally:
            self._trouble.leave()

    async def _send_once(self) -> None:
        """Send what there is, up to a batch; pause if Redis does not take it."""
        self._batch = self._next_batch()
        kept = list(self._kept)[:_BATCH_ENTRIES]
        for stream in kept:
            del self._kept[stream]
        if not self._batch and not kept:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                errors = await self._commit(self._batch, kept)
        except Exception as error:  # noqa: BLE001 - redis-py raises RedisError, OSError and, at times, others
            # What Redis has of it nobody knows. What was to be kept since then is newer, and goes last.
            self._kept = dict.fromkeys(kept) | self._kept
            errors = [error] * len(self._batch)
            reason: Exception | None = error
        else:
            reason = next((error for error in errors if error and passes(error)), None)
        self._settle(errors)
        if reason is None:
            self._trouble.over()
            return
        if demoted(reason):
            with suppress(RedisError, OSError):
                if isinstance(self._client, RedisCluster):
                    await self._client.aclose()  # it asks for the topology anew when it is used next
                else:
                    await self._client.connection_pool.disconnect(inuse_connections=False)
        await self._trouble.wait(reason)

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        while self._queue and len(batch) < _BATCH_ENTRIES and size < _BATCH_BYTES:
            pending = self._queue.popleft()
            if not pending.stored.done():  # else: whoever wanted it gave up
                batch.append(pending)
                size += len(pending.data)
        return batch

    def _settle(self, errors: list[Exception | None]) -> None:
        """Tell who waits for the batch; what may still be stored goes back to the head of the queue."""
        again: list[_Pending] = []
        for pending, error in zip(self._batch, errors, strict=True):
            if pending.stored.done():
                continue
            if error is None:
                pending.stored.set_result(None)
            elif passes(error):
                again.append(pending)
            else:
                pending.stored.set_exception(refused(self._keys.stream(pending.stream), error))
        self._queue.extendleft(reversed(again))
        self._batch = []

    async def _commit(self, batch: list[_Pending], kept: list[StreamKey]) -> list[Exception | None]:
        """Send a batch; return what Redis had against each entry."""
        if self._scripts:
            try:
                return await self._commit_by_script(batch, kept)
            except ResponseError as error:
                if passes(error):
                    raise
                self._scripts = False
                logger.info(
                    "Redis refuses scripts (%s); using pipelines, which cost more CPU", described(error)
                )
        return await self._commit_by_pipeline(batch, kept)

    async def _commit_by_script(self, batch: list[_Pending], kept: list[StreamKey]) -> list[Exception | None]:
        places = {stream: place for place, stream in enumerate(_streams(batch, kept), 1)}
        keys = [*map(self._keys.stream, places), *map(self._keys.pointer, kept)]
        args: list[str | int | bytes] = [self._maxlen, self._ttl, len(places)]
        args += [stream.run_id for stream in kept]
        for pending in batch:
            args += (places[pending.stream], pending.data)
        try:
            errors = await self._client.evalsha(_SCRIPT_SHA, len(keys), *keys, *args)
        except NoScriptError:  # the first time, and after a restart of Redis; EVAL makes it known
            errors = await self._client.eval(_SCRIPT, len(keys), *keys, *args)
        return [ResponseError(_text(error)) if error else None for error in errors]

    async def _commit_by_pipeline(
        self, batch: list[_Pending], kept: list[StreamKey]
    ) -> list[Exception | None]:
        async with self._client.pipeline(transaction=False) as pipe:
            for pending in batch:
                key = self._keys.stream(pending.stream)
                pipe.xadd(key, {FIELD: pending.data}, maxlen=self._maxlen, approximate=True)
            for stream in _streams(batch, kept):
                pipe.expire(self._keys.stream(stream), self._ttl)
            for stream in kept:
                pipe.set(self._keys.pointer(stream), stream.run_id, ex=self._ttl)
            replies = await pipe.execute(raise_on_error=False)
        return [reply if isinstance(reply, Exception) else None for reply in replies[: len(batch)]]


def _closed() -> TokenStreamError:
    return TokenStreamError("the backend is closed: the entry was not stored")


def _streams(batch: list[_Pending], kept: list[StreamKey]) -> dict[StreamKey, None]:
    return dict.fromkeys([*(pending.stream for pending in batch), *kept])


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
