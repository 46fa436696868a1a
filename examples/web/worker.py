"""A worker with one more line: `plugins`."""

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

from examples.web.chat import TASK_QUEUE, Chat, answer
from temporal_token_interceptor import TokenStreamingPlugin


def chat_worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Chat],
        activities=[answer],
        plugins=[TokenStreamingPlugin.from_environment(capture=["tool_output"])],
        # Stop is learnt from the answer to a heartbeat: so they go out every second.
        max_heartbeat_throttle_interval=timedelta(seconds=1),
    )


async def main() -> None:
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    await chat_worker(client).run()


if __name__ == "__main__":
    asyncio.run(main())
