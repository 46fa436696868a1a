"""One writer cannot end, replace or flood what others read: an entry that is not right costs itself."""

import asyncio
import resource
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from temporal_token_interceptor import (
    CallEnded,
    CodecMismatch,
    Event,
    Gap,
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamEnded,
    StreamNotFound,
    TokenEvent,
    TokensMissing,
    TokenSubscriber,
)
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.events import AttemptEnded, CallStarted, Frame, Record, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.encryption import AesCodec
from tests.support.frames import a_call, of_stream
from tests.support.streams import read_all, standing_text, streaming_worker, unique
from tests.support.workflows import Waiting

WELL = AttemptEnded(outcome="completed_provisional")


def a_stream(name: str) -> StreamKey:
    return StreamKey("default", unique(name), "run")


def answer(stream: StreamKey, text: str = "the answer", **changes: Any) -> bytes:
    """A whole attempt in one frame."""
    records: tuple[Record, ...] = (CallStarted(call=a_call()), TextRun("text", 0, 0, (text,), 1), WELL)
    return encode(Frame(of_stream(stream, **changes), 0, records, header=True))


async def read(subscriber: TokenSubscriber, stream: StreamKey, **options: Any) -> list[Event]:
    """What is there now."""
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)
    events = subscriber.subscribe(stream.workflow_id, stream.run_id, until=enough, **options)
    return [event async for event in events]


def with_codec(client: Client, codec: AesCodec | None) -> Client:
    config = client.config()
    config["data_converter"] = config["data_converter"].__class__(payload_codec=codec)
    return Client(**config)


class Sealed:
    """A client with a codec, and a stream that it protects."""

    def __init__(self, client: Client) -> None:
        self.client = with_codec(client, AesCodec("k1"))
        self.backend = MemoryStreamBackend()
        self.subscriber = TokenSubscriber(self.client, self.backend)

    async def write(self, stream: StreamKey, data: bytes, *, sealed_for: StreamKey | None = None) -> bytes:
        codec = FrameCodec(self.client.data_converter, sealed_for or stream)
        entry = await codec.seal(data)
        await self.backend.write(stream, entry)
        return entry


@pytest.fixture
def sealed(client):
    return Sealed(client)


# ------------------------------------------------------------------ sealed streams


async def test_a_sealed_frame_is_read_in_its_own_stream_only(sealed):
    """Somebody copies another workflow's sealed answer into my stream: it is no frame here."""
    mine, other = a_stream("mine"), a_stream("other")
    await sealed.write(mine, answer(mine))
    headless = encode(Frame(of_stream(mine), 1, (TextRun("text", 0, 1, ("forged",), 1),)))
    await sealed.write(mine, answer(other, "stolen", started=60), sealed_for=other)
    await sealed.write(mine, headless, sealed_for=other)  # also one without a header of its own

    events = await read(sealed.subscriber, mine)

    assert standing_text(events) == "the answer"
    assert sealed.subscriber.statistics.unreadable == 2
    assert not [event for event in events if isinstance(event, Gap)]


@pytest.mark.parametrize("form", ["plain", "payload"])
async def test_a_plain_frame_cannot_replace_a_sealed_answer(sealed, form):
    """Whoever can write to Redis has no key: a plain retry of the year after is a gap, and not the answer."""
    stream = a_stream("sealed")
    forged = answer(stream, "forged", attempt=2, attempt_id="f0", started=60)
    if form == "payload":
        payload = Payload(metadata={"encoding": b"json/plain"}, data=forged)
        forged = payload.SerializeToString()
    await sealed.write(stream, answer(stream))
    await sealed.backend.write(stream, forged)

    events = await read(sealed.subscriber, stream)
    mixed = TokenSubscriber(sealed.client, sealed.backend, accept_plain_frames=True)

    assert standing_text(events) == "the answer"
    assert [event.reason for event in events if isinstance(event, Gap)] == ["unreadable"]
    assert standing_text(await read(mixed, stream)) == "forged"  # by the reader's own choice


