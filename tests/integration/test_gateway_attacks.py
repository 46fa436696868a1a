"""What only an attacker sends: each gets an answer below 500, and sees nothing that it did not name."""

import asyncio
import json
import resource
import socket
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from temporal_token_interceptor.cli.http import BoundedProtocol
from temporal_token_interceptor.events import StreamEnded
from temporal_token_interceptor.gateway import bodies
from temporal_token_interceptor.gateway.access import Allow, Deny
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai
from temporal_token_interceptor.gateway.tokens import StreamTokens
from tests.support.gateway_site import fake

POSTS = [
    "/v1/events",
    "/v1/tokens",
    "/v1/workflows",
    "/v1/cancel?workflow=w",
    "/v1/workflows/w/cancel",
    "/ai",
    "/ai6",
    "/agui",
    "/agui/agent/workflow/run",
    "/agui/agent/workflow/connect",
    "/agui/agent/workflow/stop/w",
    "/langgraph/threads/w/commands",
    "/langgraph/threads/w/stream/events",
    "/langgraph/threads/w/history",
    "/openai/v1/responses",
    "/openai/v1/chat/completions",
]
GETS = [
    "/v1/events",
    "/v1/snapshot",
    "/v1/workflows",
    "/v1/workflows/w/events",
    "/v1/workflows/w/snapshot",
    "/ai/w/stream",
    "/langgraph/threads/w/state",
    "/openai/v1/responses/resp_dw",
    "/live/w",
]
MEMBERS = [
    *("workflows", "workflow", "cursor", "id", "messages", "threadId", "runId", "thread_id", "method"),
    *("params", "channels", "since", "model", "input", "stream", "background", "stream_options"),
    *("include_usage", "conversation", "trigger", "role", "content", "from", "view", "on_retry", "nodes"),
    *("kinds", "wait", "token", "run", "starting_after", "startIndex", "limit", "query", "op"),
]
TEXTS = [
    *("", "w", "subscribe", "unsubscribe", "run.start", "true", "1", "-1", "9" * 20, "now", "text"),
    *("\ud800", "a\udc00b", "\r\nX-Evil: 1", "\x00", "../..", "%2e%2e%2f", "a/b", "\u202e", "é😀"),
    *("1~w~0-1~0", "1~w~~9", "~" * 50, ";" * 100, "x" * 2_000, "<script>", "' OR 1=1 --"),
]


def anything(random: Random, depth: int = 0) -> Any:
    """A JSON value, of names and texts that mean something somewhere."""
    match random.randrange(9 if depth < 3 else 6):
        case 0:
            return random.choice([None, True, False])
        case 1:
            return random.choice([0, 1, -1, 10**30, 1.5, 1e308])
        case 2 | 3 | 4 | 5:
            return random.choice(TEXTS)
        case 6:
            return [anything(random, depth + 1) for _ in range(random.randrange(4))]
        case _:
            return {
                random.choice([*MEMBERS, *TEXTS]): anything(random, depth + 1)
                for _ in range(random.randrange(5))
            }


async def ended(_):
    """A stream that has nothing."""
    yield StreamEnded(status="completed", cursor="1~run~~9")


async def start(_, arguments):
    """As a host may write it, which trusts what it is sent."""
    return next((one for one in arguments.values() if isinstance(one, str)), "w")


async def cancel(*_):
    pass


async def no_runs(*_):
    return []


def everything(authorize, **options):
    """A gateway with all that it can serve."""
    all_: dict[str, Any] = {
        "formats": [ai_sdk(), ai_sdk("/ai6", version=6), ag_ui(), langgraph(), openai()],
        "start": start,
        "cancel": cancel,
        "list_runs": no_runs,
        "live": True,
        "tokens": StreamTokens("s" * 40),
        "linger": timedelta(0),
    }
    return gateway(fake(ended), authorize=authorize, **(all_ | options))


async def allow(*_):
    return Allow()


@pytest.fixture(scope="module")
async def http():
    app = everything(allow)
    transport = httpx.ASGITransport(app)  # which raises what the app raises
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        yield http
    await app.aclose()


@pytest.mark.parametrize("path", POSTS)
async def test_no_body_is_an_error_of_the_server(http, path):
    """Of any shape, also with halves of characters, control characters and numbers of thirty digits."""
    random = Random(path)
    for _ in range(30):
        body = anything(random)
        if random.random() < 0.8:
            body = {random.choice(MEMBERS): anything(random) for _ in range(random.randrange(6))}
        answer = await http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (body, answer.text)
        assert "x-evil" not in answer.headers


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"id": NaN}',
        b'{"id": 1e999}',
        b'{"n": ' + b"9" * 9_000,
    ],
    ids=["no text", "deep", "deeper", "nan", "infinite", "long"],
)
async def test_a_body_that_is_no_json_is_refused(http, path, body):
    answer = await http.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code in {400, 202, 200, 201, 404}  # some routes read no body


