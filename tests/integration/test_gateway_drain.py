"""A server stops while clients of each format read: what they have, and get from the next one, is exact."""

import asyncio
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
import uvicorn

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai, response_id
from tests.support import format_clients as clients
from tests.support.gateways import half_answered, served

CHANNELS = ["messages", "values", "tools", "lifecycle"]
MESSAGES = {"messages": [{"id": "user", "role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


def formats():
    return [ai_sdk(), ai_sdk("/ai6", version=6), ag_ui(), langgraph(), openai()]


@asynccontextmanager
async def on_port(app):
    """The address of a server that can be stopped while its clients read."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving
    await app.aclose()


class Protocol:
    """How a client of a format begins, and how it comes again with what it has. This one has to begin again.

    Attributes:
        wanted: What it has when its server stops.
    """

    wanted = b"first "

    def __init__(self, prefix, client):
        self.prefix = prefix
        self.client = client

    def begin(self, workflow_id):
        return "POST", f"{self.prefix}?workflow={quote(workflow_id)}", MESSAGES, {}

    def again(self, workflow_id, body):
        return self.begin(workflow_id)

    def shown(self, before, after):
        """What stands in the client at the end."""
        return self.client(clients.data_of(after))


class AiSdk(Protocol):
    def again(self, workflow_id, body):
        return "GET", f"{self.prefix}/{quote(workflow_id, safe='')}/stream", None, {}


class Counted(AiSdk):
    """`WorkflowChatTransport`, which has counted its chunks."""

    wanted = b": open"

    def again(self, workflow_id, body):
        method, path, *rest = super().again(workflow_id, body)
        return method, f"{path}?startIndex={len(clients.data_of(body))}", *rest

    def shown(self, before, after):
        return self.client(clients.data_of(before + after))


class AgUi(Protocol):
    """TanStack's, which sends the last id that it had."""

    def again(self, workflow_id, body):
        last = [line for line in body.decode().splitlines() if line.startswith("id: ")][-1]
        return "POST", self.prefix, MESSAGES, {"last-event-id": last.removeprefix("id: ")}


class LangGraph(Counted):
    wanted = b"first "

    def begin(self, workflow_id, since=-1):
        path = f"{self.prefix}/threads/{quote(workflow_id, safe='')}/stream/events"
        return "POST", path, {"channels": CHANNELS, "since": since}, {}

    def again(self, workflow_id, body):
        return self.begin(workflow_id, clients.data_of(body)[-1]["seq"])


class Responses(Counted):
    wanted = b"first "

    def begin(self, workflow_id, after=""):
        path = f"{self.prefix}/responses/{response_id(workflow_id)}?stream=true{after}"
        return "GET", path, None, {}

    def again(self, workflow_id, body):
        return self.begin(workflow_id, f"&starting_after={clients.data_of(body)[-1]['sequence_number']}")


class Chat(Protocol):
    """Which is held: it has nothing yet, and asks again."""

    wanted = b": open"

    def begin(self, workflow_id):
        return "POST", f"{self.prefix}?workflow={quote(workflow_id)}", {"stream": True, **MESSAGES}, {}


PROTOCOLS = {
    "AI SDK 7": AiSdk("/ai", clients.ai_sdk),
    "AI SDK 6, counted": Counted("/ai6", clients.ai_sdk),
    "AG-UI": AgUi("/agui", clients.ag_ui),
    "LangGraph": LangGraph("/langgraph", clients.langgraph),
    "Responses": Responses("/openai/v1", clients.responses),
    "chat completions": Chat("/openai/v1/chat/completions", clients.chat_completions),
}


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_client_comes_back_to_the_next_server(client, backend, name):
    """Nothing is lost, and nothing comes twice."""
    protocol, before = PROTOCOLS[name], b""
    async with half_answered(client, backend) as (workflow_id, release), asyncio.timeout(40):
        first = gateway(
            TokenSubscriber(client, backend),
            authorize=anyone,
            formats=formats(),
            linger=timedelta(seconds=0.1),
        )
        async with on_port(first) as url, httpx.AsyncClient() as http:
            method, path, body, headers = protocol.begin(workflow_id)
            async with http.stream(method, url + path, json=body, headers=headers) as response:
                assert response.status_code == 200, await response.aread()
                pieces = response.aiter_bytes()
                while protocol.wanted not in before:
                    before += await anext(pieces)
                first.drain()
                before += b"".join([piece async for piece in pieces])
        release.set()
        async with served(client, backend, formats=formats()) as (_, http):
            method, path, body, headers = protocol.again(workflow_id, before)
            after = (await http.request(method, path, json=body, headers=headers)).content

    shown = protocol.shown(before, after)
    assert "".join(shown.text) == "first last"
    assert shown.status in {"completed", "stop"}
    assert b"last" not in before
