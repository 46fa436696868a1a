"""Live through Temporal alone where activities, workers and workflows are unlike those of the first page.

Each result has a place for what heartbeats did not show: nothing may be missing, and nothing may come twice.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import SharedStateManager, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import AttemptStarted, Gap, TokenEvent, TokenStreamingPlugin
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, unique
from tests.support.workflows import RunActivity, RunMany

WORDS = [f"w{number} " for number in range(10)]
TEXT = "".join(WORDS)
DEADLINE = 50
LATER = (0.0, 0.3, 0.6)  # seconds after which viewers come


@dataclass
class Kept:
    custom_data: list[Any] | None = None
    found: list[Any] | None = None


@activity.defn
async def speaks(argument: Any) -> Kept:
    await ScriptedChatModel.saying(*WORDS, delay=0.05).ainvoke("?")
    return Kept()


@activity.defn
def speaks_in_another_process(argument: Any) -> Kept:
    activity.heartbeat("mine")
    ScriptedChatModel.saying(*WORDS, delay=0.05).invoke("?")
    return Kept()


@activity.defn
async def beats_oddly(argument: Any) -> Kept:
    """Its details are bytes, nothing, an object, and none at all; its first two attempts fail."""
    info = activity.info()
    activity.heartbeat(b"\x00\xff", None, {"a": [1, 2]}, Kept())
    await ScriptedChatModel.saying(*WORDS, delay=0.03).ainvoke("?")
    activity.heartbeat()
    if info.attempt < 3:
        activity.heartbeat("place", info.attempt)
        raise RuntimeError("again")
    return Kept(found=list(info.heartbeat_details))


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, name: str, children: int) -> None:
        me = workflow.info().workflow_id
        await asyncio.gather(
            *(
                workflow.execute_child_workflow(RunActivity.run, args=[name], id=f"{me}-{number}")
                for number in range(children)
            )
        )
        await workflow.execute_activity(name, None, start_to_close_timeout=timedelta(seconds=40))


def a_worker(
    client: Client, queue: str, *activities: Callable[..., Any], live: Any = None, **options: Any
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=[RunActivity, RunMany, Parent],
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TokenStreamingPlugin() if live is None else TokenStreamingPlugin(live=live)],
        **options,
    )


async def seen(client: Client, queue: str, run: Any, *arguments: Any, **how: Any) -> list[list[str]]:
    """The texts that stand for each viewer of a workflow, one a call; a gap in any of them is a failure."""
    handle = await client.start_workflow(run, args=arguments, id=unique("corner"), task_queue=queue)

    async def view(delay: float) -> list[str]:
        await asyncio.sleep(delay)  # viewers come whenever they like
        return standing_texts(await read_all(client, None, handle.id, **how))

    async with asyncio.timeout(DEADLINE):
        return await asyncio.gather(*map(view, LATER))


def standing_texts(events: Sequence[Any]) -> list[str]:
    assert not [event for event in events if isinstance(event, Gap)]
    texts: dict[tuple[str, str], str] = {}
    for event in events:
        if isinstance(event, AttemptStarted) and event.supersedes:
            gone = event.supersedes.attempt_id
            texts = {key: text for key, text in texts.items() if key[0] != gone}
        elif isinstance(event, TokenEvent):
            key = (event.origin.attempt_id, event.call.id)
            texts[key] = texts.get(key, "") + event.token
    return list(texts.values())


async def test_details_of_any_kind_stay_mine_and_three_attempts_are_one_answer(client):
    queue = unique("corner")
    async with a_worker(client, queue, beats_oddly):
        handle = await client.start_workflow(
            RunActivity.run, args=["beats_oddly", None, False, 3, 5], id=unique("corner"), task_queue=queue
        )
        async with asyncio.timeout(DEADLINE):
            texts = standing_texts(await read_all(client, None, handle.id))

    assert texts == [TEXT]
    assert (await handle.result())["found"] == ["place", 2]


async def test_an_activity_in_another_process_streams_live(client):
    queue, spawning = unique("corner"), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as processes, spawning.Manager() as manager:
        async with a_worker(
            client,
            queue,
            speaks_in_another_process,
            activity_executor=processes,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(
                manager, ThreadPoolExecutor(1)
            ),
        ):
            # The new process imports this module first: nothing beats until its model is called.
            found = await seen(
                client, queue, RunActivity.run, "speaks_in_another_process", None, False, 1, 30
            )

    assert found == [[TEXT]] * len(LATER)


async def test_workers_with_and_without_heartbeats_may_share_a_queue(client):
    """Also of activities that have no heartbeat timeout."""
    queue = unique("corner")
    other = await Client.connect(client.service_client.config.target_host, namespace=client.namespace)
    async with a_worker(client, queue, speaks), a_worker(other, queue, speaks, live="off"):
        found = await seen(client, queue, RunMany.run, "speaks", 6)

    assert found == [[TEXT] * 6] * len(LATER)


async def test_child_workflows_are_one_stream_with_their_parent(client):
    queue = unique("corner")
    async with a_worker(client, queue, speaks):
        found = await seen(client, queue, Parent.run, "speaks", 3, children=True)

    assert found == [[TEXT] * 4] * len(LATER)
