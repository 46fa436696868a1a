"""Real clients on real servers: a worker is killed in mid-sentence, and the page is reloaded in the retry."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from temporalio import activity

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.clients.serving import Histories, served, wrote
from tests.support.killable_worker import RIGHT
from tests.support.processes import program
from tests.support.streams import streaming_worker, unique

pytestmark = pytest.mark.timeout(120)

# Of each script, whether the failed text may be seen before it is taken back.
PLAYS = {
    "use_chat.mjs": True,
    "workflow_transport.mjs": False,
    "http_agent.mjs": True,
    "copilotkit.mjs": True,
    "tanstack_drop.mjs": True,
    "use_stream.mjs": True,
    "openai_responses.mjs": True,
    "openai_chat.mjs": False,
}


@asynccontextmanager
async def page(installed, script, *arguments):
    """A running script, as the lines of JSON that it prints: what its client shows."""
    process = await asyncio.create_subprocess_exec(
        "node",
        script,
        *arguments,
        cwd=installed,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("script", PLAYS)
async def test_a_killed_worker_and_a_reloaded_page(installed, client, redis_url, script):
    """The failed text vanishes, and the answer stands once, also on the page that came again."""
    queue, thread, seen = unique("clients"), unique("thread"), []
    worker = [
        "-m",
        "tests.support.killable_worker",
        client.service_client.config.target_host,
        redis_url,
        queue,
    ]
    async with (
        served(client, redis_url, queue) as url,
        program(*worker) as first,
        page(installed, script, url, thread) as process,
    ):

        async def shown(is_wanted):
            while line := await process.stdout.readline():
                seen.append(json.loads(line))
                if is_wanted(seen[-1]):
                    return seen[-1]
            raise AssertionError((await process.stderr.read()).decode()[-2_000:] or seen[-3:])

        if PLAYS[script]:
            await shown(lambda one: "2.4" in one.get("text", ""))
        else:
            begun = await shown(lambda one: "workflow" in one)
            await wrote(client, redis_url, begun["workflow"], "2.4")
        first.process.kill()
        async with program(*worker):
            done = await shown(lambda one: "done" in one)

    assert done["done"] == "".join(RIGHT)
    assert done["resumed"] >= 1
    later = seen[[("2.4" in one.get("text", "")) for one in seen].index(True) if PLAYS[script] else 0 :]
    assert any(not one["text"] or "2.1" in one["text"] for one in later if "text" in one)
    assert PLAYS[script] or not any("2.4" in one.get("text", "") for one in seen)
    assert not [one for one in seen if "2.4" in one.get("text", "") and "2.1" in one["text"]]


@pytest.mark.parametrize("name", ["langgraph", "ai_sdk", "ag_ui", "copilotkit", "tanstack"])
async def test_a_second_question(installed, client, redis_url, name):
    """Each is answered by a workflow of the same id, whose first attempt fails; both answers stand alone."""
    thread, seen, histories = unique("thread"), [], Histories()

    @activity.defn
    async def answer(number: int) -> str:
        order = ["first", "second"][number - 1]
        right = ["the ", "right ", "answer ", f"to the {order}."]
        wrong = ["a ", "wrong ", "answer ", ConnectionError("lost")]
        pieces = wrong if activity.info().attempt == 1 else right
        said = (await ScriptedChatModel.saying(*pieces, delay=0.02).ainvoke("?")).text
        histories.answers.append({"type": "ai", "id": f"answer {order}", "content": said})
        return said

    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answer]) as queue,
        served(client, redis_url, queue, histories) as url,
        page(installed, "second_question.mjs", name, url, thread) as process,
    ):
        while line := await process.stdout.readline():
            seen.append(json.loads(line))
        assert "done" in seen[-1], (await process.stderr.read()).decode()[-2_000:]

    assert seen[-1]["done"] == ["the right answer to the first.", "the right answer to the second."]
    shown = ["".join(one["answers"]) for one in seen[:-1]]
    assert any("wrong" in text for text in shown)
    assert not any("wrong" in text and text.endswith("right ") for text in shown)
