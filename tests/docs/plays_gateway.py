"""What docs/gateway.md shows, mounted as it says, beside a workflow that has answered."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import django
import httpx
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import Allow, Deny, Target, anyone
from temporal_token_interceptor.gateway.app import gateway
from tests.support.gateways import TEXT, answered, events_of, folded, text_of
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import streaming_worker
from tests.support.workflows import Waiting

PAGE = "docs/gateway.md"
ANN = {"cookie": "user=ann"}


async def may_read(request: Any, target: Target) -> Allow | Deny:
    user = request.cookies.get("user")
    return Allow() if user and target.workflow_id.startswith(f"{user}/") else Deny(hide=True)


@asynccontextmanager
async def beside(stage: Stage) -> AsyncIterator[dict[str, Any]]:
    """What the page takes for granted, and the id of ann's workflow."""
    async with (
        RedisStreamBackend(stage.redis_url) as backend,
        answered(stage.client, backend, f"ann/{uuid4()}") as workflow_id,
    ):
        yield {
            "client": stage.client,
            "backend": backend,
            "subscriber": TokenSubscriber(stage.client, backend),
            "gateway": gateway,
            "may_read": may_read,
            "workflow_id": workflow_id,
        }


@asynccontextmanager
async def asked(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http


def shown(response: httpx.Response) -> str:
    return str(text_of(folded(events_of(response.text))))


@play(PAGE, "from fastapi import FastAPI")
async def it_mounts_in_fastapi(stage: Stage, block: Block) -> None:
    """Ann reads hers; to bob it is not there."""
    async with beside(stage) as names:
        made = await block.run(**names)
        url = f"/streams/v1/workflows/{names['workflow_id']}/events"
        async with asked(made["app"]) as http:
            assert shown(await http.get(url, headers=ANN)) == TEXT
            assert (await http.get(url, headers={"cookie": "user=bob"})).status_code == 404


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"Django")


@play(PAGE, "class Dispatch:")
async def it_stands_beside_django(stage: Stage, block: Block) -> None:
    """One path is the gateway's, also with a slash in the id; all others are Django's."""
    urls = ModuleType("urls_of_the_page")
    urls.__dict__["urlpatterns"] = [path("hello", hello)]
    sys.modules[urls.__name__] = urls
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["gateway"], ROOT_URLCONF=urls.__name__, SECRET_KEY=str(uuid4()))
        django.setup()
    async with beside(stage) as names:
        made = await block.run(**names, get_asgi_application=get_asgi_application)
        url = f"/streams/v1/workflows/{names['workflow_id']}/events"
        async with asked(made["application"]) as http:
            assert shown(await http.get(url, headers=ANN)) == TEXT
            assert (await http.get("/hello")).content == b"Django"
            assert (await http.get("/streams/nowhere")).headers["content-type"] == "application/problem+json"


@play(PAGE, "import os\n")
async def a_page_of_another_origin_reads_by_a_token(stage: Stage, block: Block) -> None:
    """It asks with its cookie, and its EventSource has none."""
    with patch.dict(os.environ, STREAM_TOKEN_SECRET="s" * 40):
        async with beside(stage) as names:
            made = await block.run(**names)
            workflow_id = names["workflow_id"]
            async with asked(made["app"]) as http:
                headers = {**ANN, "origin": "https://app.example"}
                token = await http.post("/v1/tokens", json={"workflows": [workflow_id]}, headers=headers)
                url = f"/v1/workflows/{workflow_id}/events"
                read = await http.get(url, params={"token": token.json()["token"]})
                assert token.headers["access-control-allow-origin"] == "https://app.example"
                assert shown(read) == TEXT
                assert (await http.get(url)).status_code == 404


@play(PAGE, "async def start(request, arguments):")
async def a_page_starts_and_stops(stage: Stage, block: Block) -> None:
    """By the functions of the page."""
    async with beside(stage) as names, streaming_worker(stage.client, names["backend"], []) as queue:

        class Client:
            def __getattr__(self, name: str) -> Any:
                return getattr(stage.client, name)

            async def start_workflow(self, _: str, question: str, **options: Any) -> Any:
                return await stage.client.start_workflow(
                    Waiting.run, question, **{**options, "task_queue": queue}
                )

        made = await block.run(**{**names, "client": Client(), "may_read": anyone}, uuid4=uuid4)
        async with asked(made["app"]) as http:
            started = await http.post("/v1/workflows", json={"question": "?"})
            reading = asyncio.create_task(http.get(started.headers["location"]))
            stopped = await http.post(f"/v1/workflows/{started.json()['workflow']}/cancel")
            assert stopped.status_code == 202
            assert folded(events_of((await reading).text)).status == "canceled"
