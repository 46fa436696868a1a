"""A newcomer's mistakes are named in the log, each once, with the fix."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
)

from temporal_token_interceptor import (
    ConfigurationError,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
    instrument,
    uninstrument,
)
from temporal_token_interceptor.reader import silence
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.workflows import OnlyChildren, RunActivity, RunBeating, RunThenWait

NOTHING_LISTENS = "redis://user:the-secret@127.0.0.1:1"


@activity.defn
async def answer(argument: Any = None) -> str:
    return (await ScriptedChatModel.saying("Hel", "lo").ainvoke("?")).text


@activity.defn
def answer_in_thread(argument: Any = None) -> str:
    return ScriptedChatModel.saying("Hel", "lo").invoke("?").text


@activity.defn
async def computes(argument: Any = None) -> int:
    return 2


def messages(caplog, level, part):
    """What the package logged at a level that has this part."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("temporal_token_interceptor")
        and record.levelno == level
        and part in record.getMessage()
    ]


def a_worker(client: Client, **options: Any) -> Worker:
    return Worker(
        client,
        task_queue=unique("first"),
        workflow_runner=UnsandboxedWorkflowRunner(),
        **({"workflows": [RunActivity], "activities": [answer, computes]} | options),
    )


# ---------------------------------------------------------------------- the line of a worker that starts


async def test_a_worker_with_the_plugin_logs_one_line_when_it_starts(client, redis_url, caplog):
    """I see where the tokens go, which filters are set and which version runs, and never a password."""
    caplog.set_level(logging.INFO)
    plugin = TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url), tags=["public"])

    async with a_worker(client, plugins=[plugin]) as worker:
        pass

    [line] = messages(caplog, logging.INFO, "tokens of this worker")
    host = redis_url.removeprefix("redis://").partition("/")[0]
    assert f"redis at {host}" in line
    assert f"'{worker.task_queue}'" in line
    assert "tags=['public']" in line
    assert "codec: none" in line
    assert "version" in line
    assert not messages(caplog, logging.WARNING, "")


async def test_a_worker_with_the_interceptor_logs_the_same_line_once(client, caplog):
    """Without the plugin, too; an activity more logs no further line."""
    caplog.set_level(logging.INFO)

    async with streaming_worker(client, MemoryStreamBackend(), [answer]) as queue:
        for _ in range(2):
            await client.execute_workflow(
                RunActivity.run, args=["answer"], id=unique("line"), task_queue=queue
            )

    [line] = messages(caplog, logging.INFO, "tokens of this worker")
    assert "filters: none" in line


@pytest.mark.parametrize("way", ["plugin", "interceptor"])
async def test_a_redis_that_is_not_there_is_one_warning_within_five_seconds(client, caplog, way):
    """No activity has run yet, and I know already that no token would arrive; the password is not shown."""
    backend = RedisStreamBackend(NOTHING_LISTENS)
    options: dict[str, Any] = (
        {"plugins": [TokenStreamingPlugin(backend)]}
        if way == "plugin"
        else {"interceptors": [TokenStreamingInterceptor(backend)]}
    )
    begun = time.monotonic()

    async with a_worker(client, **options):
        while not (found := messages(caplog, logging.WARNING, "cannot be reached")):
            assert time.monotonic() - begun < 5
            await asyncio.sleep(0.02)

    assert len(found) == 1
    assert "127.0.0.1:1" in found[0]
    assert "REDIS_URL" in found[0]
    assert "the-secret" not in caplog.text
    await backend.close()


