"""One connection: its feeds, one for each workflow that it shows, and when its client is written to."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from temporal_token_interceptor.gateway.access import Allow
from temporal_token_interceptor.gateway.encoder import Encoder
from temporal_token_interceptor.gateway.problem import Problem, problem_of
from temporal_token_interceptor.gateway.response import Write
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.visible import Visible

SPREAD = 5_000
"""Milliseconds over which clients of a server that stops come again."""

_SHORTEST_BEAT = 0.01  # seconds; as much before its time something is due

_PLACE_EVERY = 1.0  # seconds between two cursors of a connection with many feeds: each is kilobytes


class Times(NamedTuple):
    """The times of a gateway, in seconds; see `gateway`."""

    recheck: float
    keep_alive: float
    linger: float


class Client(Protocol):
    """Where a feed's changes come from: a place in a hub, or a subscription of its own."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        ...

    @property
    def error(self) -> Exception | None:
        """Why the subscription ended early."""
        ...

    def take(self) -> tuple[View, str] | list[Change]:
        """Return what is there: changes, or a whole state and its cursor in their place."""
        ...


class Watch(Protocol):
    """What a connection reports to; `telemetry.gateway` has the real one."""

    def written(self, size: int, cursors: Iterable[str]) -> None:
        """Note a write, and the cursors of what was in it."""
        ...

    def resynchronized(self) -> None:
        """Note that a client was given the state in place of what it missed."""
        ...


class Feed:
    """One workflow, to one client.

    Args:
        encoder: Writes it.
        client: Reads it.
        allowed: What the client may see, and for how long.
        narrow: What it wants to see of that.
        ask: Asks again what the client may; raises `Problem` if it may not.
        encode: As the encoder's, where others have encoded the same; for those who see all.
        cursor: What the client has.

    Attributes:
        cursor: Resumes right after what was written.
        until: When the client has to come again, in seconds since 1970; None for never.
    """

    def __init__(
        self,
        encoder: Encoder,
        client: Client,
        allowed: Allow,
        *,
        narrow: Callable[[Visible], Visible],
        ask: Callable[[], Awaitable[Allow]],
        encode: Callable[[Sequence[Change]], bytes] | None = None,
        cursor: str = "",
    ) -> None:
        self.encoder = encoder
        self.client = client
        self.cursor = cursor
        self._encode = encode or encoder.encode
        self._narrow = narrow
        self._ask = ask
        self._has_written = False
        self._allow(allowed)

    async def recheck(self) -> None:
        """Ask again what the client may.

        Raises:
            Problem: it may not, any more.
        """
        self._allow(await self._ask())

    def written(self, watch: Watch) -> bytes:
        """Return what waits for the client, as it may see it; empty if nothing does."""
        taken = self.client.take()
        if isinstance(taken, tuple):
            view, self.cursor = taken
            if self._has_written:
                watch.resynchronized()
            self._has_written = True
            return self.encoder.late(self._visible.view(view), self.cursor)
        if not taken:
            return b""
        self.cursor = taken[-1].cursor or self.cursor
        self._has_written = True
        if self._sees_all:
            return self._encode(taken)
        shown = [seen for one in taken if (seen := self._visible.of(one)) is not None]
        return self.encoder.encode(shown) if shown else b""

    def _allow(self, allowed: Allow) -> None:
        self._visible = self._narrow(allowed.visible)
        self._sees_all = self._visible.is_all
        self.until = None if allowed.until is None else allowed.until.timestamp()


