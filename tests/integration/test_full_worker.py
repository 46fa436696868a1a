"""While a worker is full its frames are fewer and larger: no token is lost by that, and no end is late."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import pytest

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.events import CallStarted, TokenEvent
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis import late_answers
from temporal_token_interceptor.transport.redis.late_answers import LATE, LateAnswers
from temporal_token_interceptor.worker.fetched_session import session_to
from temporal_token_interceptor.worker.session import Session
from tests.support.frames import a_call, an_origin

CALL = a_call()
TOKENS = [f"t{number} " for number in range(40)]


@pytest.fixture(params=[Session, session_to], ids=["by a task", "fetched"])
def make(request):
    return request.param


@pytest.fixture
async def backend(redis_url, monkeypatch):
    """The backend of a worker whose thread is full, whatever this machine does."""
    monkeypatch.setattr(LateAnswers, "look", lambda self, _: setattr(self, "late", late_answers.LATE))
    async with RedisStreamBackend(redis_url, f"full-{uuid.uuid4().hex[:8]}:") as backend:
        yield backend


def a_session(make: Callable[..., Session], backend: RedisStreamBackend) -> Session:
    session = make(an_origin(), backend, budget=Budget(2**20), flush_timeout=timedelta(seconds=10))
    session.buffer.put(CallStarted(call=CALL), CALL)
    return session


async def frames_of(backend: RedisStreamBackend, session: Session) -> list[list[str]]:
    """The texts of each entry of the stream."""
    stream = StreamKey.of(session.origin)
    last, entries = await backend.last_id(stream), []
    async with aclosing(backend.read(stream)) as reading:
        while not entries or entries[-1].id < last:
            entries += await anext(reading)
    attempts = Attempts("run")
    events = [attempts.read(entry.id, decode(entry.data)) for entry in entries]
    return [[event.token for event in one if isinstance(event, TokenEvent)] for one in events]


async def test_tokens_share_frames(make, backend):
    session = a_session(make, backend)
    loop = asyncio.get_running_loop()
    async with session:
        begin = loop.time()
        for place, token in enumerate(TOKENS):
            session.buffer.put_text(CALL, "text", place, token)
            await asyncio.sleep(0.001)  # the model's pace
        elapsed = loop.time() - begin
        await session.finish("completed_provisional")

    frames = await frames_of(backend, session)
    assert [text for frame in frames for text in frame] == TOKENS
    assert len(frames) <= elapsed / LATE + 4


async def test_who_publishes_by_hand_does_not_wait(backend, monkeypatch):
    """A handler that awaits each token would hold its model up."""
    monkeypatch.setattr(late_answers, "LATE", 60.0)
    async with asyncio.timeout(10):
        for place, token in enumerate(TOKENS):
            await backend.publish("by-hand", TokenEvent(token, "node", place))
        await backend.publish_complete("by-hand")

    assert [event["token"] async for event in backend.subscribe("by-hand")][: len(TOKENS)] == TOKENS


async def test_the_first_token_and_the_end_do_not_wait(make, backend, monkeypatch):
    """Also where an answer would be a minute late."""
    monkeypatch.setattr(late_answers, "LATE", 60.0)
    session = a_session(make, backend)
    async with asyncio.timeout(10), session, aclosing(backend.read(StreamKey.of(session.origin))) as entries:
        await anext(entries)
        for place, token in enumerate(TOKENS):
            session.buffer.put_text(CALL, "text", place, token)
        await session.finish("completed_provisional")

    frames = await frames_of(backend, session)
    assert [text for frame in frames for text in frame] == TOKENS
    assert session.statistics.undelivered == 0
