"""At the close, what stands here is compared with the attempt that completed at Temporal."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity

from temporal_token_interceptor import (
    AttemptStarted,
    Gap,
    RedisStreamBackend,
    TokensMissing,
    TokenSubscriber,
)
from temporal_token_interceptor.events import CallStarted, Frame, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.frames import a_call
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import RunActivity


@activity.defn
async def answer(_: Any) -> str:
    """Fails at the first try, after some words."""
    pieces = ["old ", ValueError("gone")] if activity.info().attempt == 1 else ["new ", "words"]
    return (await ScriptedChatModel.saying(*pieces).ainvoke("?")).text


@pytest.fixture
async def ran(client, redis_url):
    """A workflow that has completed at the second try; its backend, and what a reader got."""
    workflow_id = unique("standing")
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answer]) as queue,
    ):
        await client.execute_workflow(
            RunActivity.run, args=["answer", None, False, 2], id=workflow_id, task_queue=queue
        )
        yield backend, workflow_id, await read_all(client, backend, workflow_id)


def gaps(events: list[Any]) -> list[tuple[str, int]]:
    """The reason of each `Gap`, and the number of the attempt that it is of."""
    return [(event.reason, event.origin.attempt) for event in events if isinstance(event, Gap)]


async def test_where_the_attempt_that_stands_completed_nothing_is_reported(ran):
    _, _, events = ran

    assert standing_text(events) == "new words"
    assert gaps(events) == []


async def test_an_attempt_that_the_transport_lost_is_missing_and_the_failed_one_is_no_answer(
    client, redis_client, ran
):
    """A writer that was refused for good, or a lagging replica: only the first attempt is in the stream."""
    backend, workflow_id, events = ran
    origin = events[0].origin
    name = f"tti:v1:{{{StreamKey.of(origin).name}}}"
    second = events[[isinstance(event, AttemptStarted) for event in events].index(True, 1)].origin.attempt_id
    for entry, fields in await redis_client.xrange(name):
        if second.encode() in fields[b"f"]:
            await redis_client.xdel(name, entry)

    late = await read_all(client, backend, workflow_id)

    assert gaps(late) == [("transport", 1)]
    assert late[-1].status == "completed"
    with pytest.raises(TokensMissing, match="transport"):
        await TokenSubscriber(client, backend).text(workflow_id)
    place = next(event.cursor for event in late if isinstance(event, Gap))
    assert await read_all(client, backend, workflow_id, cursor=place) == late[-1:]


async def test_a_forged_attempt_that_supersedes_the_true_one_is_reported(client, ran):
    """Who can write to Redis can make an attempt up; Temporal knows which one completed."""
    backend, workflow_id, events = ran
    true = events[-2].origin
    forged = replace(true, attempt_id="forged", started_time=true.started_time + timedelta(minutes=1))
    said = (CallStarted(call=a_call()), TextRun("text", 0, 0, ("forged",), 1))
    await backend.write(StreamKey.of(true), encode(Frame(forged, 0, said, header=True)))

    late = await read_all(client, backend, workflow_id)

    assert ("mismatch", true.attempt) in gaps(late)
    with pytest.raises(TokensMissing):
        await TokenSubscriber(client, backend).text(workflow_id)
