"""The worker of `examples.web`, with a backend of one's own."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from examples.web.chat import TASK_QUEUE, Chat, answer
from temporal_token_interceptor import RedisStreamBackend, TokenStreamingPlugin


def chat_worker(client: Client, backend: RedisStreamBackend) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Chat],
        activities=[answer],
        plugins=[TokenStreamingPlugin(backend, capture=["tool_output"])],
        max_heartbeat_throttle_interval=timedelta(seconds=1),
    )
