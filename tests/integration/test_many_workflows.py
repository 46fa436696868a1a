"""A changing set of workflows as one stream, on a real Temporal and a real Redis."""

import asyncio
import os
import random
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from temporalio import activity

from temporal_token_interceptor import (
    ConfigurationError,
    InvalidCursor,
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamEnded,
    StreamFailed,
    StreamNotFound,
    TokenSubscriber,
    TransportUnavailable,
)
from temporal_token_interceptor.protocol.positions import key_of, unpacked
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.rights import READER
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import Continuing, RunActivity, Waiting

MANY = int(os.environ.get("TTI_TEST_MANY", "12"))
"""Workflows that one reader follows; `make many` has a hundred."""

CUTS = 20 if MANY >= 100 else 8


@activity.defn
async def answer(argument):
    """Twelve words, with pauses; the first attempt of some fails after five."""
    words = [f"{argument}.{number} " for number in range(12)]
    fails = activity.info().attempt == 1 and str(argument).endswith("7")
    said = [*words[:5], ValueError("gone")] if fails else words
    return (await ScriptedChatModel.saying(*said, delay=0.01).ainvoke("?")).text


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


@pytest.fixture
async def queue(client, backend):
    async with streaming_worker(client, backend, [answer]) as task_queue:
        yield task_queue


async def start(client, queue, *ids, attempts=3):
    for number, workflow_id in enumerate(ids):
        await client.start_workflow(
            RunActivity.run, args=["answer", number, False, attempts], id=workflow_id, task_queue=queue
        )
    return ids


async def collect(many, into, *, at_most=None):
    async for workflow_id, event in many:
        into[workflow_id].append(event)
        if at_most is not None and (at_most := at_most - 1) == 0:
            return


@asynccontextmanager
async def named_backend(redis_url, redis_client):
    """A backend, and how many connections it has."""
    name = f"many-{uuid.uuid4().hex[:8]}"

    async def connections():
        return sum(one["name"] == name for one in await redis_client.client_list())

    async with RedisStreamBackend(f"{redis_url}?client_name={name}") as named:
        yield named, connections


# ---------------------------------------------------------------------- one cursor


async def test_many_workflows_cut_at_random_and_resumed_are_exact(
    client, redis_url, redis_client, backend, queue
):
    """Wherever my connection breaks, twenty times: each workflow's events are what `subscribe` yields."""
    chance = random.Random(MANY)
    ids = [unique("many") for _ in range(MANY)]
    starting = asyncio.ensure_future(start(client, queue, *ids))
    found, cursor, lengths, connected = defaultdict(list), None, [], 0
    for cut in range(CUTS + 1):
        async with (
            named_backend(redis_url, redis_client) as (another, connections),  # as a new process has it
            TokenSubscriber(client, another).subscribe_many(ids, cursor) as many,
        ):
            await collect(many, found, at_most=chance.randrange(1, MANY * 2) if cut < CUTS else None)
            connected = max(connected, await connections())
            cursor = await many.short_cursor()
            lengths.append((len(cursor), len(many.cursor)))
    await starting

    assert {*found} == {*ids}
    for workflow_id in ids:
        assert found[workflow_id] == await read_all(client, backend, workflow_id)
    print(  # noqa: T201 - what the run is for
        f"\n{MANY} workflows, {CUTS} cuts: a short cursor has at most {max(short for short, _ in lengths)} "
        f"characters, one with all places {max(whole for _, whole in lengths)}; {connected} connections"
    )
    assert max(short for short, _ in lengths) <= 200
    assert connected == 2


async def test_a_resumed_reader_gets_nothing_of_what_had_ended(client, backend, queue):
    """Behind the last event there is nothing: a reader that resumes there ends at once."""
    ids = await start(client, queue, *(unique("ended") for _ in range(3)))
    found = defaultdict(list)
    subscriber = TokenSubscriber(client, backend)
    async with subscriber.subscribe_many(ids) as many:
        await collect(many, found)
        cursor = many.cursor
    assert all(isinstance(events[-1], StreamEnded) for events in found.values())

    async with subscriber.subscribe_many(ids, cursor) as many:
        assert [one async for one in many] == []
        assert many.cursor == cursor


