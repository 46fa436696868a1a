"""What all formats share: who may read, the life of a connection, and its end.

A format is an `Encoder` and the routes that its clients call. A route reads what its client wants and returns
`await streams.serve(StreamRequest(...))`; all else is done here: `authorize` is asked at once and again while
the stream lives, silence is filled, a server that stops sends its clients away, and errors after the first
byte reach the client in the format's own words. Errors before it are a `Problem`, which the app answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.gateway.access import Allow, Authorize, Target
from temporal_token_interceptor.gateway.actions import Actions, Cancel, Start
from temporal_token_interceptor.gateway.connection import Client, Connection, Feed, Times, soon
from temporal_token_interceptor.gateway.cursors import cursor_of, is_at_the_end, placed
from temporal_token_interceptor.gateway.encoder import Encoder, NativeEvents
from temporal_token_interceptor.gateway.hub import HubClient, Hubs, Key
from temporal_token_interceptor.gateway.limits import Connections, Limits
from temporal_token_interceptor.gateway.problem import HEADERS, Problem, asked_for, problem_of
from temporal_token_interceptor.gateway.raw_events import RawEvents
from temporal_token_interceptor.gateway.replay import Replay
from temporal_token_interceptor.gateway.response import StreamResponse, Write
from temporal_token_interceptor.gateway.state import current_state
from temporal_token_interceptor.gateway.stream_request import Begin, StreamRequest
from temporal_token_interceptor.gateway.tokens import StreamTokens
from temporal_token_interceptor.reader.request import FirstRun
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.telemetry.gateway import GatewayTelemetry
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.visible import Visible

__all__ = ["Begin", "Format", "StreamRequest", "Streams"]

Place = Callable[[Sequence[str]], bytes]
"""Encodes the cursors of a connection with many feeds, in the order in which they were asked for."""


class Streams:
    """Serves streams in any format. Each route of a gateway has the same one.

    Attributes:
        limits: The gateway's.
        connections: Those that live.
        times: The gateway's.
        tokens: Makes and reads stream tokens; None: there are none.
        actions: The host's functions that start and cancel workflows, with the questions before them.
        is_draining: Whether the server stops.
    """

    def __init__(
        self,
        subscriber: TokenSubscriber | Callable[[], TokenSubscriber],
        authorize: Authorize,
        times: Times,
        *,
        limits: Limits,
        tokens: StreamTokens | None = None,
        start: Start | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._made_subscriber = subscriber
        self._authorize = authorize
        self.times = times
        self._hubs = Hubs(self._batches, times.linger)
        self._living: set[Connection] = set()
        self.connections = Connections(limits)
        self.limits = limits
        self.tokens = tokens
        self.actions = Actions(self.allowed, start, cancel)
        self.is_draining = False

    def drain(self) -> None:
        """Refuse new streams, and end those that live."""
        self.is_draining = True
        for connection in self._living:
            connection.drain()

    async def close(self) -> None:
        """End all streams and subscriptions."""
        self.drain()
        await self._hubs.close()

    async def allowed(self, request: Request, target: Target, *, again: bool = False) -> Allow:
        """Return what a client may, by its stream token, if it has one, or by `authorize`.

        Args:
            request: Of the client.
            target: What it asks for.
            again: Whether its stream lives already.

        Raises:
            Problem: it may not.
        """
        if self.tokens is not None and (token := request.query_params.get("token")) is not None:
            return self.tokens.allow(token, target, is_resuming=again or bool(cursor_of(request)))
        return await asked_for(self._authorize, request, target)

    async def serve(self, asked: StreamRequest) -> Response:
        """Return the response that streams what was asked for; it ends with the workflow.

        Raises:
            Problem: the client may not, its cursor is none, there is no room, or the server stops.
        """
        return await self.serve_many([asked], asked.encoder)

    async def serve_many(
        self, every: Sequence[StreamRequest], frame: Encoder, place: Place | None = None
    ) -> Response:
        """Return the response that streams several workflows; it ends with the last of them.

        Args:
            every: What was asked for, each with an encoder of its own.
            frame: Encodes what belongs to the connection: its beginning, pings, and the request to reconnect.
            place: Encodes the cursors; None: each event has its own.

        Raises:
            Problem: the client may read none of them, or as of `serve`.
        """
        plan = _Plan(every, frame, place, GatewayTelemetry(frame.name))
        try:
            return await self._response(plan)
        except Problem as problem:
            plan.telemetry.refused(problem.status)
            if problem.status in (429, 503) and every[0].comes_again:
                again = frame.reconnect(soon(), "limit" if problem.status == 429 else "draining")
                return Response(again, media_type=frame.media_type, headers=HEADERS)
            raise

    async def snapshot(self, asked: StreamRequest) -> tuple[View, str]:
        """Return what stands of a run, as the client may see it, and the cursor that resumes right after it.

        Raises:
            Problem: the client may not, there is no such run, there is no room, or it cannot be read.
        """
        target = asked.target
        allowed = await self.allowed(asked.request, target)
        self.connections.check([target.workflow_id], allowed.principal)
        with self.connections.counted([target.workflow_id], allowed.principal):
            try:
                view, cursor = await current_state(self._subscriber, target, asked.on_retry)
            except TokenStreamError as error:
                raise problem_of(error) from error
        return allowed.visible.narrowed(asked.nodes, asked.kinds).view(view), cursor

    async def _response(self, plan: _Plan) -> Response:
        for asked in plan.every:
            is_at_the_end(asked.cursor)  # a broken cursor is refused before anything is asked
        for asked in plan.every:
            try:
                plan.allowed[asked.target.workflow_id] = await self.admitted(asked)
            except Problem as problem:
                if len(plan.refused) + 1 == len(plan.every):  # none of them
                    raise
                plan.refused.append(asked.encoder.problem(problem.status, problem.detail))
        if self.is_draining:
            raise Problem(503, "the server is stopping: come again", {"Retry-After": "5"})
        plan.every = [
            await placed(asked, self._subscriber) if asked.target.workflow_id in plan.allowed else asked
            for asked in plan.every
        ]
        if all(is_at_the_end(asked.cursor) for asked in plan.every):
            return Response(status_code=204, headers=HEADERS)  # the client has all; it stops an EventSource
        if plan.every[0].request.method == "HEAD":
            return Response(media_type=plan.frame.media_type, headers=HEADERS)
        principal = next((one.principal for one in plan.allowed.values()), None)
        self.connections.check(list(plan.allowed), principal)
        counted = self.connections.counted(list(plan.allowed), principal)
        timeout = self.limits.write_timeout.total_seconds()
        body, media_type = partial(self._stream, plan), plan.frame.media_type
        return StreamResponse(body, media_type, counted, plan.telemetry, write_timeout=timeout)

    async def admitted(self, asked: StreamRequest) -> Allow:
        """Return what a client may of what it asked for.

        Raises:
            Problem: it may not, its cursor is none, or the workflow is not there and it does not wait.
        """
        is_at_the_end(asked.cursor)
        allowed = await self.allowed(asked.request, asked.target)
        if asked.is_raw and not allowed.content:
            raise Problem(403, "events have content, which you may not see: ask for view=changes")
        if not asked.waits:
            try:
                await self._subscriber.describe(asked.target.workflow_id, asked.target.run_id)
            except TokenStreamError as error:
                raise problem_of(error) from error
        return allowed

    async def _stream(self, plan: _Plan, write: Write) -> None:
        await write(plan.frame.begin() + b"".join(plan.refused))
        async with AsyncExitStack() as stack:
            connection = Connection(plan.frame, self.times, plan.telemetry)
            stack.enter_context(self.living(connection))
            feeds: dict[str, Feed] = {}
            for asked in plan.every:
                workflow_id = asked.target.workflow_id
                if workflow_id in plan.allowed and not is_at_the_end(asked.cursor):
                    feed = self.feed(asked, plan.allowed[workflow_id], connection.woken)
                    feeds[workflow_id] = await stack.enter_async_context(feed)
            connection.feeds.update(feeds)
            if (place := plan.place) is not None:
                had = {asked.target.workflow_id: asked.cursor or "" for asked in plan.every}
                connection.place = lambda: place(
                    [feeds[name].cursor if name in feeds else cursor for name, cursor in had.items()]
                )
            await connection.stream(write)

    @contextmanager
    def living(self, connection: Connection) -> Iterator[None]:
        """Let a connection end when the server stops."""
        self._living.add(connection)
        if self.is_draining:
            connection.drain()
        try:
            yield
        finally:
            self._living.discard(connection)

    @asynccontextmanager
    async def feed(self, asked: StreamRequest, allowed: Allow, woken: asyncio.Event) -> AsyncIterator[Feed]:
        """Yield the feed of a workflow, which sets `woken` when it has something."""
        async with self._client(asked, woken) as client:
            yield Feed(
                asked.encoder,
                client,
                allowed,
                narrow=partial(Visible.narrowed, nodes=asked.nodes, kinds=asked.kinds),
                ask=partial(self.allowed, asked.request, asked.target, again=True),
                encode=_shared(asked.encoder, client),
                cursor=asked.cursor or "",
            )

    @asynccontextmanager
    async def _client(self, asked: StreamRequest, woken: asyncio.Event) -> AsyncIterator[Client]:
        key = Key(asked.target.workflow_id, asked.target.run_id, asked.on_retry)
        cursor = asked.cursor or ""
        start: Literal["now", "beginning"] = "now" if asked.begin == "now" else "beginning"
        if asked.is_raw:
            async with _closed_at_the_end(RawEvents(self._events(key, start, cursor), woken)) as raw:
                yield raw
        elif asked.begin == "state" or (asked.begin == "now" and cursor):
            async with self._hubs.client(key, cursor, woken) as client:
                yield client
        else:
            async with _closed_at_the_end(
                Replay(self._events(key, start, runs=asked.runs), woken, cursor)
            ) as replay:
                yield replay

    @property
    def _subscriber(self) -> TokenSubscriber:
        """The subscriber; one that the host makes when it starts is asked for when a client comes."""
        made = self._made_subscriber
        return made() if callable(made) else made

    def _batches(self, key: Key, on_caught_up: Callable[[], None]) -> AsyncGenerator[list[Event]]:
        return self._subscriber.subscribe_batches(
            key.workflow_id, key.run_id, on_retry=key.on_retry, on_caught_up=on_caught_up
        )

    def _events(
        self,
        key: Key,
        start: Literal["now", "beginning"] = "beginning",
        cursor: str = "",
        runs: FirstRun = "newest",
    ) -> AsyncGenerator[Event]:
        return self._subscriber.subscribe(
            key.workflow_id, key.run_id, cursor, start=start, on_retry=key.on_retry, runs=runs
        )


Format = Callable[[Streams], Sequence[BaseRoute]]
"""Adds a format to a gateway: returns its routes, given what serves them."""


@dataclass(slots=True)
class _Plan:
    """What one connection is to show.

    Attributes:
        every: What was asked for.
        frame: Encodes what belongs to the connection.
        place: Encodes the cursors.
        telemetry: Is reported to.
        allowed: What the client may see, by workflow.
        refused: What reports the others.
    """

    every: Sequence[StreamRequest]
    frame: Encoder
    place: Place | None
    telemetry: GatewayTelemetry
    allowed: dict[str, Allow] = field(default_factory=dict)
    refused: list[bytes] = field(default_factory=list)


def _shared(encoder: Encoder, client: Client) -> Callable[[Sequence[Change]], bytes] | None:
    """Return what encodes for all clients of a hub at once, where the encoder has no state of its own."""
    if isinstance(encoder, NativeEvents) and isinstance(client, HubClient):
        return partial(client.hub.written.encode, encoder)
    return None


_Own = TypeVar("_Own", Replay, RawEvents)


@asynccontextmanager
async def _closed_at_the_end(client: _Own) -> AsyncIterator[_Own]:
    try:
        yield client
    finally:
        await client.close()
