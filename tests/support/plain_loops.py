"""What tests of plain loops share: a subscriber as programs without asyncio have it, and a silent run."""

from contextlib import asynccontextmanager

from temporalio.client import Client

from temporal_token_interceptor import BlockingSubscriber, RedisStreamBackend, TokenSubscriber
from tests.support.streams import unique
from tests.support.workflows import RunActivity


def blocking_subscriber(client, redis_url):
    """As a program that is not async has it: its connections are made on the loop of its own thread."""
    address = client.service_client.config.target_host

    @asynccontextmanager
    async def connecting():
        async with RedisStreamBackend(redis_url) as redis:
            yield TokenSubscriber(await Client.connect(address, namespace=client.namespace), redis)

    return BlockingSubscriber(connecting)


@asynccontextmanager
async def silent_workflow(client):
    """The id of a workflow that no worker takes; it is terminated at the end."""
    workflow_id = unique("silent")
    handle = await client.start_workflow(
        RunActivity.run, args=["answer"], id=workflow_id, task_queue=unique("none")
    )
    yield workflow_id
    await handle.terminate()