async def test_a_cursor_names_no_workflow_by_itself(client, backend, queue):
    """I may take a cursor from a client: it decides where to go on, and not what is read."""
    mine, other = await start(client, queue, unique("mine"), unique("other"))
    subscriber = TokenSubscriber(client, backend)
    async with subscriber.subscribe_many([mine, other]) as many:
        found = defaultdict(list)
        await collect(many, found, at_most=10)
        cursor = many.cursor
    assert set(unpacked(cursor)) == {key_of(mine), key_of(other)}

    async with subscriber.subscribe_many([mine], cursor) as many:
        rest = defaultdict(list)
        await collect(many, rest)

    assert {*rest} == {mine}
    assert found[mine] + rest[mine] == await read_all(client, backend, mine)


async def test_a_short_cursor_is_kept_where_readers_may_write_one_key(
    client, redis_url, redis_client, backend, queue
):
    """With the documented right beside the reader's; without it the error comes within the patience."""
    ids = await start(client, queue, *(unique("rights") for _ in range(8)))
    for rights, works in (([*READER, "+set"], True), (READER, False)):
        name = f"tti-{uuid.uuid4().hex[:8]}"
        await redis_client.execute_command("ACL", "SETUSER", name, "on", ">secret", "~tti:v1:*", *rights)
        url = redis_url.replace("redis://", f"redis://{name}:secret@")
        try:
            async with (
                RedisStreamBackend(url, patience=timedelta(seconds=0.3)) as limited,
                TokenSubscriber(client, limited).subscribe_many(ids) as many,
            ):
                await collect(many, defaultdict(list))
                assert len(many.cursor) > 200
                if works:
                    assert len(await many.short_cursor()) < 40
                else:
                    with pytest.raises(TransportUnavailable, match="rights"):
                        await many.short_cursor()
        finally:
            await redis_client.execute_command("ACL", "DELUSER", name)


async def test_a_short_cursor_that_has_expired_is_refused(client, backend, redis_client):
    subscriber = TokenSubscriber(client, backend)
    with pytest.raises(InvalidCursor, match="any more"):
        async with subscriber.subscribe_many(["one"], "s1." + "0" * 32):
            pass
    for none in (None, MemoryStreamBackend()):
        with pytest.raises(InvalidCursor, match="any more"):
            async with TokenSubscriber(client, none).subscribe_many(["one"], "s1." + "0" * 32):
                pass


# ---------------------------------------------------------------------- each ends alone


async def test_a_workflow_that_cannot_be_read_does_not_end_the_others(client, backend, queue):
    """It is reported in the stream, with the error, and can be added again once it is there."""
    good, bad = unique("good"), unique("bad")
    await start(client, queue, good)
    subscriber = TokenSubscriber(client, backend)
    found = defaultdict(list)
    async with subscriber.subscribe_many([bad, good], start_timeout=timedelta(0)) as many:
        async for workflow_id, event in many:
            found[workflow_id].append(event)
            if isinstance(event, StreamFailed):
                assert workflow_id not in many.workflows
                await start(client, queue, bad)
                many.add(bad)

    assert found[good] == await read_all(client, backend, good)
    assert isinstance(found[bad][0].error, StreamNotFound)
    assert found[bad][0].cursor == ""
    assert found[bad][1:] == await read_all(client, backend, bad)


async def test_a_workflow_that_failed_and_one_that_continued_end_as_they_did(client, backend, queue):
    """Each has an end of its own, as Temporal says."""
    failed, going_on = unique("failed"), unique("continued")
    handle = await client.start_workflow(Waiting.run, args=["answer"], id=failed, task_queue=queue)
    await client.start_workflow(Continuing.run, args=["answer", 2], id=going_on, task_queue=queue)
    await handle.signal(Waiting.end, "fail")
    found = defaultdict(list)
    async with TokenSubscriber(client, backend).subscribe_many([failed, going_on]) as many:
        await collect(many, found)

    assert (found[failed][-1].status, found[going_on][-1].status) == ("failed", "completed")
    assert found[going_on] == await read_all(client, backend, going_on, runs="all")