async def test_a_reader_with_a_codec_is_told_where_all_frames_are_plain(sealed):
    """I forgot the codec on the worker: an error that says so, and no empty answer."""
    stream = a_stream("forgotten")
    await sealed.backend.write(stream, answer(stream))

    with pytest.raises(CodecMismatch, match="accept_plain_frames=True"):
        await read(sealed.subscriber, stream)


@pytest.mark.parametrize("junk_first", [True, False])
async def test_one_sealed_junk_entry_is_a_gap(sealed, junk_first):
    """An entry that nobody can open ends no reader."""
    stream = a_stream("junk")
    junk = Payload(metadata={"encoding": b"binary/encrypted"}, data=b"junk").SerializeToString()
    if junk_first:
        await sealed.backend.write(stream, junk)
    await sealed.write(stream, answer(stream))
    if not junk_first:
        await sealed.backend.write(stream, junk)

    events = await read(sealed.subscriber, stream)

    assert standing_text(events) == "the answer"
    assert [event.reason for event in events if isinstance(event, Gap)] == ["unreadable"]


async def test_a_live_reader_with_the_wrong_key_learns_it_while_the_run_lives(client, sealed):
    """Not at the end of a workflow that takes days."""
    stream = a_stream("wrong")
    for seq in range(8):
        records = (CallStarted(call=a_call()),) if seq == 0 else (TextRun("text", 0, seq - 1, ("x",), 1),)
        await sealed.write(stream, encode(Frame(of_stream(stream), seq, records, header=seq == 0)))
    reader = TokenSubscriber(with_codec(client, AesCodec("k2")), sealed.backend)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async with asyncio.timeout(5):
        with pytest.raises(CodecMismatch, match="cannot decode it"):
            async for _ in reader.subscribe(stream.workflow_id, stream.run_id, until=never):
                pass


class Away(AesCodec):
    """Its key service refuses connections for a while."""

    failures = 3

    async def decode(self, payloads):
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionRefusedError
        return await super().decode(payloads)


async def test_a_key_service_that_is_away_for_a_moment_is_waited_for(client, sealed, monkeypatch):
    """It restarts: my readers go on when it is back."""
    monkeypatch.setattr("temporal_token_interceptor.reader.entry_cache._PAUSE", 0.01)
    stream = a_stream("away")
    await sealed.write(stream, answer(stream))

    events = await read(TokenSubscriber(with_codec(client, Away("k1")), sealed.backend), stream)

    assert standing_text(events) == "the answer"


# ------------------------------------------------------------------ plain streams


async def test_an_attempt_from_the_future_supersedes_nothing(redis_url):
    """Started in the year 9999, says its header: it would be the newest for ever."""
    stream = a_stream("future")
    async with RedisStreamBackend(redis_url) as backend:
        subscriber = TokenSubscriber(None, backend)
        await backend.write(stream, answer(stream, started=-10_000_000))
        future = orjson.loads(answer(stream, "forged", attempt=2, attempt_id="f0"))
        future["o"]["t"] = 253_000_000_000_000_000
        await backend.write(stream, orjson.dumps(future))

        events = await read(subscriber, stream)

    assert standing_text(events) == "the answer"
    assert subscriber.statistics.unreadable == 1


ODD_MEMBERS: list[tuple[str, Any]] = [
    ("usage", {"output_tokens": 9}),
    ("usage", {"input_tokens": "1", "output_tokens": None, "total_tokens": 1.5}),
    ("usage", [1]),
    ("finish", 7),
    ("error", {"a": 1}),
    ("msg", ["x"]),
    ("whole", "yes"),
    ("open", 1),
]


@pytest.mark.parametrize(("member", "value"), ODD_MEMBERS)
async def test_members_of_the_wrong_type_reach_no_user(member, value):
    """Whatever a frame says: my loop over messages gets messages, or a gap."""
    backend, stream = MemoryStreamBackend(), a_stream("odd")
    frame = orjson.loads(answer(stream))
    frame["e"][-1:] = [["call_end", 0, {member: value}], frame["e"][-1]]
    await backend.write(stream, orjson.dumps(frame))
    subscriber = TokenSubscriber(None, backend)
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    enough.set_result(None)

    events = await read(subscriber, stream)
    chunks = []
    with suppress(TokensMissing):  # where the member could not be read, and the gap says so
        async for chunk, _ in subscriber.messages(stream.workflow_id, stream.run_id, until=enough):
            chunks.append(chunk)

    assert [hash(event.call) for event in events if isinstance(event, TokenEvent | CallEnded)]
    assert "".join(chunk.text for chunk in chunks) == "the answer"
    assert all(len(repr(event)) < 10_000 for event in events)


