"""Viewers of one run over HTTP: a gateway in a process of its own, and browsers' connections from another.

`screens`: 1,000 connections of server-sent events to one run that says 50 tokens a second. How late a token
is at a viewer, what a viewer costs, and how many connections to Redis serve them all.
`idle`: 10,000 connections to runs that say nothing.
"""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import time
from array import array
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvicorn

from benchmarks.audience import CONNECTIONS, most_connections
from benchmarks.load import RATE
from benchmarks.measure import Figure, Size, child, origin, percentile
from benchmarks.talk import WORKER, Talk, speak
from devservers import redis_server
from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.cli.http import BoundedProtocol
from temporal_token_interceptor.cli.serve import collecting_seldom
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway

VIEWERS = 1_000
SECONDS = 6.0
IDLE = 10_000
IDLE_SECONDS = 20.0  # a keep-alive of 15 s is among them
RUNS = 100  # that idle viewers look at

P99_MS = 100.0

_STAMP = re.compile(rb"\d+\.\d{6}")
_STARTED = re.compile(rb'"started":"[^"]*"')  # looks like a stamp, too: a state has it
_LAST = b"event: close"
_NAME = "bench-gateway"  # as Redis knows the gateway's connections


@dataclass(frozen=True, slots=True)
class Served:
    """What a gateway process noticed: its CPU in seconds, and its memory in bytes before and with clients."""

    cpu: float
    empty: int
    full: int


@dataclass(frozen=True, slots=True)
class Viewed:
    """What viewers saw: the age of each token in ms, how often they got the whole state, and the writes."""

    ages: array[float]
    states: int
    writes: int


async def figures(size: Size) -> AsyncIterator[Figure]:
    viewers, tokens = size.count(VIEWERS), size.count(round(RATE * SECONDS), 2)
    async with (
        child(*WORKER) as worker,
        child(__name__) as server,
        child(__name__) as screens,
        redis_server() as url,
    ):
        attempt = origin()
        port, begin = _free_port(), time.monotonic() + size.lead + viewers / 500
        end = begin + tokens / RATE + 3
        counting = asyncio.create_task(most_connections(url, _NAME))
        served, viewed, _ = await asyncio.gather(
            server.run(serve, f"{url}?client_name={_NAME}", port, begin, end),
            screens.run(view, port, (attempt.workflow_id,) * viewers, (attempt.run_id,) * viewers, end),
            worker.run(speak, Talk("ours", url, (attempt,), RATE, tokens), begin),
        )
        counting.cancel()
        connections = await counting
    yield Figure("screens.lost", viewers * tokens - len(viewed.ages), "tokens", 0)
    yield Figure("screens.p50", percentile(viewed.ages, 0.5), "ms")
    yield Figure("screens.p99", percentile(viewed.ages, 0.99), "ms", P99_MS if size.share == 1 else None)
    yield Figure("screens.resyncs", viewed.states - viewers, "states")
    yield Figure("screens.connections", connections, "connections", CONNECTIONS)
    yield Figure("screens.cpu", served.cpu / (viewers * tokens) * 1e6, "us/token")
    yield Figure("screens.write", served.cpu / viewed.writes * 1e6, "us/write")
    yield Figure("screens.core", served.cpu / (tokens / RATE) * 100, "% of a core")
    yield Figure("screens.memory", (served.full - served.empty) / viewers / 1024, "KiB/viewer")


async def idle_figures(size: Size) -> AsyncIterator[Figure]:
    viewers, seconds = min(size.count(IDLE), _most_files() - 200), size.seconds(IDLE_SECONDS)
    async with child(__name__) as server, child(__name__) as screens, redis_server() as url:
        port, begin = _free_port(), time.monotonic() + size.lead + viewers / 500
        runs = [origin() for _ in range(RUNS)]
        names = [runs[place % RUNS] for place in range(viewers)]
        served, _ = await asyncio.gather(
            server.run(serve, url, port, begin, begin + seconds),
            screens.run(
                view,
                port,
                tuple(one.workflow_id for one in names),
                tuple(one.run_id for one in names),
                begin + seconds,
            ),
        )
    yield Figure("idle.viewers", viewers, "connections")
    yield Figure("idle.cpu", served.cpu / seconds * 100, "% of a core")
    yield Figure("idle.memory", (served.full - served.empty) / viewers / 1024, "KiB/viewer")


