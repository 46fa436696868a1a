"""With a payload codec on the client, Redis sees what Temporal sees: nothing."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from redis.asyncio import Redis
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
)

from temporal_token_interceptor import (
    CodecMismatch,
    Gap,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
    ToolCallChunk,
    TransportUnavailable,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.encryption import AesCodec
from tests.support.streams import read_all, standing_text, unique
from tests.support.workflows import RunActivity, RunMany

PROMPT, WORDS, ARGUMENTS = "prompt-lavender", ["token-", "magenta", " token-", "cyan"], '{"q": "args-ochre"}'
SECRETS = [b"lavender", b"magenta", b"cyan", b"ochre", b"token-"]


def model() -> ScriptedChatModel:
    call = tool_call_chunk(index=0, id="tc", name="search", args=ARGUMENTS)
    return ScriptedChatModel.saying(*WORDS, AIMessageChunk(content="", tool_call_chunks=[call]))


@activity.defn
async def answer(argument: Any) -> str:
    return (await model().ainvoke(PROMPT)).text


@activity.defn
def answer_in_thread(argument: Any) -> str:
    return model().invoke(PROMPT).text


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as redis:
        yield redis


def with_codec(client: Client, codec: AesCodec | None, **config: Any) -> Client:
    converter = dataclasses.replace(DataConverter.default, payload_codec=codec)
    return Client(**(client.config() | {"data_converter": converter} | config))


@asynccontextmanager
async def a_worker(client: Client, url: str, activities: Sequence[Any] = (answer, answer_in_thread)):
    plugin = TokenStreamingPlugin(lambda: RedisStreamBackend(url))
    with ThreadPoolExecutor() as threads:
        async with Worker(
            client,
            task_queue=unique("sealed"),
            workflows=[RunActivity, RunMany],
            activities=activities,
            activity_executor=threads,
            plugins=[plugin],
            # Encryption has nothing to do with the sandbox, which trips over an import race of CPython 3.11
            # when garbage is collected while it imports (https://github.com/python/cpython/issues/106176).
            workflow_runner=UnsandboxedWorkflowRunner(),
        ) as worker:
            yield worker.task_queue


@asynccontextmanager
async def monitored(url: str) -> AsyncIterator[list[str]]:
    """All commands that Redis gets within."""
    seen: list[str] = []

    async def watch() -> None:
        while True:
            seen.append(str(await connection.read_response()))

    connection = Redis.from_url(url, socket_timeout=None, protocol=2).connection_pool.make_connection()
    await connection.connect()
    await connection.send_command("MONITOR")
    watching = asyncio.create_task(watch())
    try:
        yield seen
        await redis_marker(url, seen)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await connection.disconnect()


async def redis_marker(url: str, seen: list[str]) -> None:
    """Return when the monitor has shown all that was sent before."""
    async with Redis.from_url(url) as redis:
        marker = unique("marker")
        await redis.echo(marker)
    async with asyncio.timeout(5):
        while not any(marker in command for command in seen):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def dump(redis: Redis, workflow_id: str) -> bytes:
    keys = [key async for key in redis.scan_iter(f"*{workflow_id}*")]
    assert keys
    parts = [repr(await redis.xrange(key)).encode() for key in keys if await redis.type(key) == b"stream"]
    parts += [repr(await redis.get(key)).encode() for key in keys if await redis.type(key) == b"string"]
    return b"\n".join([*keys, *parts])


@pytest.mark.parametrize("name", ["answer", "answer_in_thread"])
async def test_redis_holds_and_hears_nothing_in_plain_text(client, redis_url, redis_client, backend, name):
    """Neither MONITOR nor a dump shows a token, a prompt or a tool argument; my reader sees all."""
    ours = with_codec(client, AesCodec("k1"))
    workflow_id = unique("secret")

    async with monitored(redis_url) as commands, a_worker(ours, redis_url) as queue:
        handle = await ours.start_workflow(RunActivity.run, args=[name], id=workflow_id, task_queue=queue)
        events = await read_all(ours, backend, workflow_id)
    stored = await dump(redis_client, workflow_id)

    assert standing_text(events) == "".join(WORDS) == await handle.result()
    assert [event.args for event in events if isinstance(event, ToolCallChunk)] == [ARGUMENTS]
    heard = "\n".join(commands).encode()
    assert workflow_id.encode() in heard  # it did listen
    assert not [secret for secret in SECRETS if secret in heard or secret in stored]


class RemoteCodec(AesCodec):
    """One that asks a key service for each frame."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        await asyncio.sleep(0.25)
        return await super().encode(payloads)