DEEP = b'{"v":' + b"[" * 1_000 + b"]" * 1_000 + b"}"
DEEP_BLOCK = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize("form", ["version", "block", "attempt"])
async def test_two_kilobytes_of_brackets_end_no_reader(form):
    """Nested lists must not overflow anybody's stack: neither ours nor that of a user who prints an event."""
    backend, stream = MemoryStreamBackend(), a_stream("deep")
    whole = answer(stream)
    deep = {
        "version": DEEP,
        "block": whole.replace(b'"e":[', b'"e":[["block",0,{"x":' + DEEP_BLOCK + b"}],"),
        "attempt": whole.replace(b'"a":', b'"a":' + DEEP_BLOCK + b',"b":'),
    }[form]
    await backend.write(stream, deep)
    await backend.write(stream, whole)
    subscriber = TokenSubscriber(None, backend)

    events = await read(subscriber, stream)

    assert standing_text(events) == "the answer"
    assert subscriber.statistics.unreadable == 1
    assert repr(events)


async def test_a_frame_that_unfolds_into_millions_is_none():
    """Three bytes each: an entry of a megabyte would take a hundred in memory."""
    backend, stream = MemoryStreamBackend(), a_stream("many")
    many = encode(
        Frame(
            of_stream(stream, attempt_id="f0"),
            0,
            (TextRun("text", 0, 0, ("",) * 300_000, 300_000),),
            header=True,
        )
    )
    await backend.write(stream, many)
    await backend.write(stream, answer(stream))

    events = await read(TokenSubscriber(None, backend), stream)

    assert standing_text(events) == "the answer"
    assert len(events) < 20


# ------------------------------------------------------------------ one activity after another


@pytest.mark.parametrize("on_retry", ["reset", "hold", "annotate"])
async def test_an_activity_id_that_is_used_again_leaves_the_first_answer_alone(on_retry):
    """My workflow names both of its activities "ask": the first one's answer stands beside the second's."""
    backend, stream = MemoryStreamBackend(), a_stream("reused")
    noon = of_stream(stream).started_time
    for number, text in enumerate(("first ", "second")):
        origin = of_stream(stream, attempt_id=f"a{number}", started=60 * number)
        at = {"scheduled_time": origin.started_time}
        await backend.write(stream, answer(stream, text, attempt_id=f"a{number}", started=60 * number, **at))
    assert noon == of_stream(stream).started_time

    events = await read(TokenSubscriber(None, backend), stream, on_retry=on_retry)

    assert standing_text(events) == "first second"


# ------------------------------------------------------------------ other keys of ours


async def _is_list(redis: Any, key: str) -> None:
    await redis.rpush(key, "x")


async def _is_large(redis: Any, key: str) -> None:
    await redis.set(key, b"7" * 64_000_000)


async def _is_binary(redis: Any, key: str) -> None:
    await redis.set(key, b"\xff\xfe~1-1")


async def _is_no_id(redis: Any, key: str) -> None:
    await redis.set(key, "99999999999999999999-1 ~")


@pytest.mark.parametrize("put", [_is_list, _is_large, _is_binary, _is_no_id])
async def test_what_stands_in_a_key_of_ours_ends_no_reader(redis_url, redis_client, put):
    """Another program writes to `begun` and `newest`: whatever it is, only what those say is lost."""
    stream = a_stream("keys")
    async with RedisStreamBackend(redis_url, patience=timedelta(seconds=5)) as backend:
        subscriber = TokenSubscriber(None, backend)
        await backend.write(stream, answer(stream))
        await redis_client.delete(backend._keys.begun(stream))
        for key in (backend._keys.begun(stream), backend._keys.pointer(stream)):
            await put(redis_client, key)
        before = resident()

        assert standing_text(await read(subscriber, stream)) == "the answer"
        with pytest.raises(StreamNotFound):
            await subscriber.snapshot(stream.workflow_id)

    assert resident() - before < 16 * 1024 * 1024


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@activity.defn(name="answer")
async def answers(_: Any) -> str:
    return (await ScriptedChatModel.saying("an ", "answer").ainvoke("?")).text


