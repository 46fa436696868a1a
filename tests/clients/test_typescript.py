"""The TypeScript client against real servers: it yields what our own reader yields, event by event."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import uuid
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.converter import DataConverter

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.conformance.__main__ import all_cases
from temporal_token_interceptor.conformance.case import named_cases
from temporal_token_interceptor.conformance.generated import generated_cases
from temporal_token_interceptor.conformance.reference import answer_to
from temporal_token_interceptor.conformance.runner import outcomes
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.keys import Keys
from tests.faults.play import Play, Script, Speech
from tests.faults.worker import serving
from tests.support.conformance_table import FOLDER
from tests.support.encryption import AesCodec
from tests.support.node import SCRIPT
from tests.support.pages import ROOT

BUILT = ROOT / "build" / "typescript"
LIBRARIES = ("ioredis", "redis")


@pytest.fixture(scope="module", autouse=True)
def built():
    """The client, compiled by `make clients`."""
    if shutil.which("npm") is None or not (BUILT / "dist").is_dir():
        pytest.fail("the TypeScript client is not built: run `make clients`")


@pytest.fixture(params=["20", "22"])
def node(request):
    """Each version of Node that the package is for."""
    binary = BUILT / "node_modules" / f"node{request.param}" / "bin" / "node"
    version = subprocess.check_output([binary, "--version"], text=True)  # noqa: S603 - as installed
    assert version.startswith(f"v{request.param}.")
    return str(binary)


def program(node, library, redis_url, client, workflow_id, *, leaving=0):
    """The command that prints the events of a workflow."""
    address = client.service_client.config.target_host
    return [node, str(BUILT / "tests" / "read.mjs"), library, redis_url, address, workflow_id, str(leaving)]


async def read(command):
    """Everything that a reader prints."""
    return lines(await printed(command))


async def printed(command, **environment):
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-2_000:]
    return out.decode()


@asynccontextmanager
async def played(client, redis_url, script, *, stores=True):
    """A workflow that runs on a worker of ours, with Redis or without; yields its handle, and our reader."""
    async with RedisStreamBackend(redis_url) as backend:
        address, converter = client.service_client.config.target_host, client.data_converter
        own = await Client.connect(address, data_converter=converter)
        queue = f"typescript-{uuid.uuid4().hex[:8]}"
        async with serving(own, backend if stores else None, queue):
            handle = await client.start_workflow(Play.run, script, id=queue, task_queue=queue)
            yield handle, TokenSubscriber(client, backend)


async def ours(subscriber, workflow_id):
    """What our own reader yields of a workflow that has ended."""
    runs = subscriber.subscribe(workflow_id, runs="all")
    return [event.to_json() async for event in runs]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("leaving", [0, 1])
async def test_a_running_workflow_is_read_to_its_end(node, client, redis_url, library, leaving):
    """Live, and by a reader that leaves after each event and comes back: exactly what ours yields."""
    async with played(client, redis_url, Script(Speech(calls=2, tokens=30, delay=0.01))) as (
        handle,
        subscriber,
    ):
        found = await read(program(node, library, redis_url, client, handle.id, leaving=leaving))
        expected = await ours(subscriber, handle.id)

    assert found == expected
    assert [event["type"] for event in found].count("token") == 60
    assert found[-1]["status"] == "completed"


@pytest.mark.parametrize(
    "script",
    [
        Script(Speech(tokens=120, delay=0.01, deaf=True), start_to_close=0.6),
        Script(Speech(tokens=20, delay=0.005), continues=3),
    ],
    ids=["a zombie beside its successor", "continued as new"],
)
async def test_what_ours_takes_back_this_one_takes_back(node, client, redis_url, script):
    """Attempts that time out and go on to write; runs that follow each other. It leaves after each event."""
    async with played(client, redis_url, script) as (handle, subscriber):
        first = handle.first_execution_run_id
        command = program(node, "ioredis", redis_url, client, handle.id, leaving=1)
        found = await read([*command, f"1~{first}~~0"])  # from the first run on
        expected = [event.to_json() async for event in subscriber.subscribe(handle.id, first)]

    starts = [event["origin"]["run_id"] for event in found if event["type"] == "attempt_started"]
    assert found == expected
    assert len(starts) >= 2
    assert len(set(starts)) == script.continues + 1


async def test_a_reset_run_takes_back_what_it_does_again(node, client, redis_url):
    """The second run supersedes the attempts of the first.

    What an attempt says after its run has closed comes for late readers alone, so the live one is compared
    from the second run on, and a late one from the start.
    """
    script = Script(Speech(tokens=60, delay=0.01))
    async with played(client, redis_url, script) as (handle, subscriber):
        run = handle.first_execution_run_id
        command = [*program(node, "redis", redis_url, client, handle.id), f"1~{run}~~0"]  # the first run
        reading = asyncio.ensure_future(read(command))
        async for event in subscriber.subscribe(handle.id, run):
            if event.to_json()["type"] == "token":
                break
        await reset(client, handle.id, run)
        found = await reading
        late = await read(command)
        expected = [event.to_json() async for event in subscriber.subscribe(handle.id, run)]

    assert late == expected
    assert second_run(found) == second_run(expected)
    for events in (found, late):
        taken_back = [event["supersedes"] for event in events if event["type"] == "attempt_started"]
        assert [one and one["run_id"] for one in taken_back] == [None, run]


def second_run(events):
    """What comes from the end of the first run on."""
    return events[[event["type"] for event in events].index("run_continued") :]


async def test_a_reader_that_leaves_between_a_run_and_its_reset_takes_back_the_first(node, client, redis_url):
    """It leaves after each event; the second run still supersedes what was shown of the first."""
    async with played(client, redis_url, Script(Speech(tokens=8))) as (handle, subscriber):
        run = handle.first_execution_run_id
        await handle.result()
        await reset(client, handle.id, run)
        command = program(node, "redis", redis_url, client, handle.id, leaving=1)
        found = await read([*command, f"1~{run}~~0"])
        expected = await leaving_each_time(subscriber, handle.id, f"1~{run}~~0")

    assert found == expected
    taken_back = [event["supersedes"] for event in found if event["type"] == "attempt_started"]
    assert [one and one["run_id"] for one in taken_back] == [None, run]


async def test_a_killed_reader_goes_on_where_it_was(node, client, redis_url):
    """A process that ends by SIGKILL, five times; the next one has the last cursor."""
    script = Script(Speech(tokens=150, delay=0.01))
    async with played(client, redis_url, script) as (handle, subscriber):
        found = []
        for _ in range(5):
            found += await killed(resumed(node, redis_url, client, handle.id, found), after=12)
        found += await read(resumed(node, redis_url, client, handle.id, found))
        expected = await ours(subscriber, handle.id)

    assert found == expected


def resumed(node, redis_url, client, workflow_id, found):
    """The command of a reader that goes on behind the last event."""
    command = program(node, "ioredis", redis_url, client, workflow_id)
    return [*command, found[-1]["cursor"]] if found else command


async def killed(command, *, after):
    """The events that a reader has printed when it is killed."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    found = []
    try:
        async with asyncio.timeout(30):
            while len(found) < after and (line := await process.stdout.readline()):
                found.append(json.loads(line))
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    return found


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_reader_that_is_killed_after_each_event_misses_none(node, client, redis_url, library):
    """Each event is received by a process of its own, which goes on behind the last one."""
    async with played(client, redis_url, Script(Speech(tokens=8, delay=0.01))) as (handle, subscriber):
        found = []
        while not found or found[-1]["type"] != "stream_ended":
            command = program(node, library, redis_url, client, handle.id)
            found += (await killed([*command, *([found[-1]["cursor"]] if found else [])], after=1))[:1]
        expected = await ours(subscriber, handle.id)

    assert found == expected
    assert len(found) > 10