@pytest.mark.parametrize("path", GETS)
async def test_no_query_is_an_error_of_the_server(http, path):
    random = Random(path)
    for _ in range(20):
        query = [
            f"{random.choice(MEMBERS)}={quote(random.choice(TEXTS), errors='surrogatepass')}"
            for _ in range(random.randrange(5))
        ]
        headers = {"accept": random.choice(["*/*", "text/event-stream", "a" * 100, "application/x-ndjson"])}
        answer = await http.get(f"{path}?{'&'.join(query)}", headers=headers)
        assert answer.status_code < 500, (query, answer.text)


AS_JSON = "content-type: application/json"
HEADERS = [
    *("origin", "host", "accept", "last-event-id", "if-none-match", "content-type", "content-length"),
    *("authorization", "range", "cookie", "sec-fetch-site", "sec-fetch-mode", "x-forwarded-host"),
    *("access-control-request-method", "access-control-request-headers", "x-workflow-run-id"),
]
VALUES = [
    *(b"", b"null", b"*", b"http://[", b"https://[::1", b"http://here:99999", b"http://h@here", b"\xff\x80"),
    *("http://\u00e9\u202e".encode(), b"-1", b"9" * 30, b"1e9", b"a" * 2_000, b";" * 50, b'"', b'W/"x", *'),
    *(b"1~w~~999999999", b"1~w~0-1~0;1~w~0-1~0", b"bytes=0-9", b"text/event-stream;q=", b"same-origin"),
]


@pytest.mark.parametrize(
    ("method", "path"), [*(("GET", path) for path in GETS), *(("POST", path) for path in POSTS)]
)
async def test_no_header_is_an_error_of_the_server(http, method, path):
    random = Random(path)
    content = b"{}" if method == "POST" else None
    for _ in range(20):
        names = random.sample(HEADERS, random.randrange(5))
        headers = [(name.encode(), random.choice(VALUES)) for name in names]
        asked = "OPTIONS" if random.random() < 0.1 else method
        answer = await http.request(asked, path, headers=headers, content=content)
        assert answer.status_code < 500, (headers, answer.text)


@pytest.mark.parametrize("workflow_id", ["\u00e9" * 501, "\U0001f600" * 251, "a" * 1_001], ids=ascii)
async def test_an_id_that_temporal_would_not_take_is_refused(http, workflow_id):
    """Its bound is of bytes; asked beyond it, Temporal fails, and would be asked again for a minute."""
    name = quote(workflow_id, safe="")
    answers = [
        await http.get(f"/v1/workflows/{name}/events"),
        await http.get(f"/v1/snapshot?workflow={name}"),
        await http.post("/ai?workflow=" + name, json={}),
        await http.post("/v1/events", json={"workflows": {workflow_id: {}}}),
    ]

    assert {one.status_code for one in answers} == {400}


async def test_a_token_that_would_be_too_long_is_not_made(http):
    """One that was made and then refused would be a puzzle."""
    random = Random(1)
    names = ["".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(300)) for _ in range(64)]
    several = await http.post("/v1/tokens", json={"workflows": names})
    few = await http.post("/v1/tokens", json={"workflows": names[:3]})
    read = await http.get("/v1/events", params={"workflow": names[:3], "token": few.json()["token"]})

    assert (several.status_code, few.status_code, read.status_code) == (400, 201, 200)
    assert "ask for several" in several.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/events", "/ai", "/langgraph/threads/w/commands", "/openai/v1/responses"]
)
async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch, path):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    async with served(everything(allow)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b"{")
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()

    assert line.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", ["/v1/events", "/ai", "/v1/cancel?workflow=w"])
async def test_a_body_without_an_end_fills_no_memory(path):
    """A hundred megabytes in chunks: what is read of it is the limit, and the answer comes before its end."""
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    head = f"POST {path} HTTP/1.1\r\nhost: here\r\n{AS_JSON}\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(everything(allow)) as port:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        with suppress(ConnectionError):
            for _ in range(100):
                writer.write(chunk)
                await writer.drain()
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.transport.abort()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert line.startswith(b"HTTP/1.1 202" if "cancel" in path else b"HTTP/1.1 413")
    assert grown < 30_000  # KiB


@pytest.mark.parametrize(
    "origin", ["null", "http://[", "http://elsewhere", "//127.0.0.1", "file://", "http://u@127.0.0.1"]
)
async def test_a_socket_of_no_page_of_ours_is_refused(origin):
    """A browser sends cookies with a WebSocket of any page: what the page's origin is, is all that helps."""
    async with served(everything(allow)) as port:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{port}/v1/socket", origin=origin):
                pass

    assert refused.value.response.status_code == 403


# ---------------------------------------------------------------------- on a port


