"""The gateway on a real server: clients that leave, and a server that stops while they read."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.telemetry import names
from tests.support.gateways import half_answered
from tests.support.telemetry import sdk_installed


@asynccontextmanager
async def running(client, redis_url):
    """A server, its gateway, and the URL of the stream of a workflow that goes on until it is released."""
    async with (
        RedisStreamBackend(redis_url) as backend,
        half_answered(client, backend) as (workflow_id, release),
    ):
        app = gateway(TokenSubscriber(client, backend), authorize=anyone, linger=timedelta(seconds=0.1))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", ws="websockets-sansio")
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        site = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield app, f"{site}/v1/workflows/{workflow_id}/events", release
        finally:
            release.set()
            app.drain()
            server.should_exit = True
            await serving
            await app.aclose()


def socket_url(url):
    return url.replace("http", "ws", 1).partition("/v1/")[0] + "/v1/socket"


async def frames_until(socket, wanted):
    """The frames up to one of an op."""
    frames = []
    while not frames or frames[-1]["op"] != wanted:
        frames.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
    return [frame for frame in frames if frame["op"] != "ping"]


async def test_workflows_come_and_go_on_a_socket(client, redis_url):
    """Each event names its workflow and has its cursor; what is wrong is answered, and ends nothing."""
    async with running(client, redis_url) as (app, url, _), connect(socket_url(url)) as socket:
        workflow_id = url.split("/")[-2]

        async def ask(**frame):
            await socket.send(json.dumps(frame))

        await ask(op="subscribe", workflow=workflow_id)
        first = []  # a state, and changes where the client came before they were stored
        while "first " not in str(first) or not first[-1].get("cursor"):
            first.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
        first = [frame for frame in first if frame["op"] != "ping"]
        await ask(op="unsubscribe", workflow=workflow_id)
        for wrong in (
            {"op": "stop"},
            {"op": "subscribe"},
            {"op": "subscribe", "workflow": "w", "from": "when"},
        ):
            await ask(**wrong)
            [problem] = (await frames_until(socket, "problem"))[-1:]
            assert problem["status"] == 400
        await socket.send("no JSON")
        await frames_until(socket, "problem")
        assert not app._streams.connections._workflows

        cursor = [frame["cursor"] for frame in first if frame.get("cursor")][-1]
        await ask(op="subscribe", workflow=workflow_id, cursor=cursor)
        app.drain()
        last = await frames_until(socket, "reconnect")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert {frame["workflow"] for frame in first} == {workflow_id}
    assert "first " in "".join(str(frame.get("data")) + str(frame.get("items")) for frame in first)
    assert "snapshot" not in [frame["op"] for frame in last]
    assert closed.value.rcvd.code == 1012


async def test_a_socket_of_another_origin_is_refused(client, redis_url):
    """Browsers open sockets from any page, with cookies and without asking first."""
    async with running(client, redis_url) as (_, url, _):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(socket_url(url), origin="https://evil.example"):
                pass

    assert refused.value.response.status_code == 403


async def test_what_clients_cost_is_measured(client, redis_url):
    """By format, and without an id: streams that live, bytes, the delay of a write, refusals."""

    def points(metric):
        return telemetry.points(metric.name)

    with sdk_installed() as telemetry:
        await read_and_be_refused(client, redis_url, points)
        [bytes_], [delay], [refused], [gone] = map(
            points,
            (names.GATEWAY_BYTES, names.GATEWAY_DELAY, names.GATEWAY_REFUSALS, names.GATEWAY_CONNECTIONS),
        )

    sse = {names.GATEWAY_FORMAT: "sse"}
    assert gone.value == 0
    assert bytes_.value > 500
    assert [dict(point.attributes) for point in (bytes_, delay, gone)] == [sse] * 3
    assert 0 <= delay.sum < 20
    assert dict(refused.attributes) == sse | {names.GATEWAY_REFUSAL: "400"}


async def read_and_be_refused(client, redis_url, points):
    """A stream, which is counted while it lives, and one with a forged cursor."""
    async with running(client, redis_url) as (app, url, release), httpx.AsyncClient() as http:
        async with http.stream("GET", url, timeout=20) as response:
            lines = response.aiter_lines()
            await until(lines, "first")
            assert [point.value for point in points(names.GATEWAY_CONNECTIONS)] == [1]
            release.set()
            await until(lines, "event: end")
        assert (await http.get(url, params={"cursor": "forged"})).status_code == 400
        async with asyncio.timeout(20):
            while app._streams.connections.count:  # noqa: ASYNC110 - nothing else shows it
                await asyncio.sleep(0.01)


async def until(lines, wanted):
    """Read up to a line that has a word."""
    async for line in lines:
        if wanted in line:
            return line
    raise AssertionError(f"{wanted} did not come")


async def test_a_client_that_leaves_is_forgotten(client, redis_url):
    """And, some time after the last one, so is what was read for it."""
    async with running(client, redis_url) as (app, url, _), httpx.AsyncClient() as http:
        async with http.stream("GET", url, timeout=20) as response:
            await until(response.aiter_lines(), "first")
            [hub] = app._streams._hubs._hubs.values()
        await asyncio.wait({hub._reading}, timeout=20)

        assert hub._reading.done()
        assert not app._streams._hubs._hubs


async def test_a_server_that_stops_ends_its_streams(client, redis_url):
    """Twenty clients are asked to come again; each gets a time, within the bound, and a closed stream."""

    async def read(http, url, seen):
        async with http.stream("GET", url, timeout=20) as response:
            lines = response.aiter_lines()
            await until(lines, "first")
            seen.release()
            await until(lines, "event: reconnect")
            return await until(lines, "draining")

    limits = httpx.Limits(max_connections=None)
    async with running(client, redis_url) as (app, url, _), httpx.AsyncClient(limits=limits) as http:
        seen = asyncio.Semaphore(0)
        reading = [asyncio.create_task(read(http, url, seen)) for _ in range(20)]
        for _ in reading:
            await seen.acquire()
        app.drain()
        last = await asyncio.wait_for(asyncio.gather(*reading), 20)

    assert len(last) == 20
