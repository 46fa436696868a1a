"""`tti` on real servers: in a real terminal, and as a command whose output another program reads."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle

from temporal_token_interceptor import RedisStreamBackend, event_from_json
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support import captures
from tests.support.streams import streaming_worker, unique
from tests.support.terminal import terminal
from tests.support.workflows import RunActivity

TTI = [sys.executable, "-m", "temporal_token_interceptor"]
PAGE = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text(encoding="utf-8")
DOCUMENTED = PAGE.split("```text\n", 1)[1].split("```", 1)[0].splitlines()
RELEASED: dict[str, asyncio.Event] = {}


@activity.defn
async def fail_then_answer(name: str) -> str:
    """Fails in mid-sentence once, when released; then answers."""
    if activity.info().attempt == 1:
        await ScriptedChatModel.saying("Paris ", "has ", "WRONG").ainvoke("?")
        await RELEASED[name].wait()
        raise RuntimeError("the first attempt fails")
    return (await ScriptedChatModel.saying("Paris ", "has ", "two million").ainvoke("?")).text


@activity.defn
async def answer(name: str) -> str:
    return (await ScriptedChatModel.saying("Hello", " world").ainvoke("?")).text


@activity.defn
async def wait_and_answer(name: str) -> str:
    text = (await ScriptedChatModel.saying("Before").ainvoke("?")).text
    await RELEASED[name].wait()
    for _ in range(50):
        await ScriptedChatModel.saying("again").ainvoke("?")
        await asyncio.sleep(0.02)
    return text


@pytest.fixture
def environment(client, redis_url):
    """What a shell has that uses the tool."""
    return {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": client.namespace,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(Path.cwd()),
        "TERM": "xterm-256color",
        "COLUMNS": "160",
    }


@pytest.fixture(scope="module")
async def printed(client, redis_url):
    """What the commands print in a terminal."""
    return await captures.captured(client.service_client.config.target_host, redis_url)


@asynccontextmanager
async def running(client, redis_url, name: str) -> AsyncIterator[WorkflowHandle[Any, Any]]:
    """A workflow that runs one of the activities."""
    workflow_id = unique("tti")
    RELEASED[workflow_id] = asyncio.Event()
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [fail_then_answer, answer, wait_and_answer]) as queue,
    ):
        yield await client.start_workflow(
            RunActivity.run, args=[name, workflow_id, False, 3], id=workflow_id, task_queue=queue
        )


async def tti(*arguments: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run the tool as another program would; return its code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *TTI,
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(40):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_a_retry_is_shown_as_taken_back_in_a_terminal(client, redis_url, environment):
    """I watch an answer grow; the attempt fails; its text is struck out, and the new answer stands."""
    async with (
        running(client, redis_url, "fail_then_answer") as handle,
        terminal([*TTI, "tail", handle.id], environment) as screen,
    ):
        await screen.until("Paris has WRONG")
        RELEASED[handle.id].set()

        await screen.ended()
        shown = await screen.screen()
        styled = await screen.screen(styled=True)

    lines = [line.rstrip() for line in shown.replace("fail_then_answer", "answer").splitlines()]
    assert [line for line in lines if line and not line.startswith("Pane is dead")] == DOCUMENTED
    assert shown.index("WRONG") < shown.index("replaces attempt 1") < shown.index("two million")
    assert re.search(r"\x1b\[[0-9;]*9m[^\x1b]*Paris has WRONG", styled), "it is not struck out"
    assert shown.count("WRONG") == 1


async def test_events_come_as_lines_of_json(client, redis_url, environment):
    """I pipe the tool into a program of mine, which reads each line as an event."""
    async with running(client, redis_url, "answer") as handle:
        await handle.result()
        code, output, errors = await tti("tail", handle.id, "--json", environment=environment)

    events = [event_from_json(json.loads(line)) for line in output.splitlines()]
    assert (code, errors) == (0, "")
    assert "".join(getattr(event, "token", "") for event in events) == "Hello world"
    assert events[-1].to_json()["status"] == "completed"


async def test_a_cursor_resumes(client, redis_url, environment):
    async with running(client, redis_url, "answer") as handle:
        await handle.result()
        _, output, _ = await tti("tail", handle.id, "--json", environment=environment)
        lines = output.splitlines()
        cursor = json.loads(lines[2])["cursor"]
        _, rest, _ = await tti("tail", handle.id, "--json", "--from", cursor, environment=environment)

    assert rest.splitlines() == lines[3:]


async def test_show_counts_attempts_and_calls(client, redis_url, environment):
    async with running(client, redis_url, "fail_then_answer") as handle:
        RELEASED[handle.id].set()
        await handle.result()
        code, output, _ = await tti("show", handle.id, environment=environment)

    assert code == 0
    assert f"workflow {handle.id}: completed" in output
    assert "failed, taken back" in output
    assert "completed_provisional" in output


async def test_list_names_what_streams_now(client, redis_url, environment):
    """Which of my workflows stream at this moment, on which worker, how fast."""
    async with running(client, redis_url, "wait_and_answer") as handle:
        query = f"WorkflowId = '{handle.id}'"
        async with asyncio.timeout(30):
            while True:
                code, output, errors = await tti(
                    "list", "--query", query, "--window", "1", environment=environment
                )
                assert code == 0, errors
                if handle.id in output.replace("\n", "") and "wait_and_answer" in output:
                    break
        RELEASED[handle.id].set()
        await handle.result()

    assert "#1" in output


async def test_the_doctor_finds_nothing_wrong_with_a_workflow_that_streams(client, redis_url, environment):
    async with running(client, redis_url, "answer") as handle:
        await handle.result()
        code, output, errors = await tti("doctor", handle.id, environment=environment)

    assert code == 0, output + errors
    assert "attempts that have streamed: 1; gaps: 0" in output
    assert "right to write" in output


@pytest.mark.parametrize("command", ["list", "show"])  # what `doctor` finds depends on the machine
async def test_the_page_shows_what_the_tool_prints(printed, command):
    """In a real terminal. If this fails: `python -m tests.support.captures`."""
    assert f"```text\n{printed[command]}```" in PAGE


async def test_the_doctor_names_a_wrong_prefix(client, redis_url, environment):
    """The classic: worker and viewer disagree on the prefix, and the screen stays empty."""
    wrong = environment | {"TTI_CHANNEL_PREFIX": "other:"}
    async with running(client, redis_url, "answer") as handle:
        await handle.result()
        code, output, _ = await tti("doctor", handle.id, environment=wrong)

    assert code == 1
    assert "TTI_CHANNEL_PREFIX" in output


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, ["tail", "x"], "TEMPORAL_ADDRESS"),
        ({"TTI_PATIENCE_SECONDS": "soon"}, ["tail", "x"], "TTI_PATIENCE_SECONDS"),
        ({}, ["tail", "x", "--from", "garbage"], "cursor"),
        ({}, ["show", "no-such-workflow"], "no-such-workflow"),
        ({}, ["tail", "x", "--data-converter", "nothing"], "module:name"),
    ],
)
async def test_a_mistake_gets_one_line_that_names_it(environment, change, arguments, named):
    code, _, errors = await tti(*arguments, environment=environment | change)

    assert code == 2
    assert errors.startswith("tti: ")
    assert named in errors
    assert len(errors.splitlines()) == 1


async def test_the_doctor_survives_servers_that_are_away(environment):
    away = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    code, output, _ = await tti("doctor", environment=environment | away)

    assert code == 1
    assert "REDIS_URL" in output
    assert "TEMPORAL_ADDRESS" in output
