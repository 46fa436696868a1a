"""One subscriber for the whole process, for programs without an event loop; the other files here use it.

TEMPORAL_ADDRESS=localhost:7233 REDIS_URL=redis://localhost:6379
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client
from temporalio.envconfig import ClientConfig

from temporal_token_interceptor import BlockingSubscriber, RedisStreamBackend, TokenSubscriber


@asynccontextmanager
async def connecting() -> AsyncIterator[TokenSubscriber]:
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    async with RedisStreamBackend.from_environment() as backend:
        yield TokenSubscriber(client, backend)


subscriber = BlockingSubscriber(connecting)  # connects at its first use, so a server may fork before
