"""A workflow and all that it starts as one stream, on a real Temporal and a real Redis."""

import asyncio
import os
import random
from collections import Counter, defaultdict
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest, ResetWorkflowExecutionRequest
from temporalio.common import RetryPolicy
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporal_token_interceptor import (
    AttemptStarted,
    ConfigurationError,
    Gap,
    InvalidCursor,
    RedisStreamBackend,
    RunContinued,
    StreamEnded,
    TokenEvent,
    TokenStreamError,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.temporal import children
from temporal_token_interceptor.reader.temporal.children import in_namespace
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.workflows import Branch

IDLE = 3.0 if "TTI_TEST_MANY" in os.environ else 1.0
"""Seconds that a tree waits for something to start; `make many` has three."""


@activity.defn
async def speak(words):
    """The words, each with a pause; some fail once, in the middle."""
    pieces = [f"{word} " for word in str(words).split()]
    if "stumbling" in words and activity.info().attempt == 1:
        pieces = [*pieces[:1], ValueError("gone")]  # type: ignore[list-item]
    return (await ScriptedChatModel.saying(*pieces, delay=0.01).ainvoke("?")).text


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


@pytest.fixture
async def queue(client, backend):
    async with streaming_worker(client, backend, [speak]) as task_queue:
        yield task_queue


def plan(name, *children, **more):
    return {"id": name, "words": f"I am {name}", "children": list(children), **more}


def a_tree(root):
    """Three levels, twelve children: one retried, one continued as new, one started late; some stumble."""
    return plan(
        root,
        plan(f"{root}-a", *(plan(f"{root}-a{n}") for n in range(2)), plan(f"{root}-a2", fails=True)),
        plan(
            f"{root}-b",
            plan(f"{root}-b0", goes_on=True),
            plan(f"{root}-b1", words="a stumbling child"),
            plan(f"{root}-b2", words=""),
        ),
        plan(f"{root}-c", *(plan(f"{root}-c{n}") for n in range(3)), late=True),
    )


def all_plans(one, parent=None):
    yield one, parent
    for child in one["children"]:
        yield from all_plans(child, one["id"])


async def start(client, queue, what):
    return await client.start_workflow(Branch.run, what, id=what["id"], task_queue=queue)


async def first_run(client, workflow_id):
    raw = (await client.get_workflow_handle(workflow_id).describe()).raw_description
    return raw.workflow_execution_info.first_run_id


async def check(client, backend, tree_plan, events):
    """Each event of each workflow once, in its order, with its parent; and the root's end is the end."""
    found = defaultdict(list)
    for event in events[:-1]:
        found[tree_plan["id"] if event.origin is None else event.origin.workflow_id].append(event)
    for one, parent in all_plans(tree_plan):
        run_id = await first_run(client, one["id"])
        whole = (await read_all(client, backend, one["id"], run_id=run_id))[:-1]
        if parent is None:
            assert found.pop(one["id"]) == whole
            continue
        for event in found[one["id"]]:
            assert event.origin.parent == parent
        alone = [without_parent(event) for event in found.pop(one["id"], [])]
        assert alone == [event for event in whole if not isinstance(event, RunContinued)]
    assert found == {}
    assert [type(event) for event in events if isinstance(event, (StreamEnded, Gap))] == [StreamEnded]


def without_parent(event):
    changes = {"origin": replace(event.origin, parent=None)}
    if isinstance(event, AttemptStarted) and event.supersedes is not None:
        changes["supersedes"] = replace(event.supersedes, parent=None)
    return replace(event, **changes)


# ---------------------------------------------------------------------- the whole


async def test_a_tree_of_three_levels_is_one_stream(client, backend, queue):
    """Twelve children, one retried, one continued as new, one started late: every token once, attributed."""
    tree_plan = a_tree(unique("tree"))
    await start(client, queue, tree_plan)
    live = [
        event async for event in TokenSubscriber(client, backend).subscribe(tree_plan["id"], children=True)
    ]
    await check(client, backend, tree_plan, live)
    assert len(list(all_plans(tree_plan))) == 13
    assert live[-1].status == "completed"
    late = [
        event async for event in TokenSubscriber(client, backend).subscribe(tree_plan["id"], children=True)
    ]
    await check(client, backend, tree_plan, late)

    spoken = Counter(event.origin.workflow_id for event in live if isinstance(event, TokenEvent))
    root = tree_plan["id"]
    assert spoken[f"{root}-a2"] == 6, "both runs of the one that is retried"
    assert spoken[f"{root}-b0"] == 7, "both runs of the one that continues"
    assert spoken[f"{root}-b1"] == 4, "one word of the attempt that failed, and the three of the next"


async def test_a_tree_cut_at_random_and_resumed_is_exact(client, redis_url, backend, queue):
    """Wherever my connection breaks, in whichever workflow: nothing is lost and nothing comes twice."""
    chance = random.Random(16)
    tree_plan = a_tree(unique("cut"))
    await start(client, queue, tree_plan)
    events, cursor, cuts = [], None, 0
    while not events or not isinstance(events[-1], StreamEnded):
        async with RedisStreamBackend(redis_url) as another:
            tree = TokenSubscriber(client, another).subscribe(tree_plan["id"], None, cursor, children=True)
            left = chance.randrange(1, 12)
            async with aclosing(tree):
                async for event in tree:
                    events.append(event)
                    left -= 1
                    if not left:
                        break
            cursor = await tree.short_cursor() if cuts % 2 else tree.cursor
            cuts += 1
    assert cuts > 10
    await check(client, backend, tree_plan, events)

    tree = TokenSubscriber(client, backend).subscribe(tree_plan["id"], cursor=cursor, children=True)
    assert [event async for event in tree] == events[-1:]


async def test_what_is_held_comes_once_it_stands(client, backend, queue):
    """With `on_retry="hold"` nothing is taken back, in children neither."""
    tree_plan = plan(unique("hold"))
    tree_plan["children"] = [plan(f"{tree_plan['id']}-a", words="a stumbling child")]
    await start(client, queue, tree_plan)
    tree = TokenSubscriber(client, backend).subscribe(tree_plan["id"], on_retry="hold", children=True)
    events = [event async for event in tree]

    said = Counter(event.origin.workflow_id for event in events if isinstance(event, TokenEvent))
    assert said == {tree_plan["id"]: 3, f"{tree_plan['id']}-a": 3}


async def test_a_tree_without_redis_is_read_from_heartbeats(client):
    """The same names without a backend."""
    tree_plan = plan(unique("plain"))
    tree_plan["children"] = [plan(f"{tree_plan['id']}-a", plan(f"{tree_plan['id']}-a0"))]
    task_queue = unique("queue")
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[Branch],
        activities=[speak_for_long],
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TokenStreamingPlugin()],
        max_heartbeat_throttle_interval=timedelta(seconds=0.1),
    ):
        await start(client, task_queue, tree_plan)
        tree = TokenSubscriber(client).subscribe(tree_plan["id"], children=True)
        events = [event async for event in tree]

    parents = {event.origin.workflow_id: event.origin.parent for event in events if event.origin}
    assert parents == {one["id"]: parent for one, parent in all_plans(tree_plan)}
    assert events[-1].status == "completed"


