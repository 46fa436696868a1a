"""A gateway that the clients in this folder use: each starts a chat, and reads what its models write."""

import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from temporalio.client import Client

from examples.web.chat import TASK_QUEUE, Chat
from temporal_token_interceptor import TokenSubscriber
from temporal_token_interceptor.gateway.access import Target, anyone
from temporal_token_interceptor.gateway.app import Gateway, gateway
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai


def chats(client: Client, subscriber: TokenSubscriber) -> Gateway:
    async def start(_: Request, body: Mapping[str, Any]) -> str:
        # The workflow has the id that the client knows its conversation by: so it finds it after a reload.
        thread = body.get("id") or body.get("threadId") or body.get("thread_id") or str(uuid.uuid4())
        question = question_of(body)
        await client.start_workflow(
            Chat.run, question, id=f"{thread}", task_queue=TASK_QUEUE, memo={"question": question}
        )
        return f"{thread}"

    async def cancel(_: Request, target: Target) -> None:
        await client.get_workflow_handle(target.workflow_id).cancel()

    async def asked(_: Request, workflow_id: str) -> list[dict[str, Any]]:
        memo = await (await client.get_workflow_handle(workflow_id).describe()).memo()
        return [{"id": "question", "role": "user", "type": "human", "content": memo["question"]}]

    return gateway(
        subscriber,
        authorize=anyone,  # yours asks who the client is, and whose the workflow
        start=start,
        cancel=cancel,
        formats=[
            ai_sdk(),
            ai_sdk("/ai6", version=6),
            ag_ui(history=asked),
            langgraph(history=asked),
            openai(),
        ],
    )


def question_of(body: Mapping[str, Any]) -> str:
    """Return what the user wrote last, in whatever form a client sends it."""
    sent = body.get("messages") or body["input"]
    if isinstance(sent, dict):
        sent = sent["messages"]
    if isinstance(sent, str):
        return sent
    content = sent[-1].get("content") or sent[-1]["parts"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
