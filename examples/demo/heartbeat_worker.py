"""The worker of the run without Redis. It has a module of its own: viewers need not import LangChain."""

from temporalio.client import Client
from temporalio.worker import Worker

from examples.demo.without_redis import TASK_QUEUE
from examples.demo.workflow import Support, answer
from temporal_token_interceptor import TokenStreamingPlugin


def heartbeat_worker(client: Client) -> Worker:
    """Return a worker whose tokens go through Temporal alone."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Support],
        activities=[answer],
        plugins=[TokenStreamingPlugin()],
    )