@activity.defn(name="speak")
async def speak_for_long(words):
    return (await ScriptedChatModel.saying(*str(words).split(), delay=0.3).ainvoke("?")).text


# ---------------------------------------------------------------------- from where, and up to where


async def test_a_tree_ends_with_its_root(client, backend, queue):
    """What is abandoned goes on speaking; the tree has what it had said, and ends."""
    root = unique("root")
    await start(client, queue, plan(root, plan(f"{root}-a", abandoned=True, waits=True)))
    async with asyncio.timeout(20):
        events = [event async for event in TokenSubscriber(client, backend).subscribe(root, children=True)]
    await client.get_workflow_handle(f"{root}-a").signal("go_on")

    assert events[-1].status == "completed"
    assert {event.origin.workflow_id for event in events if event.origin} >= {root}
    whole = await read_all(client, backend, f"{root}-a")
    had = [without_parent(event) for event in events if event.origin and event.origin.parent == root]
    assert had == whole[: len(had)]


async def test_a_tree_from_now_on_has_what_starts_later_whole(client, backend, queue):
    """What was said before is left out, of the root and of the children there are; a new child is whole."""
    root = unique("now")
    early, late = plan(f"{root}-a", waits=True), plan(f"{root}-b", late=True)
    handle = await start(client, queue, plan(root, early, late, words="one", waits=True))
    subscriber = TokenSubscriber(client, backend)
    async with aclosing(subscriber.subscribe(f"{root}-a", start_timeout=timedelta(seconds=5))) as events:
        async for event in events:
            if type(event).__name__ == "AttemptEnded":
                break
    async with aclosing(subscriber.subscribe(f"{root}-b", start_timeout=timedelta(seconds=5))) as events:
        async for event in events:
            if type(event).__name__ == "AttemptEnded":
                break
    tree = subscriber.subscribe(root, start="now", children=True)
    first = asyncio.ensure_future(anext(tree, None))
    await asyncio.sleep(0.3)
    assert not first.done(), "all of it was said before"
    await client.get_workflow_handle(f"{root}-a").signal("go_on")
    await handle.signal("go_on")

    assert [await first, *[event async for event in tree]][-1].status == "completed"