async def test_a_redis_url_that_is_not_used_is_named(client, caplog, monkeypatch):
    """I export REDIS_URL and write `TokenStreamingPlugin()`: the log names the line that uses it."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost")

    async with a_worker(client, plugins=[TokenStreamingPlugin()]):
        pass

    [warning] = messages(caplog, logging.WARNING, "REDIS_URL is set")
    assert "TokenStreamingPlugin.from_environment()" in warning


def test_a_redis_url_that_is_missing_is_an_error_that_names_both_ways_out():
    """`from_environment()` without REDIS_URL: what to set, and what to write for streaming without Redis."""
    with pytest.raises(ConfigurationError, match=r"REDIS_URL=redis://.*TokenStreamingPlugin\(\)"):
        TokenStreamingPlugin.from_environment({})


# ---------------------------------------------------------------------- filters that match nothing


async def test_filters_that_captured_nothing_are_named_once(client, caplog):
    """A typo in `nodes`: the log names the filter and the nodes in which models were called."""
    async with streaming_worker(client, MemoryStreamBackend(), [answer], nodes=["anwser"]) as queue:
        for _ in range(2):
            await client.execute_workflow(
                RunActivity.run, args=["answer"], id=unique("typo"), task_queue=queue
            )

    [warning] = messages(caplog, logging.WARNING, "no model call was captured")
    assert "nodes=['anwser']" in warning
    assert "called models in answer" in warning


async def test_filters_that_capture_something_are_not(client, caplog):
    """A filter that works, and an activity without models, are no reason for a warning."""
    async with streaming_worker(client, MemoryStreamBackend(), [answer, computes], nodes=["answer"]) as queue:
        for name in ("computes", "answer"):
            await client.execute_workflow(RunActivity.run, args=[name], id=unique("ok"), task_queue=queue)

    assert not messages(caplog, logging.WARNING, "captured")


async def test_activities_that_no_worker_has_are_named_when_it_starts(client, caplog):
    """A typo in `activities`: the log names what the worker has."""
    plugin = TokenStreamingPlugin(MemoryStreamBackend(), activities=["anwser"])

    a_worker(client, plugins=[plugin])

    [warning] = messages(caplog, logging.WARNING, "nothing will stream")
    assert "['anwser']" in warning
    assert "answer, computes" in warning


# ---------------------------------------------------------------------- Stop


@pytest.mark.parametrize("heartbeat", [0, 5], ids=["without", "with"])
async def test_an_activity_type_that_a_stop_cannot_reach_is_named_once(client, caplog, heartbeat):
    """It calls a model without a heartbeat timeout: cancelling stops nothing. One without models is fine."""
    async with streaming_worker(client, MemoryStreamBackend(), [answer, computes]) as queue:
        await client.execute_workflow(
            RunBeating.run,
            args=[["answer", "answer", "computes"], heartbeat, 1],
            id=unique("stop"),
            task_queue=queue,
        )

    warnings = messages(caplog, logging.WARNING, "heartbeat_timeout")
    assert len(warnings) == (0 if heartbeat else 1)
    assert all("'answer'" in warning for warning in warnings)


# ---------------------------------------------------------------------- a converter that cannot be known


class Hiding(Interceptor):
    """An interceptor of the user's whose outbound end hides the rest of the chain."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _HidingInbound(next)


class _HidingInbound(ActivityInboundInterceptor):
    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self.next.init(_HidingOutbound(outbound))


class _HidingOutbound(ActivityOutboundInterceptor):
    def __init__(self, rest: ActivityOutboundInterceptor) -> None:
        self._rest = rest

    def info(self) -> activity.Info:
        return self._rest.info()

    def heartbeat(self, *details: Any) -> None:
        self._rest.heartbeat(*details)


async def test_where_the_converter_is_hidden_nothing_is_sent(client, caplog):
    """A sync activity behind it: its tokens are not stored as plain text; the log names the argument."""
    backend = MemoryStreamBackend()
    workflow_id = unique("hidden")

    with ThreadPoolExecutor() as threads:
        async with a_worker(
            client,
            activities=[answer_in_thread],
            activity_executor=threads,
            interceptors=[Hiding(), TokenStreamingInterceptor(backend)],
        ) as worker:
            result = await client.execute_workflow(
                RunActivity.run, args=["answer_in_thread"], id=workflow_id, task_queue=worker.task_queue
            )

    assert result == "Hello"
    assert "0 streams" in repr(backend)
    assert len(messages(caplog, logging.WARNING, "data_converter=client.data_converter")) == 1


# ---------------------------------------------------------------------- mixed fleets


async def test_a_mixed_fleet_harms_no_activity_that_has_no_heartbeat_timeout(client):
    """I roll out: some workers have the interceptor, some not. Every activity succeeds in one attempt."""
    backend, queue = MemoryStreamBackend(), unique("fleet")

    @activity.defn(name="answer")
    async def slow(argument: Any = None) -> int:
        await ScriptedChatModel.saying("a", "b", delay=1).ainvoke("?")
        return activity.info().attempt

    other = await Client.connect(client.service_client.config.target_host)  # another process, in effect
    async with (
        streaming_worker(client, backend, [slow], task_queue=queue),
        streaming_worker(other, None, [slow], task_queue=queue),
    ):
        results = await client.execute_workflow(
            RunBeating.run, args=[["answer"] * 20, 0, 3], id=unique("mixed"), task_queue=queue
        )

    assert results == [1] * 20


async def test_a_heartbeat_timeout_before_every_worker_has_the_interceptor_does_harm(client):
    """The order of the recipe matters: a worker without it times out again and again."""
    queue = unique("fleet")

    @activity.defn(name="answer")
    async def slow(argument: Any = None) -> int:
        await ScriptedChatModel.saying("a", delay=3).ainvoke("?")
        return activity.info().attempt

    async def run() -> Any:
        return await client.execute_workflow(
            RunBeating.run, args=[["answer"], 1.2, 2], id=unique("order"), task_queue=queue
        )

    async with streaming_worker(client, None, [slow], task_queue=queue):
        before = await run()
    async with streaming_worker(client, MemoryStreamBackend(), [slow], task_queue=queue):
        after = await run()

    assert before == ["HEARTBEAT"]
    assert after == [1]