async def test_what_is_held_is_shown_once_it_stands(node, client, redis_url):
    """A zombie beside its successor, with `onRetry: "hold"`: nothing of the one, and all of the other."""
    # Seconds between the start of the one and the end of the other: or the zombie ends first, and is shown.
    script = Script(Speech(tokens=60, delay=0.05, deaf=True), start_to_close=0.8)
    async with played(client, redis_url, script) as (handle, subscriber):
        command = program(node, "ioredis", redis_url, client, handle.id)
        await handle.result()
        out = await printed(command, READ_OPTIONS='{"onRetry": "hold"}')
        events = subscriber.subscribe(handle.id, runs="all", on_retry="hold")
        expected = [event.to_json() async for event in events]

    found = lines(out)
    assert found[:-1] == expected[:-1]  # the zombie writes on: each end is that of its moment
    assert found[-1]["status"] == expected[-1]["status"] == "completed"
    assert [event["type"] for event in found].count("token") == 60


async def test_a_snapshot_is_what_stands_and_where_to_go_on(node, client, redis_url):
    """Of a workflow that has ended: the text of each call, and after its cursor only the end."""
    async with played(client, redis_url, Script(Speech(calls=2, tokens=10))) as (handle, _):
        (result,) = await handle.result()
        command = program(node, "redis", redis_url, client, handle.id, leaving="snapshot")
        (shown,) = await read(command)
        rest = await read([*program(node, "redis", redis_url, client, handle.id), shown["cursor"]])

    assert sorted(call["text"] for call in shown["calls"]) == sorted(result.values())
    assert all(call["ended"] and call["error"] is None for call in shown["calls"])
    assert [event["type"] for event in rest] == ["stream_ended"]