# ---------------------------------------------------------------------- a changing set


async def test_workflows_come_and_go_while_others_are_read(client, backend, queue):
    """One that is removed is gone at once; it goes on from its last event where it is added with that."""
    first, second, third = (unique("set") for _ in range(3))
    await start(client, queue, first, second)
    found = defaultdict(list)
    async with TokenSubscriber(client, backend).subscribe_many([first, second]) as many:
        async for workflow_id, event in many:
            found[workflow_id].append(event)
            if len(found[first]) == 3 and workflow_id == first:
                many.remove(first)
                assert many.workflows == {second}
                await start(client, queue, third)
                many.add(third)
                many.add(third)  # a second time changes nothing
            if len(found[third]) == 3 and workflow_id == third:
                assert len(found[first]) == 3
                many.add(first, cursor=found[first][-1].cursor)

    for workflow_id in (first, second, third):
        assert found[workflow_id] == await read_all(client, backend, workflow_id)


async def test_ids_may_come_one_by_one(client, backend, queue):
    """From whatever iterates: a queue, a message broker; the stream ends when that and the workflows have."""
    ids = [unique("fed") for _ in range(4)]
    closed = asyncio.Event()

    async def fed():
        try:
            for workflow_id in ids:
                await start(client, queue, workflow_id)
                yield workflow_id
                await asyncio.sleep(0.02)
        finally:
            closed.set()

    found = defaultdict(list)
    async with TokenSubscriber(client, backend).subscribe_many(fed()) as many:
        await collect(many, found)
    assert {*found} == {*ids}
    assert closed.is_set()

    async def broken():
        yield ids[0]
        raise KeyError("mine")

    async with TokenSubscriber(client, backend).subscribe_many(broken()) as many:
        with pytest.raises(KeyError, match="mine"):
            await collect(many, found)


async def test_a_query_finds_workflows_now_and_later(client, backend, queue):
    """I name no workflow: whatever of this task queue runs is read, also again under the same id."""
    first, second = unique("query"), unique("query")
    await start(client, queue, first)
    found, ends, done = defaultdict(list), 0, asyncio.Event()
    async with TokenSubscriber(client, backend).subscribe_many(
        query=f"TaskQueue = '{queue}'", query_interval=timedelta(seconds=0.1), until=done.wait()
    ) as many:
        async for workflow_id, event in many:
            found[workflow_id].append(event)
            ends += isinstance(event, StreamEnded)
            if isinstance(event, StreamEnded) and ends < 3:
                await start(client, queue, second if ends == 1 else first)
            elif ends == 3:
                done.set()

    assert {*found} == {first, second}
    assert found[second] == await read_all(client, backend, second)
    again = await read_all(client, backend, first)
    assert found[first][-len(again) :] == again
    assert [type(event) for event in found[first]].count(StreamEnded) == 2


async def test_what_is_removed_stays_removed_while_a_query_finds_it(client, backend, queue):
    """The query goes on to find it, round after round; `add` alone brings it back, from its beginning."""
    kept, removed = unique("kept"), unique("removed")
    await start(client, queue, removed, kept)
    found, again, late, done = [], [], "", asyncio.Event()
    async with TokenSubscriber(client, backend).subscribe_many(
        query=f"TaskQueue = '{queue}'", query_interval=timedelta(seconds=0.02), until=done.wait()
    ) as many:
        async for workflow_id, event in many:
            if workflow_id != removed:
                if isinstance(event, StreamEnded) and workflow_id == kept:
                    (late,) = await start(client, queue, unique("late"))
                elif isinstance(event, StreamEnded):
                    many.add(removed)  # that the query found another one shows that it went on
                    late = ""
            elif len(found) < 3:
                found.append(event)
                if len(found) == 3:
                    many.remove(removed)
            else:
                assert not late, "it was not added yet"
                again.append(event)
                if isinstance(event, StreamEnded):
                    done.set()

    assert again == await read_all(client, backend, removed)
    assert found == again[:3]


