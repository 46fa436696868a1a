"""Streams chats to browsers: the gateway, mounted, and what is this app's own beside it.

All tabs share one subscriber, and with it two connections to Redis. A browser that lost its connection
comes back with its cursor, and gets exactly the rest.

Browsers open six connections to a site over HTTP/1.1, and a stream is one: `subscribeMany` of `tti.js` has
many chats on one, or put a proxy with HTTP/2 in front.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from examples.web.chat import TASK_QUEUE, Chat
from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import Allow, Deny, Target
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.problem import Problem


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    # If your workers encrypt, give this client the same `data_converter`.
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    async with RedisStreamBackend.from_environment() as backend:
        subscriber = TokenSubscriber(client, backend)
        app.state.streams = gateway(subscriber, authorize=may_use, cancel=stop, live=True)
        yield {"client": client, "subscriber": subscriber}
        await app.state.streams.aclose()


app = FastAPI(lifespan=lifespan)


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by the gateway, which is made once Temporal and Redis are there."""
    await app.state.streams(scope, receive, send)


app.mount("/streams", streams)


async def may_use(request: Request, target: Target) -> Allow | Deny:
    """Let a chat be used that is one.

    An id is no credential: here is the place to ask whether the caller may see this chat, for instance by an
    owner in its memo; and, for the action `cancel`, whether the caller may stop it.
    """
    if target.action == "list":
        return Deny()
    await described(request, target.workflow_id)
    return Allow()


async def stop(request: Request, target: Target) -> None:
    """Cancel the workflow, and with it the request to the model. A tab that is closed does not do that."""
    client: Client = request.state.client
    await client.get_workflow_handle(target.workflow_id).cancel()


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


class Question(BaseModel):
    text: str = Field(min_length=1, max_length=2000)


@app.post("/chats", status_code=201)
async def ask(question: Question, request: Request) -> dict[str, str]:
    client: Client = request.state.client
    handle = await client.start_workflow(
        Chat.run,
        question.text,
        id=f"chat-{uuid.uuid4()}",
        task_queue=TASK_QUEUE,
        memo={"question": question.text},
    )
    return {"id": handle.id}


@app.get("/chats/{chat_id}")
async def chat(chat_id: str, request: Request) -> dict[str, str]:
    try:
        known = await described(request, chat_id)
    except Problem as problem:
        raise HTTPException(problem.status, problem.detail) from problem
    return {"question": await known.memo_value("question", "")}


async def described(request: Request, chat_id: str) -> Any:
    """Return what Temporal knows of a chat; raise what is answered where there is none."""
    client: Client = request.state.client
    try:
        return await client.get_workflow_handle(chat_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise Problem(404, "there is no such chat") from error
        raise Problem(503, "Temporal is away") from error
