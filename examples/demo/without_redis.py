"""The same once more without Redis, for the figures at the end: a viewer that draws nothing."""

import time
import uuid

from temporalio.client import Client

from examples.demo.notes import note
from temporal_token_interceptor import TokenEvent, TokenSubscriber

TASK_QUEUE = "support-without-redis"


async def watch(client: Client, question: str) -> None:
    """Ask, and note when each token of the answer came."""
    workflow_id = f"question-{uuid.uuid4()}"
    await client.start_workflow("Support", question, id=workflow_id, task_queue=TASK_QUEUE)
    async for event in TokenSubscriber(client).subscribe(workflow_id):
        if isinstance(event, TokenEvent):
            note("seen", workflow_id, event.origin.attempt, token=event.token, at=time.monotonic())