# ---------------------------------------------------------------------- workers that a framework makes


async def test_instrument_reaches_a_worker_that_a_framework_makes(client):
    """The framework takes no plugin: one call before it starts, and its activities stream."""
    backend = MemoryStreamBackend()
    instrument(lambda: TokenStreamingPlugin(backend))
    try:
        with pytest.raises(ConfigurationError, match="called before"):
            instrument()
        workflow_id = unique("framework")

        async with a_worker(client) as worker:
            await client.start_workflow(
                RunActivity.run, args=["answer"], id=workflow_id, task_queue=worker.task_queue
            )
            text = await TokenSubscriber(client, backend).text(workflow_id)
    finally:
        uninstrument()

    assert text == "Hello"
    assert not a_worker(client).config(active_config=True).get("interceptors")


async def test_instrument_leaves_a_worker_alone_that_streams_already(client):
    """Mine has the interceptor: no token comes twice, and nothing is refused."""
    backend = MemoryStreamBackend()
    instrument(lambda: TokenStreamingPlugin(MemoryStreamBackend()))
    try:
        mine = TokenStreamingInterceptor(backend)
        assert a_worker(client, interceptors=[mine]).config(active_config=True)["interceptors"] == [mine]
    finally:
        uninstrument()


FRAMEWORK = """
import asyncio, sys
from datetime import timedelta
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from tests.integration.test_first_hour import answer
from tests.support.workflows import RunActivity

async def main(address, workflow_id):
    client = await Client.connect(address)
    async with Worker(client, task_queue=workflow_id, workflows=[RunActivity], activities=[answer],
                      workflow_runner=UnsandboxedWorkflowRunner()):
        options = {"id": workflow_id, "task_queue": workflow_id}
        print(await client.execute_workflow(RunActivity.run, args=["answer"], **options))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_program_runs_with_streaming_without_a_change_to_it(client, redis_url, tmp_path):
    """`python -m temporal_token_interceptor run worker.py ...`: its own client, worker and arguments."""
    program, workflow_id = tmp_path / "worker.py", unique("program")
    program.write_text(FRAMEWORK)
    command = ["-m", "temporal_token_interceptor", "run", str(program)]
    environ = os.environ | {"REDIS_URL": redis_url, "PYTHONPATH": os.getcwd()}  # noqa: PTH109

    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *command, client.service_client.config.target_host, workflow_id],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert finished.stdout.strip() == "Hello", finished.stderr
    async with RedisStreamBackend(redis_url) as backend:
        subscriber = TokenSubscriber(client, backend, start_timeout=timedelta(seconds=1))
        assert await subscriber.text(workflow_id) == "Hello"


def test_a_program_that_is_not_named_is_a_usage_error():
    """I forget the file: one line, no traceback."""
    command = [sys.executable, "-m", "temporal_token_interceptor", "run"]

    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603

    assert finished.returncode == 1
    assert finished.stderr.startswith("usage: ")


# ---------------------------------------------------------------------- the reader's hint


@pytest.fixture
def impatient(monkeypatch):
    """A reader that looks after 50 ms of silence, and again."""
    monkeypatch.setattr(silence, "_FIRST_PAUSES", (0.05,))
    monkeypatch.setattr(silence, "_LONGEST_PAUSE", 0.05)


async def test_a_hint_comes_while_the_workflow_waits(client, caplog, impatient):
    """Its worker has no interceptor and it waits for a human: I learn it now, and not when it closes."""
    workflow_id = unique("waits")
    async with streaming_worker(client, None, [answer]) as queue:
        handle = await client.start_workflow(RunThenWait.run, id=workflow_id, task_queue=queue)
        reading = asyncio.create_task(read_all(client, MemoryStreamBackend(), workflow_id))
        async with asyncio.timeout(10):
            while not (found := messages(caplog, logging.WARNING, "activities streamed")):  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)
        assert not reading.done()
        await handle.signal(RunThenWait.go_on)
        await reading

    assert len(messages(caplog, logging.WARNING, "none of its activities streamed")) == 1
    assert "activity 'answer'" in found[0]
    assert workflow_id in found[0]


async def test_no_hint_for_a_workflow_that_only_has_children(client, caplog, impatient):
    """The parent itself has nothing to stream: neither while it runs nor when it closes."""
    workflow_id = unique("parent")
    async with streaming_worker(client, None, [answer]) as queue:
        await client.start_workflow(OnlyChildren.run, id=workflow_id, task_queue=queue)
        await read_all(client, MemoryStreamBackend(), workflow_id)

    assert not messages(caplog, logging.WARNING, "streamed")


async def test_no_hint_where_tokens_come(client, caplog, impatient):
    """An activity that streams is no reason for one, however long the workflow goes on."""
    backend, workflow_id = MemoryStreamBackend(), unique("fine")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await read_all(client, backend, workflow_id)

    assert not messages(caplog, logging.WARNING, "streamed")