def serve(url: str, port: int, begin: float, end: float) -> Served:
    """Serve until `end`, by the monotonic clock; what is measured begins at `begin`."""
    return asyncio.run(_serve(url, port, begin, end))


async def _serve(url: str, port: int, begin: float, end: float) -> Served:
    _allow_files()
    async with RedisStreamBackend(url) as backend:
        app = gateway(_Endless(None, backend), authorize=anyone)
        config = uvicorn.Config(
            app, http=BoundedProtocol, port=port, log_level="warning", lifespan="off", backlog=4_096
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        empty = _memory()
        with collecting_seldom():  # as `tti serve` does
            await asyncio.sleep(begin - time.monotonic())
            before = time.process_time()
            await asyncio.sleep(end - time.monotonic())
            full, cpu = _memory(), time.process_time() - before
        app.drain()
        server.should_exit = True
        await serving
        await app.aclose()
    return Served(cpu, empty, full)


class _Endless(TokenSubscriber):
    """Reads runs that no Temporal knows: nothing but the end of the benchmark ends them."""

    def subscribe_batches(
        self, workflow_id: str, run_id: str | None = None, *args: Any, **options: Any
    ) -> Any:
        return super().subscribe_batches(
            workflow_id, run_id, *args, until=asyncio.get_running_loop().create_future(), **options
        )


def view(port: int, workflows: tuple[str, ...], runs: tuple[str, ...], end: float) -> Viewed:
    """Open a connection to each workflow, and read until `end`, or until the call of each has ended."""
    _allow_files()
    return asyncio.run(_view(port, workflows, runs, end))


async def _view(port: int, workflows: tuple[str, ...], runs: tuple[str, ...], end: float) -> Viewed:
    loop = asyncio.get_running_loop()
    screens: list[_Screen] = []
    for place, (workflow_id, run_id) in enumerate(zip(workflows, runs, strict=True)):
        request = f"GET /v1/workflows/{workflow_id}/events?run={run_id} HTTP/1.1\r\nHost: bench\r\n\r\n"
        screens.append(await _opened(port, _Screen(request.encode(), loop.create_future())))
        if place % 50 == 49:
            await asyncio.sleep(0.05)  # people come one after another
    with suppress(TimeoutError):
        async with asyncio.timeout_at(loop.time() + end - time.monotonic()):
            await asyncio.gather(*(screen.whole for screen in screens))
    for screen in screens:
        screen.close()
    return _viewed(screens)


def _viewed(screens: Iterable[_Screen]) -> Viewed:
    ages: array[float] = array("d")
    states = writes = 0
    for screen in screens:
        rest = b""
        seen: set[bytes] = set()  # a state has what it replaces once more
        for came, data in screen.came:
            whole, _, rest = (rest + data).rpartition(b"\n\n")
            states += whole.count(b"event: snapshot")
            writes += whole.count(b"\nid: ")  # one a write
            for event in whole.split(b"\n\n"):
                is_state = b"event: snapshot" in event
                if is_state or b"event: grow" in event:
                    found = _STAMP.findall(_STARTED.sub(b"", event))
                    stamps = [stamp for stamp in found if not (is_state and stamp in seen)]
                    ages.extend((came - float(stamp)) * 1e3 for stamp in stamps)
                    seen.update(stamps)
    return Viewed(ages, states, writes)


class _Screen(asyncio.Protocol):
    """One viewer's connection. It keeps what comes and looks at it later: a thousand parsers take a core.

    Attributes:
        came: What came, and when, by the monotonic clock.
        whole: Is done when the only call has ended, after its last token.
    """

    def __init__(self, request: bytes, whole: asyncio.Future[None]) -> None:
        self._request = request
        self.came: list[tuple[float, bytes]] = []
        self.whole = whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.came.append((time.monotonic(), data))
        if _LAST in data and not self.whole.done():
            self.whole.set_result(None)

    def close(self) -> None:
        self._transport.close()


async def _opened(port: int, screen: _Screen) -> _Screen:
    while True:
        with suppress(ConnectionRefusedError):
            await asyncio.get_running_loop().create_connection(lambda: screen, "127.0.0.1", port)
            return screen
        await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _most_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _allow_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
