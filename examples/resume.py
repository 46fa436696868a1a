"""Kill a viewer in mid-sentence, and let another go on where it stopped: `python -m examples.resume`.

This is a page that is reloaded, a phone that takes over, a server that is replaced. The second viewer is a
new process that knows nothing but the cursor of the last token that was seen. No token is lost, none comes
twice, and the model, which knows nothing of all this, has gone on in the meantime.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from devservers import SDK_REST, redis_server, temporal_server
from temporal_token_interceptor import RedisStreamBackend, TokenEvent, TokenStreamingPlugin, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel

TASK_QUEUE = "resume"
WORKFLOW_ID = "story-1"
STORY = (
    "The ferry was late, so the keeper lit the lamp, boiled water for two, and read the old logbook "
    "once more. At nine a horn answered from the fog."
)


# ---------------------------------------------------------------------- the worker

# A real one: `langchain.chat_models.init_chat_model("anthropic:claude-sonnet-4-5")`, and all else stays.
model = ScriptedChatModel.saying(*(f"{word} " for word in STORY.split()), delay=0.2)


@activity.defn
async def write(subject: str) -> str:
    return (await model.ainvoke(f"Write a story of {subject}")).text


@workflow.defn
class Story:
    @workflow.run
    async def run(self, subject: str) -> str:
        return await workflow.execute_activity(
            write,
            subject,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )


def story_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Story],
        activities=[write],
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url))],
    )


# ---------------------------------------------------------------------- a viewer: a process of its own


async def view(temporal_address: str, redis_url: str, cursor: str | None = None) -> None:
    """Print each token with its cursor, in one line, so that both are seen or neither."""
    client = await Client.connect(temporal_address)
    async with RedisStreamBackend(redis_url) as backend:
        async for event in TokenSubscriber(client, backend).subscribe(WORKFLOW_ID, cursor=cursor):
            if isinstance(event, TokenEvent):
                print(json.dumps([event.token, event.cursor]), flush=True)
    await asyncio.sleep(SDK_REST.total_seconds())


# ---------------------------------------------------------------------- who starts and kills the viewers


async def start_viewer(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.resume", *arguments), stdout=PIPE
    )


async def show(viewer: Process, *, kill_after: int | None = None) -> tuple[str, str]:
    """Show what a viewer prints for as long as it lives; return the text, and the last cursor."""
    assert viewer.stdout is not None  # noqa: S101 - for mypy: it is a pipe
    seen: list[tuple[str, str]] = []
    while line := await viewer.stdout.readline():
        seen.append(json.loads(line))
        print(seen[-1][0], end="", flush=True)
        if len(seen) == kill_after:
            viewer.kill()
    await viewer.wait()
    return "".join(token for token, _ in seen), seen[-1][1]


async def main() -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        story_worker(temporal.client, redis_url),
    ):
        addresses = (temporal.client.service_client.config.target_host, redis_url)
        first = await start_viewer(*addresses)  # waits for the workflow
        story = await temporal.client.start_workflow(
            Story.run, "a ferry", id=WORKFLOW_ID, task_queue=TASK_QUEUE
        )
        before, cursor = await show(first, kill_after=7)
        print(f"\n-- viewer {first.pid} was killed; its last cursor was {cursor} --")

        second = await start_viewer(*addresses, cursor)
        after, _ = await show(second)
        print(f"\n-- viewer {second.pid} has come to the end --")

        if before + after == await story.result():
            print("Both parts, joined, are the story: nothing is missing, and nothing is there twice.")
        else:
            sys.exit("The parts do not make the story.")


if __name__ == "__main__":
    asyncio.run(view(*sys.argv[1:]) if len(sys.argv) > 1 else main())
