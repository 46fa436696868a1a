"""A Temporal worker. Three lines are new; they end in `# new`, and the demo prints them from here."""

import asyncio
import logging
import signal
import sys

from temporalio.client import Client
from temporalio.worker import Worker

from devservers import SDK_REST
from examples.demo.heartbeat_worker import heartbeat_worker
from examples.demo.model import HungUp
from examples.demo.workflow import TASK_QUEUE, Support, answer
from temporal_token_interceptor import RedisStreamBackend, TokenStreamingInterceptor  # new


async def main(temporal_address: str, redis_url: str) -> None:
    """Work until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    client = await Client.connect(temporal_address)
    async with (
        RedisStreamBackend(redis_url) as backend,  # new
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[Support],
            activities=[answer],
            interceptors=[TokenStreamingInterceptor(backend)],  # new
        ),
        heartbeat_worker(client),
    ):
        print("ready", flush=True)
        await stopped.wait()
    await asyncio.sleep(SDK_REST.total_seconds())


def _is_not_scripted(record: logging.LogRecord) -> bool:
    """Whether a record is not about the failure in the script, which Temporal reports with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], HungUp))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("temporalio.activity").addFilter(_is_not_scripted)
    asyncio.run(main(*sys.argv[1:]))