async def test_sealed_frames_are_opened_by_the_codec_of_the_client(node, client, redis_url):
    """A worker whose client encrypts: with the key all is read; without it that is an error."""
    address = client.service_client.config.target_host
    converter = replace(DataConverter.default, payload_codec=AesCodec("one"))
    sealed = await Client.connect(address, data_converter=converter)
    async with played(sealed, redis_url, Script(Speech(tokens=10))) as (handle, subscriber):
        await handle.result()
        command = program(node, "ioredis", redis_url, client, handle.id)
        found = lines(await printed(command, READ_KEYS="two,one"))
        expected = await ours(subscriber, handle.id)
        for keys in ({}, {"READ_KEYS": "other"}):
            with pytest.raises(AssertionError, match=r"CodecMismatch.*is encoded as"):
                await printed(command, **keys)

    assert found == expected
    assert [event["type"] for event in found].count("token") == 10


LOSSES = {
    "Redis never had it": None,
    "Redis lost all": lambda redis, stream: redis.delete(stream, f"{stream}:begun"),
    "Redis lost all but knows that there was something": lambda redis, stream: redis.delete(stream),
    "Redis lost the end": lambda redis, stream: _drop(redis, stream, 1, None),
    "Redis lost the middle": lambda redis, stream: _drop(redis, stream, 1, -1),
}


async def _drop(redis, stream, first, last):
    """Delete entries of a stream."""
    ids = [entry for entry, _ in await redis.xrange(stream)]
    await redis.xdel(stream, *ids[first:last])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("keys", [{}, {"READ_KEYS": "one"}], ids=["plain", "sealed"])
async def test_what_the_history_has_is_read_as_ours_reads_it(node, client, redis_url, loss, keys):
    """Frames and counts in results, with the same cursors; also by readers that leave after each event."""
    codec = AesCodec("one") if keys else None
    converter = replace(DataConverter.default, payload_codec=codec)
    writer = await Client.connect(client.service_client.config.target_host, data_converter=converter)
    lose = LOSSES[loss]
    script = Script(Speech(tokens=3, has_place=True), activities=2)
    async with played(writer, redis_url, script, stores=lose is not None) as (handle, subscriber):
        await handle.result()
        if lose is not None:
            async with Redis.from_url(redis_url) as redis:
                stream = StreamKey(client.namespace, handle.id, handle.first_execution_run_id)
                await lose(redis, Keys("tti:v1:").stream(stream))
        command = program(node, "ioredis", redis_url, client, handle.id)
        whole = lines(await printed(command, **keys))
        command = program(node, "redis", redis_url, client, handle.id, leaving=1)
        leaving = lines(await printed(command, **keys))
        expected = await ours(subscriber, handle.id)
        expected_of_leaving = await leaving_each_time(subscriber, handle.id)

    assert whole == expected
    assert leaving == expected_of_leaving
    said = [event["type"] for event in whole].count("token")
    assert said == 6 if lose is None else any(event["type"] == "gap" for event in whole)


def lines(text):
    """The events that a program printed."""
    return [json.loads(line) for line in text.splitlines()]


async def leaving_each_time(subscriber, workflow_id, cursor=None):
    """What our own reader yields to one that leaves after each event and comes back with its cursor."""
    found = []
    while not found or found[-1]["type"] != "stream_ended":
        cursor = found[-1]["cursor"] if found else cursor
        async with aclosing(subscriber.subscribe(workflow_id, cursor=cursor, runs="all")) as events:
            found.append((await anext(events)).to_json())
    return found