class Connection:
    """Writes what its feeds have, until they have ended, the server stops, or the client may not any more.

    Args:
        frame: What belongs to the whole connection is in its words: the beginning, pings, the end.
        times: Of the gateway.
        watch: Is reported to.
        stays: Whether the connection lives on without feeds.

    Attributes:
        feeds: By workflow; those that have ended are taken out.
        woken: To be set when a feed has something.
        is_draining: Whether the server stops.
        place: Returns the cursors of all feeds, encoded, for a connection that has many.
    """

    def __init__(self, frame: Encoder, times: Times, watch: Watch, *, stays: bool = False) -> None:
        self.feeds: dict[str, Feed] = {}
        self.woken = asyncio.Event()
        self.is_draining = False
        self._stays = stays
        self.place: Callable[[], bytes] | None = None
        self._frame = frame
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False  # to look at the clock
        self._wrote = asyncio.get_running_loop().time()
        self._times = times
        self._watch = watch

    def drain(self) -> None:
        """Let the client come again, to another process."""
        self.is_draining = True
        self.woken.set()

    async def stream(self, write: Write) -> None:
        """Write what there is, whenever there is something."""
        loop = asyncio.get_running_loop()
        checked = placed = self._wrote
        self.beat()
        try:
            while self.feeds or self._stays:
                await self.woken.wait()
                self.woken.clear()
                now = loop.time()
                is_due, self._is_due = self._is_due, False
                if is_due and now - checked >= self._times.recheck - _SHORTEST_BEAT:
                    if not await self._may_go_on():
                        # A token that has just expired is not allowed any more, either.
                        why_not = "token" if self._has_ended_by_token() else "authorization"
                        await write(self._frame.reconnect(0, why_not))
                        return
                    checked = now
                chunk, is_away = self._written()
                if self.place is not None and chunk and (now - placed >= _PLACE_EVERY or not self.feeds):
                    chunk, placed = chunk + self.place(), now
                if is_due and not chunk and now - self._wrote >= self._times.keep_alive - _SHORTEST_BEAT:
                    chunk = self._frame.ping()
                if chunk:
                    self._wrote = now
                    self._watch.written(len(chunk), [feed.cursor for feed in self.feeds.values()])
                    await write(chunk)
                if is_due or is_away or self.is_draining:
                    why = self._why_to_reconnect(is_away=is_away)
                    if why is not None:
                        await write(self._frame.reconnect(*why))
                        return
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def beat(self) -> None:
        """Let the connection look at the clock, now and when something is due: at each write would cost more.

        To be called when a feed is added.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._is_due = True
        self.woken.set()
        loop, now = asyncio.get_running_loop(), time.time()
        silence = loop.time() - self._wrote
        is_silent = silence >= self._times.keep_alive - _SHORTEST_BEAT
        ends = [
            feed.until - now for feed in self.feeds.values() if feed.until is not None and feed.until > now
        ]
        pause = min(self._times.keep_alive - (0 if is_silent else silence), self._times.recheck, *ends)
        self._timer = loop.call_later(max(pause, _SHORTEST_BEAT), self.beat)

    def _why_to_reconnect(self, *, is_away: bool) -> tuple[int, str] | None:
        """Return after how many milliseconds and why the client has to come again; None if it has not."""
        if is_away:
            return SPREAD, "unavailable"
        if self.is_draining:
            return soon(), "draining"
        if self._has_ended_by_token():
            return 0, "token"
        return None

    def _has_ended_by_token(self) -> bool:
        """Whether a stream has lasted as long as its token lets it."""
        return any(feed.until is not None and feed.until <= time.time() for feed in self.feeds.values())

    async def _may_go_on(self) -> bool:
        for feed in list(self.feeds.values()):
            try:
                await feed.recheck()
            except Problem:
                return False
        return True

    def _written(self) -> tuple[bytes, bool]:
        """Return what all feeds have, and whether one of them cannot be read at present."""
        chunks, is_away, ended = [], False, []
        for workflow, feed in self.feeds.items():
            chunks.append(feed.written(self._watch))
            if feed.client.has_ended:
                ended.append(workflow)
                chunks.append(feed.written(self._watch))
                if (error := feed.client.error) is not None:
                    problem = problem_of(error)
                    is_away |= problem.status == 503
                    if problem.status != 503:
                        chunks.append(feed.encoder.problem(problem.status, problem.detail))
        for workflow in ended:
            del self.feeds[workflow]
        return b"".join(chunks), is_away


def soon() -> int:
    """Return when a client of a server that stops comes again, in milliseconds: not all at once."""
    return random.randrange(SPREAD)  # noqa: S311 - no secret
