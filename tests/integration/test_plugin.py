"""One line on the client or the worker: the plugin, and what it takes care of."""

import asyncio
import uuid
import warnings
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    ConfigurationError,
    Gap,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokenEvent,
    TokenStreamError,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
)
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, standing_text, unique
from tests.support.workflows import RunActivity

WORDS = ["Plug", "ged ", "in", "."]
TEXT = "".join(WORDS)


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text


class CountedBackend(MemoryStreamBackend):
    """Tells how often it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1
        await super().close()


def with_plugins(client: Client, *plugins: TokenStreamingPlugin) -> Client:
    return Client(**(client.config() | {"plugins": list(plugins)}))


def a_worker(client: Client, *plugins: TokenStreamingPlugin, **options: Any) -> Worker:
    with warnings.catch_warnings():
        # Temporal's, and right for plugins that would run twice.
        warnings.filterwarnings("ignore", "The same plugin type", UserWarning)
        return Worker(
            client,
            task_queue=f"plugin-{uuid.uuid4().hex[:8]}",
            workflows=[RunActivity],
            plugins=list(plugins),
            workflow_runner=UnsandboxedWorkflowRunner(),  # many workers; see tests/support/streams.py
            **({"activities": [answer]} | options),
        )


@pytest.mark.parametrize("where", ["client", "worker", "both"])
async def test_wherever_it_is_installed_each_token_comes_once(client, where):
    """I add the plugin to the client, the worker, or both, and never get a token twice."""
    backend = MemoryStreamBackend()
    plugin = TokenStreamingPlugin(backend)
    ours = with_plugins(client, *[plugin] * (where != "worker"))
    workflow_id = unique("plugin")

    async with a_worker(ours, *[plugin] * (where != "client")) as worker:
        await ours.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=worker.task_queue
        )
        events = await read_all(ours, backend, workflow_id)

    assert [event.token for event in events if isinstance(event, TokenEvent)] == WORDS


async def test_the_last_worker_of_a_process_closes_what_the_plugin_made(client):
    """Two workers share my backend; it lives as long as one of them does."""
    made: list[CountedBackend] = []

    def make() -> CountedBackend:
        made.append(CountedBackend())
        return made[-1]

    ours = with_plugins(client, TokenStreamingPlugin(make))
    workflow_id = unique("shared")

    async with a_worker(ours) as second:
        async with a_worker(ours):
            pass
        [backend] = made
        assert backend.closed == 0
        await ours.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=second.task_queue
        )
        text = standing_text(await read_all(ours, backend, workflow_id))

    assert text == TEXT
    assert backend.closed == 1


@pytest.mark.parametrize("kind", ["redis", "memory"])
async def test_a_backend_that_i_have_made_stays_open(client, redis_url, kind):
    """Readers of the same process go on with it when the worker stops; and workers may start again."""
    backend = MemoryStreamBackend() if kind == "memory" else RedisStreamBackend(redis_url)
    ours = with_plugins(client, TokenStreamingPlugin(backend))
    for _ in range(2):
        workflow_id = unique("owned")
        async with a_worker(ours) as worker:
            await ours.execute_workflow(
                RunActivity.run, args=["answer"], id=workflow_id, task_queue=worker.task_queue
            )
        assert standing_text(await read_all(ours, backend, workflow_id)) == TEXT

    await backend.close()
    with pytest.raises(TokenStreamError, match="closed"):
        await backend.write(StreamKey("default", "owned", "run"), b"entry")


async def test_fifty_starts_and_stops_leave_nothing_behind(client, redis_url, redis_client):
    """Two workers with the plugin on client and worker, again and again: no connection and no task stays."""
    name = unique("plugin")
    url = f"{redis_url}?client_name={name}"
    plugin = TokenStreamingPlugin(lambda: RedisStreamBackend(url))
    ours = with_plugins(client, plugin)

    async def connections() -> int:
        return sum(entry["name"] == name for entry in await redis_client.client_list())

    before = asyncio.all_tasks()
    for start in range(50):
        async with AsyncExitStack() as workers:
            for _ in range(2):
                worker = await workers.enter_async_context(a_worker(ours, plugin))
            if start % 10 == 0:  # a worker takes a second to stop once it has run something
                text = await ours.execute_workflow(
                    RunActivity.run, args=["answer"], id=unique("again"), task_queue=worker.task_queue
                )
                assert text == TEXT
                assert await connections() == 1

        async with asyncio.timeout(2):
            while await connections():  # noqa: ASYNC110 - Redis notices at its own time
                await asyncio.sleep(0.005)
        assert asyncio.all_tasks() == before


async def test_a_replayer_never_touches_the_backend(client):
    """Replaying a history in CI needs no Redis, and closes nothing."""
    made = []

    def make() -> MemoryStreamBackend:
        made.append(MemoryStreamBackend())
        return made[-1]

    plugin = TokenStreamingPlugin(make)
    ours = with_plugins(client, plugin)
    async with a_worker(ours) as worker:
        handle = await ours.start_workflow(
            RunActivity.run, args=["answer"], id=unique("replay"), task_queue=worker.task_queue
        )
        await handle.result()
    assert len(made) == 1

    await Replayer(workflows=[RunActivity], plugins=[plugin]).replay_workflow(await handle.fetch_history())

    assert len(made) == 1


async def test_a_second_interceptor_is_refused(client):
    """Plugin and interceptor together would stream each token twice: the worker tells me so at once."""
    backend = MemoryStreamBackend()
    plugin = TokenStreamingPlugin(backend)

    with pytest.raises(ConfigurationError, match="twice"):
        a_worker(client, plugin, interceptors=[TokenStreamingInterceptor(backend)])
    with pytest.raises(ConfigurationError, match="twice"):
        a_worker(with_plugins(client, plugin), TokenStreamingPlugin(backend))


@dataclass
class Answer:
    text: str
    custom_data: list[Any] | None = None


async def test_without_a_backend_the_plugin_uses_the_results(client):
    """I have no Redis: the same one line, without an argument, on client and worker, and tokens come once."""

    @activity.defn(name="answer")
    async def answer_with_room(argument: Any) -> Answer:
        return Answer((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)

    plugin = TokenStreamingPlugin()
    ours = with_plugins(client, plugin)
    workflow_id = unique("plugin")

    async with a_worker(ours, plugin, activities=[answer_with_room]) as worker:
        await ours.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=worker.task_queue
        )
        events = await read_all(ours, None, workflow_id)

    assert standing_text(events) == TEXT
    assert not [event for event in events if isinstance(event, Gap)]


def test_unusable_arguments_are_named_at_once():
    with pytest.raises(ConfigurationError, match="backend"):
        TokenStreamingPlugin("redis://localhost")
    with pytest.raises(ConfigurationError, match="force_streaming"):
        TokenStreamingPlugin(MemoryStreamBackend(), force_streaming="maybe")


async def test_workflow_files_may_import_langchain(client):
    """My workflow file imports LangChain and makes an agent at its top, as all Python files do."""
    from tests.support.langchain_workflow import ImportsLangChain

    ours = with_plugins(client, TokenStreamingPlugin(MemoryStreamBackend()))
    async with Worker(ours, task_queue=unique("sandbox"), workflows=[ImportsLangChain]) as worker:
        text = await ours.execute_workflow(
            ImportsLangChain.run, id=unique("sandbox"), task_queue=worker.task_queue
        )

    assert text == "outside of the sandbox"
