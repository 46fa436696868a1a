"""A subscriber for programs that are not async: plain loops, in any thread, freed when they are left."""

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import activity

from temporal_token_interceptor import (
    BlockingSubscriber,
    ConfigurationError,
    InvalidCursor,
    RedisStreamBackend,
    StreamEnded,
    StreamNotFound,
    TokenEvent,
    TokenSubscriber,
    stream_graph,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.shapes import QUESTION, graph, node
from tests.support.plain_loops import blocking_subscriber, silent_workflow
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.workflows import Branch, RunActivity

WORDS = ["Plain ", "loops ", "in ", "threads."]
ANSWER = ["answer", None, False, 1, 10]  # no test of heartbeats: a full machine may be late with one
ROOT = Path(__file__).parents[2]


@activity.defn
async def answer(argument):
    return (await ScriptedChatModel.saying(*WORDS, delay=0.01).ainvoke("?")).text


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


@pytest.fixture
async def answered(client, backend):
    """The id of a workflow that has answered."""
    async with streaming_worker(client, backend, [answer]) as queue:
        workflow_id = unique("plain")
        await client.execute_workflow(RunActivity.run, args=ANSWER, id=workflow_id, task_queue=queue)
        yield workflow_id


@pytest.fixture
async def silent(client):
    async with silent_workflow(client) as workflow_id:
        yield workflow_id


@pytest.fixture
def subscriber(client, redis_url):
    """Made in whichever thread first uses it."""
    with blocking_subscriber(client, redis_url) as subscriber:
        yield subscriber


async def tasks(_):
    """How many tasks there are on the loop of the thread."""
    return len(asyncio.all_tasks())


def wait_until(is_so):
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------------- the same


async def test_plain_loops_have_what_async_loops_have(client, backend, answered, subscriber):
    """Each method, by the same name and with the same arguments."""
    whole = await read_all(client, backend, answered)
    here = TokenSubscriber(client, backend)

    def read():
        events = list(subscriber.subscribe(answered))
        assert list(subscriber.subscribe(answered, cursor=events[3].cursor)) == events[4:]
        assert [token.token for token in subscriber.tokens(answered)] == WORDS
        assert subscriber.text(answered) == "".join(WORDS)
        return events, subscriber.snapshot(answered), list(subscriber.messages(answered, on_retry="hold"))

    events, snapshot, messages = await asyncio.to_thread(read)

    assert events == whole
    assert snapshot == await here.snapshot(answered)
    assert [chunk.text for chunk, _ in messages] == [
        chunk.text async for chunk, _ in here.messages(answered, on_retry="hold")
    ]


async def test_many_workflows_are_one_plain_loop(client, backend, answered, silent, subscriber):
    """`subscribe_many`, with `add`, `remove` and cursors."""

    def read():
        found = []
        with subscriber.subscribe_many([silent]) as many:
            many.add(answered)
            for workflow_id, event in many:
                found.append(event)
                assert workflow_id == answered
                if isinstance(event, StreamEnded):
                    assert many.workflows >= {silent}
                    many.remove(silent)
            return found, many.cursor, many.short_cursor()

    found, cursor, short = await asyncio.to_thread(read)

    assert found == await read_all(client, backend, answered)
    assert cursor == short


@activity.defn
async def agree(argument):
    """A graph that says what it does in LangGraph's modes."""
    nodes = {"plan": ["hm"], "write": WORDS}
    compiled = graph(*((name, node(ScriptedChatModel.saying(*words))) for name, words in nodes.items()))
    await stream_graph(compiled, QUESTION, modes=["values", "updates"])


@activity.defn
async def speak(words):
    return (await ScriptedChatModel.saying(*words.split()).ainvoke("?")).text


async def test_langgraphs_streams_are_plain_loops(client, backend, subscriber):
    """`stream` is `graph.stream`, as `astream` is `graph.astream`; a wait moves no cursor."""
    workflow_id, here = unique("graph"), TokenSubscriber(client, backend)
    async with streaming_worker(client, backend, [agree]) as queue:
        await client.execute_workflow(RunActivity.run, args=["agree"], id=workflow_id, task_queue=queue)

    def read():
        found, cursors = [], []
        with subscriber.stream(workflow_id, stream_mode=["values", "messages"]) as stream:
            while (cursor := stream.cursor) is not None and stream.wait() and stream.cursor == cursor:
                try:
                    found.append(next(stream))
                except StopIteration:
                    break
                cursors.append(stream.cursor)
            assert stream.origin.activity_type == "agree"
        options = {"stream_mode": ["values", "messages"]}
        assert list(subscriber.stream(workflow_id, cursor=cursors[2], **options)) == found[3:]
        return found, list(subscriber.events_v2(workflow_id)), list(subscriber.protocol_events(workflow_id))

    items, events, protocol = await asyncio.to_thread(read)

    assert items == [one async for one in here.astream(workflow_id, stream_mode=["values", "messages"])]
    assert [mode for mode, _ in items].count("values") == 3
    assert events == [one async for one in here.events_v2(workflow_id)]
    assert protocol == [one async for one in here.protocol_events(workflow_id)]
    assert len(events) > 3 < len(protocol)


async def test_a_tree_is_a_plain_loop_that_resumes(client, backend, subscriber):
    """`children=True`: what children say is there, and a cursor goes on after any event in all of them."""
    root = unique("tree")
    child = {"id": f"{root}-child", "words": "the child", "children": []}
    async with streaming_worker(client, backend, [speak]) as queue:
        plan = {"id": root, "words": "the root", "children": [child]}
        await client.execute_workflow(Branch.run, plan, id=root, task_queue=queue)

    def texts(events):
        return [event.token for event in events if isinstance(event, TokenEvent)]

    def read():
        whole = list(subscriber.subscribe(root, children=True))
        with subscriber.subscribe(root, children=True) as tree:
            first = [next(tree) for _ in range(5)]
            cursor = tree.cursor
            assert tree.wait()
            assert tree.cursor == cursor, "the next event is there, and was not taken"
            assert len(tree.short_cursor()) < 200
            first.append(next(tree))
            assert tree.cursor != cursor
        rest = list(subscriber.subscribe(root, cursor=tree.cursor, children=True))
        return whole, first + rest

    whole, resumed = await asyncio.to_thread(read)

    assert sorted(texts(whole)) == sorted(texts(resumed)) == ["child", "root", "the", "the"]
    assert {event.origin.parent for event in whole if event.origin} == {None, root}
    assert isinstance(whole[-1], StreamEnded)


@pytest.mark.parametrize(
    ("name", "original"),
    [
        *((name, name) for name in ("subscribe", "subscribe_activity", "tokens", "messages", "events_v2")),
        *((name, name) for name in ("protocol_events", "text", "snapshot", "run")),
        ("stream", "astream"),
    ],
)
def test_a_method_takes_what_that_of_the_async_subscriber_takes(name, original):
    """Names, order and defaults: what is added there has to be added here."""
    here, there = (
        {each.name: (each.kind, each.default) for each in inspect.signature(method).parameters.values()}
        for method in (getattr(BlockingSubscriber, name), getattr(TokenSubscriber, original))
    )
    assert list(here.items()) == list(there.items())


async def test_errors_are_those_of_the_async_subscriber(subscriber, answered):
    def read():
        with pytest.raises(InvalidCursor):
            subscriber.subscribe(answered, cursor="nonsense")
        with pytest.raises(StreamNotFound, match="check the id"):
            list(subscriber.subscribe(unique("none"), start_timeout=timedelta(0)))

    await asyncio.to_thread(read)


async def test_threads_may_share_one(client, backend, answered, subscriber):
    """One object is enough for a process: eight threads read by it at once."""
    texts = await asyncio.gather(*(asyncio.to_thread(subscriber.text, answered) for _ in range(8)))

    assert texts == ["".join(WORDS)] * 8
    assert sum(thread.name == "token-stream-loop" for thread in threading.enumerate()) == 1


# ---------------------------------------------------------------------- waiting, and leaving


async def test_a_loop_that_is_left_early_frees_its_stream(silent, answered, subscriber):
    """By `break`, by `with`, by `close` and by forgetting it, also while a wait is under way."""

    def read():
        subscriber.text(answered)
        before = subscriber.wait(tasks)

        def is_freed():
            return subscriber.wait(tasks) == before

        for event in subscriber.subscribe(answered):
            assert event
            break
        wait_until(is_freed)
        with subscriber.subscribe(answered) as events:
            assert next(events)
        wait_until(is_freed)
        waiting = subscriber.subscribe(silent)
        assert not waiting.wait(timedelta(seconds=0.05))
        assert not is_freed()
        waiting.close()
        wait_until(is_freed)
        assert waiting.wait()
        assert list(waiting) == []
        dropped = subscriber.subscribe(silent)
        assert not dropped.wait(timedelta(seconds=0.05))
        del dropped
        wait_until(is_freed)

    await asyncio.to_thread(read)


async def test_a_wait_with_a_limit_loses_nothing(client, backend, subscriber):
    """I look now and then whether the user has gone, and read on."""
    workflow_id, limit = unique("limit"), timedelta(seconds=0.02)
    async with streaming_worker(client, backend, [answer]) as queue:
        has_looked = threading.Event()

        def read():
            events, looks = [], 0
            with subscriber.subscribe(workflow_id) as stream:
                while not events or not isinstance(events[-1], StreamEnded):
                    if stream.wait(limit):
                        events.append(next(stream))
                    else:
                        looks += 1
                    if looks > 3:
                        has_looked.set()
            return events, looks

        reading = asyncio.create_task(asyncio.to_thread(read))
        assert await asyncio.to_thread(has_looked.wait, 20)
        await client.execute_workflow(RunActivity.run, args=ANSWER, id=workflow_id, task_queue=queue)
        events, looks = await reading

    assert looks > 3
    assert events == await read_all(client, backend, workflow_id)


async def test_closing_ends_what_is_read_and_the_next_use_opens_again(silent, answered, subscriber):
    def read():
        stream = subscriber.subscribe(silent)
        assert not stream.wait(timedelta(seconds=0.02))
        subscriber.close()
        with pytest.raises(ConfigurationError, match="was closed"):
            next(stream)
        with pytest.raises(ConfigurationError, match="was closed"):
            stream.wait()
        return subscriber.text(answered)

    assert await asyncio.to_thread(read) == "".join(WORDS)


async def test_what_cannot_connect_says_so_and_leaves_no_thread():
    async def broken():
        raise ConfigurationError("no address")

    def read():
        with pytest.raises(ConfigurationError, match="no address"), BlockingSubscriber(broken):
            pass

    await asyncio.to_thread(read)
    assert not any(thread.name == "token-stream-loop" for thread in threading.enumerate())


# A script's shell lets what it starts in the background ignore Ctrl-C: `make test &`.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from contextlib import asynccontextmanager
from temporalio.client import Client
from temporal_token_interceptor import BlockingSubscriber, RedisStreamBackend, TokenSubscriber

@asynccontextmanager
async def connecting():
    async with RedisStreamBackend(sys.argv[2]) as backend:
        yield TokenSubscriber(await Client.connect(sys.argv[1]), backend)

subscriber = BlockingSubscriber(connecting)
for workflow_id in sys.argv[3:]:
    print("reading", workflow_id, flush=True)
    for event in subscriber.subscribe(workflow_id):
        pass
"""


@pytest.mark.parametrize("interrupted", [True, False], ids=["Ctrl-C", "without closing"])
async def test_a_program_ends_by_itself_and_by_ctrl_c(client, redis_url, answered, silent, interrupted):
    """Neither needs a call to `close`, and none hangs."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-X",
        "faulthandler",
        "-c",
        PROGRAM,
        client.service_client.config.target_host,
        redis_url,
        answered,
        *([silent] if interrupted else []),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    with suppress(asyncio.IncompleteReadError):  # it ended too early: its errors say why
        await program.stdout.readuntil((silent if interrupted else answered).encode())
    # A program that hangs says where: the signal makes it print the stacks of its threads. Counted from here:
    # on a full machine the imports alone take as long.
    hanging = asyncio.get_running_loop().call_later(20, program.send_signal, signal.SIGABRT)
    if interrupted:
        await asyncio.sleep(0.3)  # nothing shows that it waits; Ctrl-C before that ends it as well
        with suppress(ProcessLookupError):
            program.send_signal(signal.SIGINT)
    _, errors = await program.communicate()
    hanging.cancel()

    lines = errors.decode().strip().splitlines()
    assert (lines[-1:] == ["KeyboardInterrupt"]) is interrupted, errors
    assert (program.returncode == 0) is not interrupted