async def reset(client, workflow_id, run_id):
    """Do a run again from its first workflow task."""
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="a test",
            workflow_task_finish_event_id=3,
            request_id=uuid.uuid4().hex,
        )
    )


async def test_the_typescript_reader_passes_the_conformance_suite(node):
    """All named cases and a part of the streams; `make conformance` runs all."""
    cases = [*named_cases(), *await generated_cases(100)]

    found = await outcomes([node, str(BUILT / "dist" / "conformance.js")], cases)

    assert [outcome for outcome in found if outcome.wrong] == []
    assert len(found) == len(cases)


async def test_what_is_held_comes_out_as_ours_does(node):
    """`onRetry: "hold"` over the streams of the suite, some of them resumed: the same events and cursors."""
    cases = [await held(case) for case in [*named_cases(), *await generated_cases(300)]]

    found = await outcomes([node, str(BUILT / "dist" / "conformance.js")], cases)

    assert [outcome for outcome in found if outcome.wrong] == []
    assert sum(len(case.expected.get("events", ())) for case in cases) > 500


async def held(case):
    """The case for a reader that holds attempts back."""
    request = {**case.request, "hold": True}
    return replace(case, request=request, expected=await answer_to(request), is_exact=True)


async def test_the_folds_of_the_package_are_those_of_browsers(node):
    """One source: the package has `tti.js` as `changes`, and it passes what the suite has for it."""
    script = BUILT / "dist" / "changes.js"
    cases = await all_cases(generated=100, changes=True)

    found = await outcomes([node, str(FOLDER), str(script)], cases)

    assert script.read_bytes() == SCRIPT.read_bytes()
    assert [outcome for outcome in found if outcome.wrong] == []


def test_the_package_is_small_and_can_be_published():
    """`npm pack`, publint and attw have nothing to say against it."""
    packed = json.loads(subprocess.check_output(["npm", "pack", "--dry-run", "--json"], cwd=BUILT))  # noqa: S607
    (package,) = packed if isinstance(packed, list) else packed.values()
    names = {file["path"] for file in package["files"]}

    assert {"package.json", "README.md", "dist/index.js", "dist/index.d.ts"} <= names
    assert package["size"] < 40_000
    for tool in (["publint", "--strict"], ["attw", "--pack", ".", "--profile", "esm-only"]):
        subprocess.run(["npx", "--no-install", *tool], cwd=BUILT, check=True, capture_output=True)  # noqa: S603, S607


@pytest.mark.parametrize("example", ["route", "hono"])
async def test_an_example_serves_the_events_and_resumes(node, client, redis_url, example, monkeypatch):
    """A route handler as Next.js calls it, and a Hono app: server-sent events whose ids are cursors."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
    handlers = [node, str(BUILT / "tests" / "handlers.mjs")]
    async with played(client, redis_url, Script(Speech(tokens=20, delay=0.005))) as (handle, subscriber):
        whole = sent(await printed([*handlers, handle.id, example]))
        rest = sent(await printed([*handlers, handle.id, example, whole[9]["cursor"]]))
        expected = await ours(subscriber, handle.id)

    assert whole == expected
    assert rest == whole[10:]


def sent(text):
    """The events of a stream of server-sent events."""
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]


async def test_the_readme_shows_a_program_that_runs(node, client, redis_url):
    """The snippet of the client's README, with the connections of the examples."""
    readme = (ROOT / "clients" / "typescript" / "README.md").read_text(encoding="utf-8")
    snippet = readme.partition("```ts\n")[2].partition("```")[0]
    async with played(client, redis_url, Script(Speech(tokens=5))) as (handle, _):
        (result,) = await handle.result()
        program = BUILT / "examples" / "readme.mjs"
        connections = 'import { connection, redis, temporal } from "./connections.mjs";\n'
        leaving = "await connection.close();\nawait redis.quit();\n"
        program.write_text(connections + snippet.replace("order-7", handle.id) + leaving, encoding="utf-8")
        address = client.service_client.config.target_host
        out = await printed([node, str(program)], REDIS_URL=redis_url, TEMPORAL_ADDRESS=address)

    assert out == "".join(result.values())
