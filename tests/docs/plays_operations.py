"""What docs/operations.md shows."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import RedisStreamBackend, TokenStreamingPlugin, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import unique
from tests.support.workflows import RunActivity


@play("docs/operations.md", "client = await Client.connect(\n    **ClientConfig")
async def one_line_on_the_client_installs_all_of_it(stage: Stage, block: Block) -> None:
    """With the environment set, a plain worker of that client streams, and a reader finds it."""
    names = {"Client": Client, "ClientConfig": ClientConfig, "TokenStreamingPlugin": TokenStreamingPlugin}
    client = (await block.run(**names))["client"]

    async with answering(client) as workflow_id, RedisStreamBackend.from_environment() as backend:
        assert await TokenSubscriber(client, backend).text(workflow_id) == "In operation"


@play("docs/operations.md", "async with RedisStreamBackend.from_environment() as backend:")
async def a_reading_process_needs_no_option_in_code(stage: Stage, block: Block) -> None:
    """With the same environment, a backend and a subscriber read what that worker says."""
    client = await Client.connect(
        **ClientConfig.load_client_connect_config(), plugins=[TokenStreamingPlugin.from_environment()]
    )

    async with answering(client) as workflow_id:
        names = {"client": client, "workflow_id": workflow_id}
        names |= {"RedisStreamBackend": RedisStreamBackend, "TokenSubscriber": TokenSubscriber}
        assert (await block.run(**names))["answer"] == "In operation"


@asynccontextmanager
async def answering(client: Client) -> AsyncIterator[str]:
    """The id of a workflow that speaks; its worker runs as long as the block lasts."""
    workflow_id = unique("operations")

    @activity.defn
    async def answer(argument: Any) -> str:
        return (await ScriptedChatModel.saying("In ", "operation").ainvoke("?")).text

    async with (
        Worker(
            client,
            task_queue=workflow_id,
            workflows=[RunActivity],
            activities=[answer],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
        asyncio.timeout(20),
    ):
        await client.start_workflow(RunActivity.run, "answer", id=workflow_id, task_queue=workflow_id)
        yield workflow_id


@play("docs/operations.md", "import gc")
async def what_was_imported_is_frozen(stage: Stage, block: Block) -> None:
    """A full collection looks at a fraction of what there was, and comes seldom."""
    before, threshold = len(gc.get_objects()), gc.get_threshold()
    try:
        await block.run()

        assert gc.get_freeze_count() > before / 2
        assert len(gc.get_objects()) < before / 2
        assert gc.get_threshold()[0] > threshold[0]
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
