"""Streams chats to browsers by server-sent events: live, resumable, and closed with the tab.

All tabs share one subscriber, and with it two connections to Redis. An event's id is its cursor: a browser
that lost its connection sends the last one back (`Last-Event-ID`), and gets exactly the rest.

Browsers open six connections to a site over HTTP/1.1, and a stream is one: for more tabs, put a proxy with
HTTP/2 in front.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from examples.web.chat import TASK_QUEUE, Chat
from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Gap,
    InvalidCursor,
    Origin,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
    ToolCallChunk,
    ToolEnded,
    TransportUnavailable,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    # If your workers encrypt, give this client the same `data_converter`.
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    app.state.stopping = asyncio.get_running_loop().create_future()
    async with RedisStreamBackend.from_environment() as backend:
        yield {"client": client, "subscriber": TokenSubscriber(client, backend)}


app = FastAPI(lifespan=lifespan)


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


async def known_chat(chat_id: str, request: Request) -> WorkflowExecutionDescription:
    """Return what Temporal knows of a chat; else answer 404, before a stream begins.

    An id is no credential: here is the place to ask whether the caller may see this chat, for instance by an
    owner in its memo.
    """
    client: Client = request.state.client
    try:
        return await client.get_workflow_handle(chat_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise HTTPException(404, "there is no such chat") from error
        raise HTTPException(503, "Temporal is away") from error


KnownChat = Annotated[WorkflowExecutionDescription, Depends(known_chat)]


@app.get("/chats/{chat_id}")
async def chat(known: KnownChat) -> dict[str, str]:
    return {"question": await known.memo_value("question", "")}


@app.post("/chats/{chat_id}/stop", status_code=202)
async def stop(known: KnownChat, request: Request) -> None:
    """Cancel the workflow, and with it the request to the model. A tab that is closed does not do that."""
    client: Client = request.state.client
    await client.get_workflow_handle(known.id, run_id=known.run_id).cancel()


async def subscription(
    known: KnownChat,
    request: Request,
    last_event_id: Annotated[str | None, Header()] = None,
    cursor: str | None = None,
) -> AsyncIterator[AsyncGenerator[Event]]:
    """Yield the messages for one tab. It ends with the response, also when the tab is closed in mid-sentence.

    Args:
        known: The chat.
        request: Where the subscriber is found.
        last_event_id: What browsers send when they connect again by themselves.
        cursor: The same for a page that has to connect again; the header is newer.
    """
    subscriber: TokenSubscriber = request.state.subscriber
    try:
        events = subscriber.subscribe(
            known.id, cursor=last_event_id or cursor, until=request.app.state.stopping
        )
    except InvalidCursor as error:
        raise HTTPException(400, str(error)) from error
    async with aclosing(events):
        yield events


# FastAPI adds a comment every 15 seconds, so that no proxy closes a silent stream, and `X-Accel-Buffering:
# no`, so that none keeps tokens back. A middleware that compresses must leave `text/event-stream` alone.
@app.get("/chats/{chat_id}/events", response_class=EventSourceResponse)
async def stream(
    events: Annotated[AsyncGenerator[Event], Depends(subscription)],
) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in events:
            if message := for_browser(event):
                yield ServerSentEvent(data=message, id=event.cursor)
    except TransportUnavailable:
        return  # Redis or Temporal is away for long. The browser comes again, with the last id that it has.


def for_browser(event: Event) -> dict[str, Any] | None:
    """Return an event as the page needs it; None for one that it does not draw.

    Only what it needs: workflow types, task queues and the like stay on the server.
    """
    match event:
        case AttemptStarted(supersedes=Origin(attempt_id=attempt)):
            return {"kind": "take back", "attempt": attempt}
        case TokenEvent(origin=origin, call=call):
            return {"kind": "token", "attempt": origin.attempt_id, "call": call.id, "text": event.token}
        case ToolCallChunk(origin=origin, call=call):
            return {
                "kind": "tool call",
                "attempt": origin.attempt_id,
                "call": f"{call.id}/{event.index}",
                "id": event.id,
                "name": event.name,
                "args": event.args,
            }
        case ToolEnded(origin=origin):
            return {
                "kind": "tool result",
                "attempt": origin.attempt_id,
                "id": event.tool_call_id,
                "error": event.error,
                "output": event.output,
            }
        case AttemptEnded(origin=origin, outcome="failed"):
            return {"kind": "attempt failed", "attempt": origin.attempt_id, "will_retry": event.will_retry}
        case Gap():
            return {"kind": "gap", "missing": event.missing, "reason": event.reason}
        case StreamEnded(status="unknown"):
            return None  # not the chat ends, but this server: the browser comes again, to another
        case StreamEnded():
            return {"kind": "end", "status": event.status}
        case _:
            return None