async def test_a_slow_codec_does_not_slow_the_model(client, redis_url, backend):
    """Sealing is off the path of my model: it speaks as fast as ever, and tokens share a frame instead."""
    took: list[float] = []

    @activity.defn(name="answer")
    async def timed(argument: Any) -> str:
        started = time.monotonic()
        message = await ScriptedChatModel.saying(*(WORDS * 25), delay=0.005).ainvoke(PROMPT)
        took.append(time.monotonic() - started)
        return message.text

    ours = with_codec(client, RemoteCodec("k1"))
    workflow_id = unique("slow-codec")
    async with a_worker(ours, redis_url, [timed]) as queue:
        await ours.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        events = await read_all(ours, backend, workflow_id)

    assert standing_text(events) == "".join(WORDS * 25)
    assert took[0] < 100 * 0.25 / 4  # on the path, 100 tokens would wait for 25 s


async def test_without_a_codec_frames_stay_plain_json(client, redis_url, redis_client, backend):
    """I can read my own streams with redis-cli."""
    workflow_id = unique("plain")
    async with a_worker(client, redis_url) as queue:
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)

    assert b"magenta" in await dump(redis_client, workflow_id)


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        (None, "has no payload codec"),
        (AesCodec("k2"), "cannot decode it (KeyError)"),
    ],
    ids=["missing", "rotated"],
)
async def test_a_reader_without_the_key_learns_which_encoding_it_lacks(
    client, redis_url, backend, codec, reason
):
    """Not silence and not cipher text: an error that says what to fix, and only for this stream."""
    ours = with_codec(client, AesCodec("k1"))
    reader = TokenSubscriber(with_codec(client, codec), backend)
    sealed, plain = unique("sealed"), unique("plain")
    async with a_worker(ours, redis_url) as queue:
        await ours.execute_workflow(RunActivity.run, args=["answer"], id=sealed, task_queue=queue)
    async with a_worker(client, redis_url) as queue:
        await client.execute_workflow(RunActivity.run, args=["answer"], id=plain, task_queue=queue)

    with pytest.raises(CodecMismatch) as caught:
        await reader.text(sealed)

    assert "binary/encrypted" in str(caught.value)
    assert reason in str(caught.value)
    assert not [secret for secret in SECRETS if secret.decode() in str(caught.value)]
    mixed = TokenSubscriber(with_codec(client, codec), backend, accept_plain_frames=True)
    assert await mixed.text(plain) == "".join(WORDS)


async def test_a_reader_with_old_and_new_keys_reads_across_a_rotation(client, redis_url, backend):
    """I rotate keys while workflows run; whoever has both reads on."""
    both = with_codec(client, AesCodec("k2", "k1"))

    for key in ("k1", "k2"):
        ours, workflow_id = with_codec(client, AesCodec(key)), unique("rotated")
        async with a_worker(ours, redis_url) as queue:
            await ours.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)

        assert standing_text(await read_all(both, backend, workflow_id)) == "".join(WORDS)


async def test_a_key_service_that_fails_costs_a_gap_and_never_the_secret(
    client, redis_url, redis_client, backend, caplog
):
    """When my codec fails, the frame is dropped: not stored plain, and not my activity's problem."""

    class Flaky(AesCodec):
        frames = 0

        async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
            if b'"v":1' in payloads[0].data:
                self.frames += 1
                if self.frames == 1:
                    raise ConnectionError(f"no key for {payloads[0].data!r}")
            return await super().encode(payloads)

    ours = with_codec(client, Flaky("k1"))
    workflow_id = unique("flaky")
    with caplog.at_level(logging.INFO):
        async with a_worker(ours, redis_url) as queue:
            handle = await ours.start_workflow(
                RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
            )
            events = await read_all(ours, backend, workflow_id)

    assert await handle.result() == "".join(WORDS)
    assert isinstance(events[-1], StreamEnded)
    assert any(isinstance(event, Gap) for event in events)
    stored = await dump(redis_client, workflow_id)
    assert not [secret for secret in SECRETS if secret in stored or secret.decode() in caplog.text]
    assert "(ConnectionError)" in caplog.text


