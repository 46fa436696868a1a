"""Real clients on real servers: a worker is killed in mid-sentence, and the page is reloaded in the retry."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import uvicorn

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai
from tests.clients.worker import RIGHT
from tests.support.processes import program
from tests.support.streams import unique
from tests.support.workflows import RunActivity

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
async def served(client, redis_url, queue):
    """A gateway on a real server that starts and cancels workflows, and its URL."""

    async def start(request, body):
        thread = body.get("thread_id") or body.get("threadId") or body.get("id") or unique("chat")
        arguments = ["answer", None, False, 3]
        await client.start_workflow(RunActivity.run, args=arguments, id=thread, task_queue=queue)
        return thread

    async def cancel(request, target):
        await client.get_workflow_handle(target.workflow_id).cancel()

    async with RedisStreamBackend(redis_url) as backend:
        app = gateway(
            TokenSubscriber(client, backend),
            authorize=anyone,
            start=start,
            cancel=cancel,
            formats=[ai_sdk(), ai_sdk("/ai6", version=6), ag_ui(), langgraph(), openai()],
            keep_alive=timedelta(seconds=1),
            linger=timedelta(seconds=0.1),
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            app.drain()
            server.should_exit = True
            await serving
            await app.aclose()


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
    worker = ["-m", "tests.clients.worker", client.service_client.config.target_host, redis_url, queue]
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
            await wrote(client, redis_url, "2.4", started=lambda: shown(lambda one: "workflow" in one))
        first.process.kill()
        async with program(*worker):
            done = await shown(lambda one: "done" in one)

    assert done["done"] == "".join(RIGHT)
    assert done["resumed"] >= 1
    later = seen[[("2.4" in one.get("text", "")) for one in seen].index(True) if PLAYS[script] else 0 :]
    assert any(not one["text"] or "2.1" in one["text"] for one in later if "text" in one)
    assert PLAYS[script] or not any("2.4" in one.get("text", "") for one in seen)


async def wrote(client, redis_url, word, *, started):
    """Wait until a workflow wrote a word, of which its page shows nothing."""
    workflow_id = (await started())["workflow"]
    async with RedisStreamBackend(redis_url) as backend, asyncio.timeout(30):
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            if word in getattr(event, "token", ""):
                return
