"""What docs/many.md shows, beside two workflows that speak and one that is not there."""

import io
from contextlib import redirect_stdout
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity

import temporal_token_interceptor
from temporal_token_interceptor import MemoryStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import Branch, RunActivity

PAGE = "docs/many.md"


@activity.defn
async def speak(words: str) -> str:
    return (await ScriptedChatModel.saying(words).ainvoke("?")).text


def names(stage: Stage, backend: MemoryStreamBackend) -> dict[str, Any]:
    """What the page takes for granted."""
    ours = {name: getattr(temporal_token_interceptor, name) for name in temporal_token_interceptor.__all__}
    return {**ours, "client": stage.client, "backend": backend, "cursor": None}


@play(PAGE, "async with TokenSubscriber(client, backend).subscribe_many")
async def each_workflow_prints_what_it_says(stage: Stage, block: Block) -> None:
    """One that was never started is reported, and ends nothing; the cursor is behind it all."""
    backend = MemoryStreamBackend()
    known = names(stage, backend) | {"TokenSubscriber": partial(TokenSubscriber, start_timeout=timedelta(0))}
    async with streaming_worker(stage.client, backend, [speak]) as queue:
        await stage.client.execute_workflow(
            RunActivity.run, args=["speak", "tea"], id="chat-1", task_queue=queue
        )
    with redirect_stdout(io.StringIO()) as out:
        after = await block.run(**known)
    first, second = sorted(out.getvalue().splitlines())

    assert first == "chat-1 tea"
    assert second.startswith("chat-2 cannot be read: no workflow 'chat-2'")
    assert after["cursor"].startswith("m1.")


@play(PAGE, "tree = TokenSubscriber(client, backend).subscribe")
async def a_tree_prints_who_says_what(stage: Stage, block: Block) -> None:
    """The root and its child, each with its parent; and its cursor goes on from there."""
    backend, root = MemoryStreamBackend(), unique("tree")
    child = {"id": f"{root}-child", "words": "hello", "children": []}
    async with streaming_worker(stage.client, backend, [speak]) as queue:
        await stage.client.execute_workflow(
            Branch.run, {"id": root, "words": "hi", "children": [child]}, id=root, task_queue=queue
        )
    with redirect_stdout(io.StringIO()) as out:
        after = await block.run(**names(stage, backend), workflow_id=root)

    assert sorted(out.getvalue().splitlines()) == [f"{root} None hi", f"{root}-child {root} hello"]
    assert after["cursor"].startswith("m1.")