async def test_the_child_of_a_reset_workflow_is_there_once(client, backend, queue):
    """A reset repeats the history of the run before, with the children that it names."""
    root = unique("reset")
    handle = await start(client, queue, plan(root, plan(f"{root}-a"), waits=True))
    subscriber = TokenSubscriber(client, backend)
    tree = subscriber.subscribe(root, children=True)
    events = []
    async for event in tree:
        events.append(event)
        spoke = Counter(one.origin.workflow_id for one in events if type(one).__name__ == "AttemptEnded")
        if spoke.keys() == {root, f"{root}-a"} and not any(isinstance(one, RunContinued) for one in events):
            break
    history = await handle.fetch_history()
    completed = "workflow_task_completed_event_attributes"
    tasks = [one.event_id for one in history.events if one.HasField(completed)]
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=root),
            reason="test",
            request_id=root,
            workflow_task_finish_event_id=tasks[-1],
        )
    )
    await client.get_workflow_handle(root).signal("go_on")
    events += [event async for event in tree]

    of_child = [without_parent(event) for event in events if event.origin and event.origin.parent]
    assert of_child == (await read_all(client, backend, f"{root}-a"))[:-1]
    assert [type(event) for event in events if event.origin is None] == [RunContinued, StreamEnded]


async def test_nothing_is_asked_while_nothing_starts(client, backend, queue, monkeypatch):
    """A tree that waits costs two long polls for each workflow, of 20 seconds each, and nothing else."""
    root = unique("idle")
    handle = await start(client, queue, plan(root, plan(f"{root}-a", waits=True), waits=True))
    asked = Counter()
    service = client.workflow_service

    def count(name):
        call = getattr(service, name)

        async def counted(*args, **more):
            asked[name] += 1
            return await call(*args, **more)

        monkeypatch.setattr(service, name, counted)

    for name in ("get_workflow_execution_history", "describe_workflow_execution", "list_workflow_executions"):
        count(name)

    tree = TokenSubscriber(client, backend).subscribe(root, children=True)
    spoke = set()
    async for event in tree:
        if type(event).__name__ == "AttemptEnded":
            spoke.add(event.origin.workflow_id)
            if len(spoke) == 2:
                break
    waiting = asyncio.ensure_future(anext(tree))
    await asyncio.sleep(0.3)  # what came last is asked about
    asked.clear()
    await asyncio.sleep(IDLE)
    idle = Counter(asked)
    await client.get_workflow_handle(f"{root}-a").signal("go_on")
    await handle.signal("go_on")
    rest = [await waiting, *[event async for event in tree]]

    print(f"\na tree of two workflows, waiting for {IDLE:g} s: {dict(idle)}")  # noqa: T201 - a measurement
    assert idle.total() <= 4, "at most one round of long polls ends by chance"
    assert rest[-1].status == "completed"


