"""What is published by hand, under a workflow id alone, as users of `deepagent-temporal` do."""

import asyncio
import logging
import os
import uuid

import pytest

from devservers import RedisServer, ServerUnavailable
from temporal_token_interceptor import (
    ConfigurationError,
    InvalidCursor,
    RedisStreamBackend,
    StreamEnded,
    TokenCapturingHandler,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.transport import manual_publishing as by_hand
from temporal_token_interceptor.transport.manual_publishing import hand_stream
from tests.support.streams import unique


@pytest.fixture
async def server():
    server = RedisServer()
    try:
        await server.start()
    except ServerUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    await server.stop()


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


async def subscribed(backend, workflow_id, **options):
    async with asyncio.timeout(10):
        return [said async for said in backend.subscribe(workflow_id, **options)]


def flat(token, index, *, final="0", node="agent", attempt="1"):
    return {
        "type": "token",
        "token": token,
        "node_name": node,
        "index": str(index),
        "is_final": final,
        "attempt": attempt,
    }


async def test_a_handler_of_my_own_publishes_as_it_did(backend):
    """My handler starts a task a token, as before; my client reads the same mappings, now in order."""
    workflow_id = unique("hand")
    tasks = []
    handler = TokenCapturingHandler(
        "agent", lambda event: tasks.append(asyncio.ensure_future(backend.publish(workflow_id, event)))
    )

    async for _ in ScriptedChatModel.saying("One ", "two ", "three").astream("?", {"callbacks": [handler]}):
        pass
    await asyncio.gather(*tasks)
    await backend.publish_complete(workflow_id)

    expected = [flat("One ", 0), flat("two ", 1), flat("three", 2), flat("", 3, final="1")]
    assert await subscribed(backend, workflow_id) == expected


async def test_a_subscriber_that_was_there_first_hears_it_live(backend):
    """Nothing is published yet; each token comes when it is said, before the end is."""
    workflow_id = unique("hand")
    stream = backend.subscribe(workflow_id, block_ms=1_000)
    first = asyncio.ensure_future(anext(stream))

    async with asyncio.timeout(10):
        await backend.publish(workflow_id, TokenEvent("now", "agent", 0))
        heard = await first
        await backend.publish_complete(workflow_id)
        rest = [said async for said in stream]

    assert heard == flat("now", 0)
    assert rest == []


async def test_several_nodes_and_attempts_publish_beside_each_other(redis_url, backend):
    """Two workers, two nodes, a retry: nothing is lost, and who said it is told."""
    workflow_id = unique("hand")
    async with RedisStreamBackend(redis_url) as other:
        for index in range(200):  # more than the frames from one header to the next
            await backend.publish(workflow_id, TokenEvent(f"a{index} ", "agent", index))
            await other.publish(workflow_id, TokenEvent(f"b{index} ", "tools", index, attempt=2))
        await other.publish(workflow_id, {"type": "progress", "done": 3})
    await backend.publish_complete(workflow_id)

    said = await subscribed(backend, workflow_id)

    assert [each for each in said if each["type"] != "token"] == [{"type": "progress", "done": "3"}]
    for node, letter, attempt in (("agent", "a", "1"), ("tools", "b", "2")):
        mine = [each for each in said if each.get("node_name") == node and each["token"]]
        assert mine == [flat(f"{letter}{index} ", index, node=node, attempt=attempt) for index in range(200)]


async def test_a_call_begins_with_the_index_nought(backend):
    """Two calls of one node are two calls to `TokenSubscriber`, which reads what is published, too."""
    workflow_id = unique("hand")
    for word in ("one", "two"):
        await backend.publish(workflow_id, TokenEvent(word, "agent", 0))
        await backend.publish(workflow_id, TokenEvent("", "agent", 1, is_final=True))
    await backend.publish_complete(workflow_id)

    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    events = [e async for e in TokenSubscriber(None, backend).subscribe(workflow_id, until=done)]

    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [(token.token, token.call.ordinal) for token in tokens] == [("one", 0), ("two", 1)]
    assert not [event for event in events if type(event).__name__ == "Gap"]
    assert events[-1] == StreamEnded(status="unknown", cursor=events[-1].cursor)


async def test_last_id_goes_on_right_after_an_entry(backend, redis_client):
    """An id of Redis is good for going on; what is none is refused, by name."""
    workflow_id = unique("hand")
    for index in range(100):
        await backend.publish(workflow_id, TokenEvent(f"{index} ", "agent", index))
    await backend.publish_complete(workflow_id)
    key = f"tti:v1:{{{hand_stream(workflow_id).name}}}"
    entries = [(entry, decode(fields["f"])) for entry, fields in await texts(redis_client, key)]
    seventieth = next(entry for entry, packet in entries if packet.seq == 69)

    said = await subscribed(backend, workflow_id, last_id=seventieth)

    assert [each["token"] for each in said if each["token"]] == [f"{index} " for index in range(70, 100)]
    with pytest.raises(InvalidCursor, match="'yesterday' is no id of a Redis stream"):
        backend.subscribe(workflow_id, last_id="yesterday")


async def test_who_goes_on_behind_an_end_is_told_what_comes_next(backend, redis_client):
    """A workflow that publishes in turns: the end of the first is not that of the second."""
    workflow_id = unique("hand")
    for turn in ("first", "second"):
        await backend.publish(workflow_id, TokenEvent(turn, "agent", 0))
        await backend.publish_complete(workflow_id)
    entries = await texts(redis_client, f"tti:v1:{{{hand_stream(workflow_id).name}}}")
    (first_end, _) = next(entry for entry in entries if b"stream_complete" in entry[1]["f"])

    said = await subscribed(backend, workflow_id, last_id=first_end)

    assert said == [flat("second", 0)]


async def texts(redis_client, key):
    return [
        (
            entry.decode() if isinstance(entry, bytes) else entry,
            {(k.decode() if isinstance(k, bytes) else k): v for k, v in fields.items()},
        )
        for entry, fields in await redis_client.xrange(key)
    ]


async def test_an_id_that_is_no_string_is_refused_and_holds_up_nobody(backend):
    """A UUID, say: I am told at once, and everything else that this process writes goes on."""
    given = uuid.uuid4()

    for refused in (
        backend.publish(given, TokenEvent("a", "agent", 0)),
        backend.publish_complete(given),
        backend.cleanup(given),
    ):
        with pytest.raises(ConfigurationError, match=r"must be a string.*not UUID"):
            await refused
    with pytest.raises(ConfigurationError, match="must be a string"):
        backend.subscribe(given)

    async with asyncio.timeout(5):
        await backend.write(hand_stream(unique("hand")), b"{}")


async def test_cleanup_leaves_nothing(backend, redis_client):
    """What I published is gone, and what I publish afterwards is whole again."""
    workflow_id = unique("hand")
    await backend.publish(workflow_id, TokenEvent("old", "agent", 0))

    await backend.cleanup(workflow_id)

    assert not await redis_client.keys(f"*{workflow_id}*")
    await backend.publish(workflow_id, TokenEvent("new", "agent", 0))
    await backend.publish_complete(workflow_id)
    assert [each["token"] for each in await subscribed(backend, workflow_id) if each["token"]] == ["new"]


async def test_a_redis_that_is_away_costs_a_log_line(caplog, monkeypatch, server):
    """Publishing into an outage raises nothing and is told once; who reads afterwards sees a gap."""
    monkeypatch.setattr(by_hand, "_PATIENCE", 0.2)
    workflow_id = unique("hand")
    async with RedisStreamBackend(server.url) as backend:
        await backend.publish(workflow_id, TokenEvent("0", "agent", 0))
        await server.kill()
        with caplog.at_level(logging.WARNING):
            for index in (1, 2):
                await backend.publish(workflow_id, TokenEvent("lost", "agent", index))
        await server.start()
        monkeypatch.undo()
        await backend.publish(workflow_id, TokenEvent("3", "agent", 3))
        await backend.publish_complete(workflow_id)
        said = await subscribed(backend, workflow_id)

    assert caplog.text.count("is lost (TimeoutError)") == 1
    # Redis came back empty: the first token is gone, too.
    gap = {"type": "gap", "missing": "3", "reason": "trimmed"}
    assert said == [gap, flat("3", 3)]