@pytest.mark.parametrize("odd", [7, "", None, ("id", "run")], ids=repr)
async def test_what_is_no_id_is_refused_and_not_left_out(client, backend, odd):
    """Such as a handle in place of its id."""
    subscriber = TokenSubscriber(client, backend)

    async def ids():
        yield odd

    for workflows in ([odd], ids()):
        async with subscriber.subscribe_many(workflows) as many:
            with pytest.raises(ConfigurationError, match="by their ids"):
                await anext(many)
    async with subscriber.subscribe_many(keep_open=True) as many:
        with pytest.raises(ConfigurationError, match="by their ids"):
            many.add(odd)


async def test_only_so_many_are_read_at_once(client, backend, queue):
    """A set larger than the bound is read, too: the next one begins when one has ended."""
    ids = await start(client, queue, *(unique("bound") for _ in range(6)))
    found, open_now, most = defaultdict(list), set(), 0
    async with TokenSubscriber(client, backend).subscribe_many(ids, at_once=2) as many:
        async for workflow_id, event in many:
            found[workflow_id].append(event)
            open_now.add(workflow_id)
            most = max(most, len(open_now))
            if isinstance(event, StreamEnded):
                open_now.discard(workflow_id)

    assert most <= 2
    assert {workflow_id: standing_text(events) for workflow_id, events in found.items()} == {
        workflow_id: "".join(f"{number}.{word} " for word in range(12))
        for number, workflow_id in enumerate(ids)
    }


async def test_a_set_that_is_kept_open_waits_for_more(client, backend, queue):
    """With `keep_open` it waits when all have ended, and ends by `until`."""
    (workflow_id,) = await start(client, queue, unique("open"))
    done = asyncio.Event()
    subscriber = TokenSubscriber(client, backend)
    async with subscriber.subscribe_many(keep_open=True, until=done.wait()) as many:
        waiting = asyncio.ensure_future(anext(many))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        many.add(workflow_id)
        events = [await waiting]
        async for one in many:
            events.append(one)
            if isinstance(one[1], StreamEnded):
                done.set()
    assert [event for _, event in events] == await read_all(client, backend, workflow_id)


# ---------------------------------------------------------------------- its life


async def test_leaving_early_frees_everything(client, redis_url, redis_client, backend, queue):
    """After the `async with` no task and no stream is left; what it had is not lost with it."""
    ids = await start(client, queue, *(unique("leave") for _ in range(5)))
    async with named_backend(redis_url, redis_client) as (another, _):
        async with TokenSubscriber(client, another).subscribe_many(ids) as many:
            found = defaultdict(list)
            await collect(many, found, at_most=7)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if any(workflow_id in name for workflow_id in ids)]
        with pytest.raises(ConfigurationError, match="async with"):
            await anext(many)
        with pytest.raises(ConfigurationError, match="was left"):
            many.add("another")
        async with TokenSubscriber(client, another).subscribe_many(ids, many.cursor) as rest:
            await collect(rest, found)
    for workflow_id in ids:
        assert found[workflow_id] == await read_all(client, backend, workflow_id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workflows": "one"}, "ids"),
        ({"workflows": ["one"], "query": "WorkflowType = 'a'"}, "both"),
        ({"at_once": 0}, "at_once"),
        ({"start": "middle"}, "start"),
        ({"cursor": "1~run~~0"}, "several workflows"),
        ({"query": "", "query_interval": timedelta(0)}, "query_interval"),
    ],
)
async def test_what_cannot_be_read_is_refused_at_once(client, options, message):
    with pytest.raises(ConfigurationError, match=message):
        TokenSubscriber(client).subscribe_many(**options)


async def test_lists_of_events_are_the_events(client, backend, queue):
    """`subscribe_batches`: fewer turns of the loop, and the same events."""
    (workflow_id,) = await start(client, queue, unique("lists"))
    lists = [events async for events in TokenSubscriber(client, backend).subscribe_batches(workflow_id)]
    whole = await read_all(client, backend, workflow_id)

    assert [event for events in lists for event in events] == whole
    assert all(lists)
    again = TokenSubscriber(client, backend).subscribe_batches(workflow_id, cursor=lists[0][-1].cursor)
    assert [event async for events in again for event in events] == whole[len(lists[0]) :]
