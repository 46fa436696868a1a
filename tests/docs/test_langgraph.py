"""The blocks of docs/langgraph.md are run as they are printed, beside a workflow that is told about."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import RemoveMessage
from temporalio import activity

import temporal_token_interceptor
from temporal_token_interceptor import MemoryStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import LAST, USAGE
from tests.differential.shapes import QUESTION, graph, node
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

PAGE = (Path(__file__).parents[2] / "docs" / "langgraph.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@activity.defn
async def chat(argument: Any) -> Any:
    """An agent of one node, which fails once in mid-sentence."""
    words = ["half", ConnectionError("reset")] if activity.info().attempt == 1 else ["It is ", "tea.", LAST]
    state = await graph(("model", node(ScriptedChatModel.saying(*words)))).ainvoke(QUESTION)
    return state["messages"][-1].text


@pytest.fixture
async def names(client):
    """What each block takes for granted: a client, a backend, and a workflow that runs."""
    backend, workflow_id = MemoryStreamBackend(), unique("page")
    async with streaming_worker(client, backend, [chat]) as queue:
        await client.start_workflow(
            RunActivity.run, args=["chat", None, False, 2], id=workflow_id, task_queue=queue
        )
        public = temporal_token_interceptor.__all__
        yield {
            **{name: getattr(temporal_token_interceptor, name) for name in public},
            "RemoveMessage": RemoveMessage,
            "client": client,
            "backend": backend,
            "workflow_id": workflow_id,
        }


async def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block that awaits; return its names as they stand at its end."""
    compiled = compile(code, "docs/langgraph.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, names)  # noqa: S307 - our own page
    if inspect.isawaitable(running):
        await running
    return names


def test_there_are_four_blocks():
    assert len(BLOCKS) == 4


async def test_the_one_line_prints_what_the_model_says(names, capsys):
    """As within LangGraph: the half sentence is on the screen, and then the answer."""
    await run(BLOCKS[0], names)

    assert capsys.readouterr().out == "halfIt is tea."


async def test_two_lines_more_keep_one_message(names):
    """Whoever keeps messages by id has the answer alone."""
    held = (await run(BLOCKS[1], names))["messages"]

    assert [message.text for message in held.values()] == ["It is tea."]


async def test_the_cursor_is_kept_and_the_end_is_told(names, capsys, client):
    """The loop ends without a word; and where the workflow was terminated, with its status."""
    first = await run(BLOCKS[2], dict(names))
    again = await run(BLOCKS[2].replace("cursor = None", f"cursor = {first['cursor']!r}"), dict(names))
    assert (capsys.readouterr().out, again["cursor"]) == ("", first["cursor"])

    workflow_id = unique("terminated")
    handle = await client.start_workflow(
        RunActivity.run, args=["chat"], id=workflow_id, task_queue=unique("nobody")
    )
    await handle.terminate()
    await run(BLOCKS[2], {**names, "workflow_id": workflow_id})
    assert capsys.readouterr().out == "terminated\n"


async def test_the_run_prints_each_call_and_the_result(names, capsys):
    """The half sentence is marked as such; then the answer, its usage, and the workflow's result."""
    await run(BLOCKS[3], names)

    assert capsys.readouterr().out == (
        f"half -- ConnectionError: not part of the answer\nIt is tea. {dict(USAGE)}\nIt is tea.\n"
    )