class Nobody(Interceptor):
    """Somebody else's interceptor, which wraps what ours is given."""

    def intercept_activity(self, next):  # noqa: A002
        class Wrapping(ActivityInboundInterceptor):
            def init(self, outbound):
                super().init(ActivityOutboundInterceptor(outbound))

        return Wrapping(next)


@pytest.mark.parametrize("others", [[], [Nobody()]], ids=["alone", "behind-another"])
@pytest.mark.parametrize("name", ["answer", "answer_in_thread"])
async def test_an_interceptor_alone_seals_with_the_codec_of_the_workers_client(
    client, backend, redis_client, name, others
):
    """I did not tell it of my codec. What I encrypt stays encrypted, also what sync activities say."""
    ours = with_codec(client, AesCodec("k1"))
    workflow_id = unique("untold")
    with ThreadPoolExecutor() as threads:
        async with Worker(
            ours,
            task_queue=workflow_id,
            workflows=[RunActivity],
            activities=[answer, answer_in_thread],
            activity_executor=threads,
            interceptors=[*others, TokenStreamingInterceptor(backend)],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await ours.execute_workflow(RunActivity.run, args=[name], id=workflow_id, task_queue=workflow_id)

    stored = await dump(redis_client, workflow_id)
    assert stored
    assert not [secret for secret in SECRETS if secret in stored]
    assert standing_text(await read_all(ours, backend, workflow_id)) == "".join(WORDS)


async def test_a_converter_that_is_given_is_the_one_that_seals(client, backend, redis_client):
    """I said that frames may be plain, and so they are, whatever my client encrypts."""
    ours = with_codec(client, AesCodec("k1"))
    workflow_id = unique("given")
    async with Worker(
        ours,
        task_queue=workflow_id,
        workflows=[RunActivity],
        activities=[answer],
        interceptors=[TokenStreamingInterceptor(backend, data_converter=DataConverter.default)],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        await ours.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=workflow_id)

    assert b"magenta" in await dump(redis_client, workflow_id)


async def test_many_subscribers_of_a_run_open_each_frame_once(client, redis_url, backend):
    """A hundred viewers of one run cost my key service no more than one."""
    codec = AesCodec("k1")
    ours = with_codec(client, AesCodec("k1"))
    workflow_id = unique("shared")
    async with a_worker(ours, redis_url) as queue:
        await ours.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)

    subscriber = TokenSubscriber(with_codec(client, codec), backend)
    everybody = asyncio.Barrier(100)  # what nobody looks at any more is forgotten

    async def view() -> str:
        tokens = []
        async for token in subscriber.tokens(workflow_id):
            if not tokens:
                await everybody.wait()
            tokens.append(token.token)
        return "".join(tokens)

    texts = await asyncio.gather(*(view() for _ in range(100)))

    assert texts == ["".join(WORDS)] * 100
    assert codec.opened == await frames(backend, ours, workflow_id)


async def test_a_key_service_that_hangs_hangs_no_reader(client, redis_url, backend, monkeypatch):
    """I hear that my codec does not answer, and all my viewers do, within the deadline."""

    class Hanging(AesCodec):
        async def decode(self, payloads):
            await asyncio.get_running_loop().create_future()

    ours = with_codec(client, AesCodec("k1"))
    workflow_id = unique("hanging")
    async with a_worker(ours, redis_url) as queue:
        await ours.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
    monkeypatch.setattr("temporal_token_interceptor.reader.entry_cache._OPEN_SECONDS", 0.3)

    subscriber = TokenSubscriber(with_codec(client, Hanging("k1")), backend)
    async with asyncio.timeout(10):
        told = await asyncio.gather(*(subscriber.text(workflow_id) for _ in range(3)), return_exceptions=True)

    assert [isinstance(error, TransportUnavailable) for error in told] == [True] * 3
    assert "has not opened a frame" in str(told[0])


async def frames(backend: RedisStreamBackend, client: Client, workflow_id: str) -> int:
    one = TokenSubscriber(client, backend)
    events = [event async for event in one.subscribe(workflow_id)]
    assert any(isinstance(event, TokenEvent) for event in events)
    return one.statistics.entries