async def test_a_reader_that_resumes_between_a_run_and_its_retry_takes_back_the_same(client, backend, queue):
    """Also of one workflow: a reader that resumes right before the retry learns what it replaces."""
    workflow_id = unique("retried")
    await client.execute_workflow(
        Branch.run,
        plan(workflow_id, fails=True),
        id=workflow_id,
        task_queue=queue,
        retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=20)),
    )
    whole = await read_all(client, backend, workflow_id, runs="all")
    assert [event.supersedes is None for event in whole if isinstance(event, AttemptStarted)] == [True, False]

    for kept in range(len(whole) - 1):
        rest = await read_all(client, backend, workflow_id, cursor=whole[kept].cursor)
        assert whole[: kept + 1] + rest == whole


async def test_a_child_that_cannot_be_read_is_a_gap(client, backend, queue, monkeypatch, caplog):
    """Its namespace is none that I may read: the others come, and the gap and the log say what is missing."""
    root = unique("gap")
    await start(client, queue, plan(root, plan(f"{root}-a"), plan(f"{root}-b")))
    met = children._met

    def elsewhere(event, namespace, started):
        found = met(event, namespace, started)
        if isinstance(found, children.ChildStarted) and found.workflow_id.endswith("-b"):
            found = started[event.event_id] = found._replace(namespace="no-such-namespace")
        return found

    monkeypatch.setattr(children, "_met", elsewhere)
    events = [event async for event in TokenSubscriber(client, backend).subscribe(root, children=True)]

    gaps = [event for event in events if isinstance(event, Gap)]
    assert {gap.reason for gap in gaps} == {"transport"}
    assert len(gaps) <= 2, "its stream says so, and that it ended early"
    assert {event.origin.workflow_id for event in events if event.origin} == {root, f"{root}-a"}
    assert "no-such-namespace" in caplog.text
    assert events[-1].status == "completed"


async def test_a_child_of_another_namespace_is_read_there(client, backend):
    """Over the same connection, with the same data converter."""
    name = unique("other")
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
    )
    other = in_namespace(client, name)
    workflow_id = unique("there")
    async with asyncio.timeout(30):
        while True:  # a namespace is known everywhere a moment after it was registered
            try:
                await other.count_workflows("")
                break
            except RPCError:
                await asyncio.sleep(0.2)
        async with streaming_worker(other, backend, [speak]) as there:
            await start(other, there, plan(workflow_id, plan(f"{workflow_id}-a")))
            reads = TokenSubscriber(client, backend)._namespaces(name)
            request = ReadRequest(workflow_id=workflow_id)
            events = [event async for events in reads.batches(request) for event in events]
        assert events == await read_all(other, backend, workflow_id)
        run_id = await first_run(other, workflow_id)
        stop = asyncio.get_running_loop().create_future()
        found = [start async for start in reads.children(workflow_id, run_id, stop)]
    assert [one.namespace for one in found if isinstance(one, children.ChildStarted)] == [name]


# ---------------------------------------------------------------------- what is refused


async def test_a_cursor_of_something_else_and_a_tree_that_was_cut_are_refused(client, backend, queue):
    root = unique("refused")
    await start(client, queue, plan(root))
    subscriber = TokenSubscriber(client, backend)
    cut = subscriber.subscribe("never-started", children=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(cut), 0.05)
    with pytest.raises(TokenStreamError, match="was cancelled"):
        await anext(cut)
    last = (await read_all(client, backend, root))[-1]
    with pytest.raises(InvalidCursor, match="several workflows"):
        subscriber.subscribe(root, cursor=last.cursor, children=True)
    async with subscriber.subscribe_many([root]) as many:
        async for _ in many:
            pass
        tree = subscriber.subscribe(root, cursor=many.cursor, children=True)
    with pytest.raises(InvalidCursor, match="of a tree"):
        await anext(tree)
    with pytest.raises(ConfigurationError, match="Temporal client"):
        TokenSubscriber(None, backend).subscribe(root, children=True)
