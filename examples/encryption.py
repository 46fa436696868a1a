"""Keep tokens as secret as everything else that Temporal carries: `python -m examples.encryption`.

A payload codec on the client encrypts what goes to Temporal. With `TokenStreamingPlugin`, it also encrypts
what goes to Redis. You see what Redis holds, what a viewer with the key reads, and one without.
"""

import asyncio
import dataclasses
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.worker import Worker

from devservers import redis_server, temporal_server
from temporal_token_interceptor import (
    CodecMismatch,
    RedisStreamBackend,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel

with (
    workflow.unsafe.imports_passed_through()
):  # the workflow is in this file, too, and its sandbox too narrow
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TASK_QUEUE = "encryption"
KEY = AESGCM.generate_key(bit_length=256)  # yours comes from a vault, has a name, and is rotated


class AesCodec(PayloadCodec):
    """What you may have already: https://docs.temporal.io/payload-codec."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        nonce = os.urandom(12)
        data = nonce + self._aes.encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": b"binary/encrypted"}, data=data)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != b"binary/encrypted":
            return payload
        return Payload.FromString(self._aes.decrypt(payload.data[:12], payload.data[12:], None))


# ---------------------------------------------------------------------- the worker

# A real one: `langchain.chat_models.init_chat_model("anthropic:claude-sonnet-4-5")`, and all else stays.
model = ScriptedChatModel.saying("The ", "vault ", "opens ", "at ", "noon.", delay=0.05)


@activity.defn
async def answer(question: str) -> str:
    return (await model.ainvoke(question)).text


@workflow.defn
class Secret:
    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )


def secret_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Secret],
        activities=[answer],
        # It takes the codec from the client; `TokenStreamingInterceptor` has `data_converter=` for it.
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url))],
    )


# ---------------------------------------------------------------------- viewers


async def view(client: Client, redis_url: str, workflow_id: str) -> None:
    async with RedisStreamBackend(redis_url) as backend:
        try:
            async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
                if isinstance(event, TokenEvent):
                    print(event.token, end="", flush=True)
            print()
        except CodecMismatch as error:
            print(f"CodecMismatch: {error}")


async def look_into_redis(redis_url: str, word: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        [stream] = [key async for key in redis.scan_iter(match="tti:*", _type="stream")]
        entries: Any = await redis.xrange(stream)
    stored = b"".join(value for _, fields in entries for value in fields.values())
    print(f"{stream.decode()} has {len(entries)} entries, {len(stored)} bytes; one of them is")
    print(f"  {entries[1]}")
    print(f"The word {word!r} is in there: {word.encode() in stored}")


async def main() -> None:
    async with temporal_server() as temporal, redis_server() as redis_url:
        address = temporal.client.service_client.config.target_host
        codec = AesCodec(KEY)
        converter = dataclasses.replace(DataConverter.default, payload_codec=codec)
        client = await Client.connect(address, data_converter=converter)
        async with secret_worker(client, redis_url):
            secret = await client.start_workflow(Secret.run, "When?", id="secret-1", task_queue=TASK_QUEUE)
            print("\nA viewer with the key reads:")
            await view(client, redis_url, secret.id)

            print("\nRedis holds:")
            await look_into_redis(redis_url, "vault")

            print("\nA viewer without the key reads:")
            await view(await Client.connect(address), redis_url, secret.id)


if __name__ == "__main__":
    asyncio.run(main())
