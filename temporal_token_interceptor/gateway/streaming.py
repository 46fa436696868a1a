"""What all formats share: who may read, the life of a connection, and its end.

A format is an `Encoder` and the routes that its clients call. A route reads what its client wants and returns
`await streams.serve(StreamRequest(...))`; all else is done here: `authorize` is asked at once and again while
the stream lives, silence is filled, a server that stops sends its clients away, and errors after the first
byte reach the client in the format's own words. Errors before it are a `Problem`, which the app answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.gateway.access import Allow, Authorize, Deny, Target
from temporal_token_interceptor.gateway.encoder import Encoder
from temporal_token_interceptor.gateway.hub import Hubs, Key, Policy
from temporal_token_interceptor.gateway.problem import HEADERS, Problem, problem_of, refusal
from temporal_token_interceptor.gateway.replay import Replay
from temporal_token_interceptor.protocol.cursor import Cursor, Position
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.visible import Visible

_SPREAD = 5_000  # milliseconds over which clients of a server that stops come again

Begin = Literal["state", "start", "now"]
"""Where a client without a cursor begins.

`state`: with all that stands, and then what follows; many clients share one subscription, and one that falls
behind is given the state again (`Encoder.late`). `start`: with the first event, and every change by itself.
`now`: with the next one. The last two have a subscription of their own, and never `late`, unless a cursor is
not found.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What one client is to be streamed.

    Attributes:
        request: As it came; `authorize` is given it.
        target: The workflow.
        encoder: Made for this connection.
        cursor: What the client has; it goes on right after. None or empty: see `begin`.
        on_retry: `reset`: retries take back what was shown. `hold`: nothing of an attempt before it has
            succeeded, for formats that cannot take back.
        begin: Where a client without a cursor begins.
        nodes: Narrows what `authorize` allows, and never widens it; see `Visible`.
        kinds: As `nodes`.
        comes_again: Whether the client is an EventSource, which reconnects after a stream that ends and never
            after another status than 200: it gets `Encoder.reconnect` where others get 503.
    """

    request: Request
    target: Target
    encoder: Encoder
    cursor: str | None = None
    on_retry: Policy = "reset"
    begin: Begin = "state"
    nodes: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    comes_again: bool = False


class Client(Protocol):
    """Where one connection's changes come from: a place in a hub, or a subscription of its own."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        ...

    @property
    def error(self) -> Exception | None:
        """Why the subscription ended early."""
        ...

    def wake(self) -> None:
        """End the wait."""
        ...

    async def wait(self, seconds: float) -> None:
        """Wait until there is something, or for so long."""
        ...

    def take(self) -> tuple[View, str] | list[Change]:
        """Return what is there: changes, or a whole state and its cursor in their place."""
        ...


class Times(NamedTuple):
    """The times of a gateway, in seconds; see `gateway`."""

    recheck: float
    keep_alive: float
    linger: float


