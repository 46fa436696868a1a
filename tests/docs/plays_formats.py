"""What docs/formats.md shows: the app, with a workflow that a client starts."""

from typing import Any

import httpx
from temporalio import activity
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import MemoryStreamBackend, TokenStreamingInterceptor, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.format_clients import ai_sdk, data_of
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import unique
from tests.support.workflows import RunActivity

PAGE = "docs/formats.md"


@activity.defn
async def speak(argument: Any) -> str:
    return (await ScriptedChatModel.saying("tea").ainvoke("?")).text


class Chats:
    """A client that starts the activity's workflow, whatever a page calls its own."""

    def __init__(self, stage: Stage, queue: str) -> None:
        self._stage = stage
        self._queue = queue

    async def start_workflow(self, run: Any, messages: Any, *, id: str, task_queue: str) -> Any:  # noqa: A002
        return await self._stage.client.start_workflow(
            run, args=["speak", messages], id=id, task_queue=self._queue
        )


@play(PAGE, "from starlette.applications import Starlette")
async def a_chat_is_started_and_streamed(stage: Stage, block: Block) -> None:
    """By the AI SDK's POST to the path that the page mounts."""
    backend, queue, chat = MemoryStreamBackend(), unique("formats"), unique("chat")
    names = {
        "client": Chats(stage, queue),
        "Chat": RunActivity,
        "subscriber": TokenSubscriber(stage.client, backend),
        "may_read": anyone,
    }
    async with Worker(
        stage.client,
        task_queue=queue,
        workflows=[RunActivity],
        activities=[speak],
        interceptors=[TokenStreamingInterceptor(backend)],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        app = (await block.run(**names))["app"]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            answer = await http.post("/streams/ai", json={"id": chat, "messages": []})
        [mount] = app.routes
        await mount.app.aclose()

    assert ai_sdk(data_of(answer.content)).text == ["tea"]
