"""How a batch of entries is sent: as one script, or as a pipeline where scripts are refused.

Neither shortens the life of a stream: a writer with a smaller `ttl` than others leaves theirs alone.
`EXPIRE ... GT` would do it since Redis 7.0, but not for keys without an expiry, and 6.2 does not know it; so
both look first at what is left. A writer without the right to `TTL` sets its own.

To look, and to put the expiry off, costs Redis a third of what storing an entry does. So a stream has that
done once a second; in between it is only appended to, if it is still there (`NOMKSTREAM`): one that was lost,
and begins again, never does so without an expiry. A lone entry of such a stream needs no script.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.connection import Queries
from temporal_token_interceptor.transport.redis.keys import FIELD, Keys
from temporal_token_interceptor.transport.redis.packing import Command
from temporal_token_interceptor.transport.redis.refusals import FAILURES, classify, described

logger = logging.getLogger(__name__)

REMEMBERED: Final = 24
"""How many times as long as a stream its `begun` key lives: the sign that there was one."""

# KEYS: streams whose expiry is put off, other streams, pointers, `begun` keys. ARGV: maxlen, ttl, ttl of
# `begun`, number of streams, of those whose expiry is put off, of pointers, a run id for each pointer, the
# index of its stream for each `begun`, then pairs (index of a stream, entry). Returns an error or an empty
# string for each entry. pcall, because one stream that cannot be written to must not take the others with it,
# and TTL may be forbidden.
_SCRIPT: Final = f"""
local streams, due = tonumber(ARGV[4]), tonumber(ARGV[5])
local named = streams + tonumber(ARGV[6])
local results, first, begins = {{}}, {{}}, {{}}
for i = 7 + #KEYS - streams, #ARGV, 2 do
  local place, reply = tonumber(ARGV[i]), false
  if place > due then
    reply = redis.pcall(
      'XADD', KEYS[place], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[1], '*', '{FIELD}', ARGV[i + 1]
    )
  end
  if type(reply) ~= 'string' then
    reply = redis.pcall('XADD', KEYS[place], 'MAXLEN', '~', ARGV[1], '*', '{FIELD}', ARGV[i + 1])
    begins[place] = true
  end
  local is_refused = type(reply) == 'table'
  results[#results + 1] = is_refused and reply.err or ''
  if not is_refused and not first[place] then first[place] = reply end
end
for i = 1, #KEYS do
  if i <= due or i > streams or begins[i] then
    local life = tonumber(i > named and ARGV[3] or ARGV[2])
    local left = redis.pcall('TTL', KEYS[i])
    if type(left) ~= 'number' or left < life then left = life end
    local word = i > streams and ARGV[6 + i - streams]
    if i <= streams or i > named then
      local began = i > named and first[tonumber(word)]
      if began then redis.pcall('SET', KEYS[i], began, 'NX', 'EX', left) end
      if left == life then redis.pcall('EXPIRE', KEYS[i], life) end
    else
      redis.pcall('SET', KEYS[i], word, 'EX', left)
    end
  end
end
return results
"""
_SCRIPT_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_BROKEN_SCRIPTS: Final = 4
"""So many scripts in a row that are not answered: a pipeline shows whether it is because of them."""

_PUT_OFF_EVERY: Final = 1.0
"""Seconds, at most, from when the expiry of a stream is put off to the next time; less for a small `ttl`."""

_KNOWN: Final = 4_096
"""Streams that are known to have an expiry and a `begun` key, at most: others are given both again."""

_SCRIPTS_AGAIN: Final = 300.0
"""Seconds after which a server that refused scripts is asked again: permissions are reloaded."""


class BatchSender:
    """Sends batches of entries.

    Args:
        queries: Sends.
        keys: Names the keys.
        maxlen: Entries that a stream keeps, approximately.
        ttl: Seconds from the last write or `keep` of a stream to its expiry.
        scripts: Whether to send batches as scripts; in a cluster, all keys of one would need the same slot.
    """

    def __init__(self, queries: Queries, keys: Keys, *, maxlen: int, ttl: int, scripts: bool) -> None:
        self._queries = queries
        self._keys = keys
        self._maxlen = maxlen
        self._ttl = ttl
        self._scripts = scripts
        self._pipelines_until = 0.0  # on the loop's clock
        self._broken = 0  # scripts in a row that were not answered
        self._logged = False
        self._has_ttl = True
        self._put_off_every = min(_PUT_OFF_EVERY, ttl / 100)
        self._put_off: dict[StreamKey, float] = {}  # when, on the loop's clock; they have a `begun` key, too

    async def send(
        self, batch: Sequence[tuple[StreamKey, bytes]], kept: Collection[StreamKey], now: float
    ) -> list[Exception | None]:
        """Store entries, put expiries off, and point workflows to their newest runs.

        Args:
            batch: Entries with their streams, in order.
            kept: Streams whose run becomes the newest of its workflow.
            now: The time, on the loop's clock.

        Returns:
            What Redis had against each entry.

        Raises:
            FAILURES: none of it may be stored, or all of it.
        """
        kept = dict.fromkeys(kept)
        if len(batch) == 1 and not kept and await self._append(*batch[0], now):
            return [None]
        if self._scripts and now >= self._pipelines_until:
            try:
                errors = await self._as_script(batch, kept, now)
            except FAILURES as error:
                if not self._may_be_the_script(error):
                    raise
                refusal = error
            else:
                self._broken = 0
                return errors
            errors = await self._as_pipeline(batch, kept, now)
            if all(errors):  # it is not the scripts that are refused, or nothing shows that it is
                return errors
            self._pipelines_until = now + _SCRIPTS_AGAIN
            if not self._logged:
                self._logged = True
                logger.info(
                    "Redis refuses scripts (%s); using pipelines, which cost more CPU", described(refusal)
                )
            return errors
        return await self._as_pipeline(batch, kept, now)

    def _may_be_the_script(self, error: Exception) -> bool:
        """Whether a pipeline is worth a try: some proxies refuse a command by closing the connection."""
        if isinstance(error, ResponseError):
            return classify(error).wait != "outage"
        self._broken += 1
        return self._broken % _BROKEN_SCRIPTS == 0

    async def _append(self, stream: StreamKey, data: bytes, now: float) -> bool:
        """Append to a stream that has an expiry, if it is still there; return whether it was."""
        if not self._has_expiry(stream, now):
            return False
        key = self._keys.stream(stream)
        stored = None
        try:
            with suppress(ResponseError):  # what it is about shows when it is sent as all others are
                stored = await self._queries.ask(
                    "XADD", key, "NOMKSTREAM", "MAXLEN", "~", self._maxlen, "*", FIELD, data
                )
        finally:
            if stored is None:
                del self._put_off[stream]
        return stored is not None

    async def _as_script(
        self, batch: Sequence[tuple[StreamKey, bytes]], kept: Collection[StreamKey], now: float
    ) -> list[Exception | None]:
        due, others = dict.fromkeys(kept), dict[StreamKey, None]()
        for stream, _ in batch:
            if stream not in due:
                (others if self._has_expiry(stream, now) else due)[stream] = None
        places = {stream: place for place, stream in enumerate((*due, *others), 1)}
        begun = [stream for stream in due if stream in kept or stream not in self._put_off]
        keys = [
            *map(self._keys.stream, places),
            *map(self._keys.pointer, kept),
            *map(self._keys.begun, begun),
        ]
        words: list[str | int | bytes] = [len(keys), *keys, self._maxlen, self._ttl, self._ttl * REMEMBERED]
        words += [len(places), len(due), len(kept)]
        words += [stream.run_id for stream in kept]
        words += [places[stream] for stream in begun]
        for stream, data in batch:
            words += (places[stream], data)
        try:
            errors = await self._queries.ask("EVALSHA", _SCRIPT_SHA, *words)
        except NoScriptError:  # the first time, and after a restart of Redis; EVAL makes it known
            errors = await self._queries.ask("EVAL", _SCRIPT, *words)
        results: list[Exception | None] = [ResponseError(_text(error)) if error else None for error in errors]
        if due:
            stored = {stream for (stream, _), error in zip(batch, results, strict=True) if error is None}
            self._note(stored.intersection(due), now)
        return results

    async def _as_pipeline(
        self, batch: Sequence[tuple[StreamKey, bytes]], kept: Collection[StreamKey], now: float
    ) -> list[Exception | None]:
        touched = list(_streams(batch, kept))
        lives = {
            **dict.fromkeys([*map(self._keys.stream, touched), *map(self._keys.pointer, kept)], self._ttl),
            **dict.fromkeys(map(self._keys.begun, kept), self._ttl * REMEMBERED),
        }
        # What is left of each is asked first, and what was shortened is set again: a key must have an expiry
        # from its first moment, also if the second part never arrives.
        commands: list[Command] = [("TTL", key) for key in lives] if self._has_ttl else []
        asked = len(commands)
        commands += [
            ("XADD", self._keys.stream(stream), "MAXLEN", "~", self._maxlen, "*", FIELD, data)
            for stream, data in batch
        ]
        commands += [("EXPIRE", self._keys.stream(stream), self._ttl) for stream in touched]
        commands += [("SET", self._keys.pointer(stream), stream.run_id, "EX", self._ttl) for stream in kept]
        commands += [("EXPIRE", self._keys.begun(stream), self._ttl * REMEMBERED) for stream in kept]
        replies = await self._queries.ask_many(commands)
        results = replies[asked : asked + len(batch)]
        further: list[Command] = [
            ("EXPIRE", key, left)
            for (key, life), left in zip(lives.items(), replies[:asked], strict=False)
            if isinstance(left, int) and left > life
        ]
        began = {
            stream: _text(reply)
            for (stream, _), reply in reversed(list(zip(batch, results, strict=True)))
            if not isinstance(reply, Exception)
        }
        further += [
            ("SET", self._keys.begun(stream), began[stream], "NX", "EX", self._ttl * REMEMBERED)
            for stream in began
            if stream not in self._put_off
        ]
        if further:
            await self._queries.ask_many(further)
        expiries = replies[asked + len(batch) :]
        for stream, reply in zip(touched, expiries, strict=False):
            if isinstance(reply, Exception) or stream not in began:
                self._put_off.pop(stream, None)  # it is asked for with the next entry
            else:
                self._note([stream], now)
        if asked and isinstance(replies[0], ResponseError) and classify(replies[0]).wait == "patience":
            self._has_ttl = False
        return [reply if isinstance(reply, Exception) else None for reply in results]

    def _has_expiry(self, stream: StreamKey, now: float) -> bool:
        """Whether the expiry of a stream was put off a moment ago."""
        put_off = self._put_off.get(stream)
        return put_off is not None and now - put_off < self._put_off_every

    def _note(self, streams: Iterable[StreamKey], now: float) -> None:
        """Note that the expiry of streams was put off, and that they have a `begun` key."""
        for stream in streams:
            self._put_off.pop(stream, None)  # those that are written to are the newest
            self._put_off[stream] = now
            if len(self._put_off) > _KNOWN:
                del self._put_off[next(iter(self._put_off))]


def _streams(batch: Sequence[tuple[StreamKey, bytes]], kept: Collection[StreamKey]) -> dict[StreamKey, None]:
    return dict.fromkeys([*(stream for stream, _ in batch), *kept])


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