class Streams:
    """Serves streams in any format. Each route of a gateway has the same one."""

    def __init__(self, subscriber: TokenSubscriber, authorize: Authorize, times: Times) -> None:
        self._subscriber = subscriber
        self._authorize = authorize
        self._times = times
        self._hubs = Hubs(self._subscribe, times.linger)
        self._clients: set[Client] = set()
        self.is_draining = False

    def drain(self) -> None:
        """Refuse new streams, and end those that live."""
        self.is_draining = True
        for client in self._clients:
            client.wake()

    async def close(self) -> None:
        """End all streams and subscriptions."""
        self.drain()
        await self._hubs.close()

    async def allowed(self, request: Request, target: Target) -> Allow:
        """Return what a client may.

        Raises:
            Problem: it may not.
        """
        answer = await self._authorize(request, target)
        if isinstance(answer, Deny):
            raise refusal(answer)
        return answer

    async def serve(self, asked: StreamRequest) -> Response:
        """Return the response that streams what was asked for; it ends with the workflow.

        Raises:
            Problem: the client may not, its cursor is none, or the server stops.
        """
        allowed = await self.allowed(asked.request, asked.target)
        if self.is_draining:
            if not asked.comes_again:
                raise Problem(503, "the server is stopping: come again", {"Retry-After": "5"})
            again = asked.encoder.reconnect(_soon(), "draining")
            return Response(again, media_type=asked.encoder.media_type, headers=HEADERS)
        try:
            place = Cursor.parse(asked.cursor) if asked.cursor else None
        except InvalidCursor as error:
            raise Problem(400, str(error)) from error
        if place is not None and place.position == Position.END:
            return Response(status_code=204, headers=HEADERS)  # the client has all; it stops an EventSource
        return _Stream(self._stream(asked, allowed), asked.encoder.media_type)

    async def _stream(self, asked: StreamRequest, allowed: Allow) -> AsyncGenerator[bytes]:
        encoder, times = asked.encoder, self._times
        visible = allowed.visible.narrowed(asked.nodes, asked.kinds)
        yield encoder.begin()
        loop = asyncio.get_running_loop()
        checked = loop.time()
        async with self._client(asked) as client:
            while True:
                await client.wait(min(times.keep_alive, times.recheck))
                if loop.time() - checked >= times.recheck:
                    again = await self._authorize(asked.request, asked.target)
                    if isinstance(again, Deny):
                        yield encoder.reconnect(0, "authorization")
                        return
                    visible, checked = again.visible.narrowed(asked.nodes, asked.kinds), loop.time()
                yield _written(encoder, client, visible) or encoder.ping()
                if client.has_ended:
                    if rest := _written(encoder, client, visible):
                        yield rest
                    if client.error is not None:
                        yield _ended_early(encoder, client.error)
                    return
                if self.is_draining:
                    yield encoder.reconnect(_soon(), "draining")
                    return

    @asynccontextmanager
    async def _client(self, asked: StreamRequest) -> AsyncIterator[Client]:
        key = Key(asked.target.workflow_id, asked.target.run_id, asked.on_retry)
        if asked.begin == "state" or (asked.begin == "now" and asked.cursor):
            async with self._hubs.client(key, asked.cursor) as client:
                with self._living(client):
                    yield client
            return
        events = self._subscriber.subscribe(
            key.workflow_id,
            key.run_id,
            start="now" if asked.begin == "now" else "beginning",
            on_retry=key.on_retry,
        )
        replay = Replay(events, asked.cursor or "")
        try:
            with self._living(replay):
                yield replay
        finally:
            await replay.close()

    @contextmanager
    def _living(self, client: Client) -> Iterator[None]:
        """Let a client be woken when the server stops."""
        self._clients.add(client)
        try:
            yield
        finally:
            self._clients.discard(client)

    def _subscribe(self, key: Key) -> AsyncGenerator[Event]:
        return self._subscriber.subscribe(key.workflow_id, key.run_id, on_retry=key.on_retry)


Format = Callable[[Streams], Sequence[BaseRoute]]
"""Adds a format to a gateway: returns its routes, given what serves them."""


class _Stream(StreamingResponse):
    """A response whose generator is closed with it, also where the client left during a write."""

    def __init__(self, body: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(body, media_type=media_type, headers=HEADERS)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._body):
            await super().__call__(scope, receive, send)


def _written(encoder: Encoder, client: Client, visible: Visible) -> bytes:
    """Return what waits for a client, as it may see it; empty if nothing does."""
    taken = client.take()
    if isinstance(taken, tuple):
        view, cursor = taken
        return encoder.late(visible.view(view), cursor)
    shown = [seen for change in taken if (seen := visible.of(change)) is not None]
    return encoder.encode(shown) if shown else b""


def _ended_early(encoder: Encoder, error: Exception) -> bytes:
    problem = problem_of(error)
    if problem.status == 503:
        return encoder.reconnect(_SPREAD, "unavailable")
    return encoder.problem(problem.status, problem.detail)


def _soon() -> int:
    return random.randrange(_SPREAD)  # noqa: S311 - no secret