@asynccontextmanager
async def served(app):
    """The port of a server as `tti serve` has it."""
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="websockets-sansio", log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            app.drain()
            server.should_exit = True
            await task
    await app.aclose()


async def answered(port, request):
    """All that a server sends to a client that sends this and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


PARTS = [
    "/",
    "%",
    "..",
    "//",
    "?",
    "#",
    " ",
    "+",
    "&",
    ";",
    "é",
    "😀",
    "events",
    "a",
    "=",
    "\\",
    "%2F",
    "~",
    "'",
]


async def test_who_is_asked_about_is_who_is_read():
    """An id of any characters in a path is asked for as it is; no other one is, however it is encoded."""
    asked = []

    async def deny(_, target):
        asked.append(target.workflow_id)
        return Deny()

    random = Random(17)
    async with served(everything(deny)) as port:
        for _ in range(80):
            workflow_id = "".join(random.choice(PARTS) for _ in range(random.randrange(1, 6)))
            place = random.choice(
                [
                    f"/v1/workflows/{quote(workflow_id, safe='')}/snapshot",
                    f"/v1/workflows/{quote(workflow_id, safe='')}/events",
                    f"/v1/events?workflow={quote(workflow_id, safe='')}",
                    f"/ai/{quote(workflow_id, safe='')}/stream",
                    f"/live/{quote(workflow_id, safe='')}",
                ]
            )
            asked.clear()
            answer = await answered(
                port, f"GET {place} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n".encode()
            )
            assert answer.startswith(b"HTTP/1.1 403"), (place, answer)
            assert asked == [workflow_id]


@pytest.mark.parametrize("text", ["\r\nX-Evil: 1", "\n", "\x00", "\x7f", "\u202e", "\u2028"])
async def test_what_is_not_printable_is_no_id(http, text):
    """Neither in a path, nor in a query, nor as what a host's function returns: none becomes a header."""
    name = quote(f"a{text}b", safe="")
    answers = [
        await http.get(f"/v1/workflows/{name}/events"),
        await http.get(f"/v1/snapshot?workflow={name}"),
        await http.get(f"/live/{name}"),
        await http.post("/ai", json={"id": f"a{text}b"}),
        await http.post("/openai/v1/responses", json={"input": f"a{text}b", "stream": True}),
    ]

    assert {one.status_code for one in answers} <= {400, 404}
    assert not any("x-evil" in one.headers for one in answers)


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "content-length: 4\r\ncontent-length: 40",
        "transfer-encoding: chunked, identity",
        "content-length: +4",
        "content-length : 4",
        "transfer-encoding:\x0bchunked",
    ],
)
async def test_a_body_of_two_lengths_hides_no_second_request(head):
    """A proxy and the server could find other ends of it, and the rest would be someone else's request."""
    asked = []

    async def deny(_, target):
        asked.append(target.workflow_id)
        return Deny()

    hidden = "GET /v1/workflows/hidden/snapshot HTTP/1.1\r\nhost: here\r\n\r\n"
    async with served(everything(deny)) as port:
        answer = await answered(
            port,
            "POST /v1/events HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
            f"{head}\r\n\r\n0\r\n\r\n{hidden}".encode("latin-1"),
        )

    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert asked == []


async def test_no_frame_ends_a_socket():
    """What makes no sense is a `problem`; the socket goes on for what does."""
    random = Random(6455)
    async with (
        served(everything(allow)) as port,
        connect(f"ws://127.0.0.1:{port}/v1/socket") as ws,
        asyncio.timeout(20),
    ):
        for _ in range(100):
            frame = {"op": "subscribe", "workflow": "w"} | {
                random.choice(MEMBERS): anything(random) for _ in range(random.randrange(5))
            }
            await ws.send(json.dumps(frame))
        for odd in (b"", b"\xff", b'{"op": "subscribe", "workflow": "w"}', "", "[]", "{", "\x00"):
            await ws.send(odd)
        await ws.send(json.dumps({"op": "subscribe", "workflow": "the last"}))
        while json.loads(await ws.recv()).get("workflow") != "the last":
            pass


async def test_a_client_that_vanishes_leaves_nothing():
    """A hundred that read the first bytes: neither their connections stay, nor what was read for them."""
    gone = asyncio.Event()

    async def endless(_):
        await gone.wait()
        yield StreamEnded(status="completed", cursor="1~run~~9")

    app = gateway(fake(endless), authorize=allow, linger=timedelta(0))
    async with served(app) as port, asyncio.timeout(20):
        writers = []
        for number in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /v1/workflows/w{number % 7}/events HTTP/1.1\r\nhost: here\r\n\r\n".encode())
            await reader.read(20)
            writers.append(writer)
        assert app._streams.connections.count == 100
        for writer in writers:
            writer.transport.abort()
        while app._streams.connections.count or app._streams._hubs._hubs:  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(0.01)
        gone.set()