@pytest.mark.parametrize("when", ["before", "under a reader"])
async def test_a_stream_that_became_something_else_is_a_gap(client, redis_url, redis_client, when):
    """Another program replaces my stream by a list: my reader reports that, and how the workflow ended."""
    workflow_id = unique("replaced")
    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [answers]) as queue,
    ):
        subscriber = TokenSubscriber(client, backend)
        handle = await client.start_workflow(Waiting.run, "answer", id=workflow_id, task_queue=queue)
        seen: list[Event] = []
        events = subscriber.subscribe(workflow_id)
        while when != "before" and not isinstance(event := await anext(events), AttemptEnded):
            seen.append(event)
        run_id = handle.first_execution_run_id or ""
        key = backend._keys.stream(StreamKey(client.namespace, workflow_id, run_id))
        async with redis_client.pipeline(transaction=True) as both:
            await both.delete(key).rpush(key, "x").execute()
        if when == "before":
            reading = asyncio.ensure_future(read_all(client, backend, workflow_id))
            await handle.signal(Waiting.end, "well")
            seen = await reading
        else:
            await handle.signal(Waiting.end, "well")
            seen += [event async for event in events]
        with pytest.raises(TokensMissing, match="transport"):
            await subscriber.text(workflow_id)

    assert [event.reason for event in seen if isinstance(event, Gap)] == ["transport"]
    assert isinstance(seen[-1], StreamEnded)
    assert seen[-1].status == "completed"


async def test_ids_that_a_client_made_up_hide_nothing(redis_url, redis_client):
    """Redis numbers on from the largest id: what comes after one of the year 33659 is read, and in order."""
    stream = a_stream("ids")
    async with RedisStreamBackend(redis_url) as backend:
        key = backend._keys.stream(stream)
        await backend.write(stream, answer(stream, "one "))
        events = TokenSubscriber(None, backend).subscribe(
            stream.workflow_id, stream.run_id, until=asyncio.Event().wait()
        )
        live = [await anext(events)]
        for made_up in ("999999999999999-9999999999", "999999999999999-10000000000", "1000000000000000-7"):
            await redis_client.xadd(key, {"f": "junk"}, id=made_up)
        for number in range(12):
            more = answer(stream, f"{number} ", attempt_id=f"a{number}", activity_id=f"n{number}")
            await backend.write(stream, more)
        async with asyncio.timeout(10):
            while "11 " not in standing_text(live):
                live.append(await anext(events))
        await events.aclose()
        late = await read(TokenSubscriber(None, backend), stream)
        resumed = await read(TokenSubscriber(None, backend), stream, cursor=live[-5].cursor)

    assert (
        standing_text(live) == standing_text(late) == "one " + "".join(f"{number} " for number in range(12))
    )
    assert late[: len(live)] == live
    assert resumed == late[len(live) - 4 :]


async def test_an_attempt_of_the_future_in_an_entry_of_the_future_supersedes_nothing(redis_url, redis_client):
    """A client makes up the id of its entry, too: that fits the forged start, and my clock does not."""
    stream = a_stream("far")
    future = orjson.loads(answer(stream, "forged", attempt=2, attempt_id="f0"))
    async with RedisStreamBackend(redis_url) as backend:
        subscriber = TokenSubscriber(None, backend)
        await backend.write(stream, answer(stream, started=-10_000_000))
        for milliseconds in (4_000_000_000_000, 10**18):
            future["o"]["t"] = min(milliseconds * 1_000, 253_000_000_000_000_000)
            await redis_client.xadd(
                backend._keys.stream(stream), {"f": orjson.dumps(future)}, id=f"{milliseconds}-0"
            )

        events = await read(subscriber, stream)

    assert standing_text(events) == "the answer"
    assert subscriber.statistics.unreadable == 2
