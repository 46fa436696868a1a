"""What tokens take in Redis: bytes for 1,000 of them, and CPU of the server for a frame.

By how many tokens share a frame (under load a frame takes all that waits), by the settings of the server that
decide how large the nodes of a stream are, and by how a stream is trimmed. The figures are the server's own
(`MEMORY USAGE`, `INFO cpu`); pipelines of 100, so that the network's part is small, as in a busy worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from benchmarks.measure import Figure, Size, origin
from devservers import redis_server
from temporal_token_interceptor.events import Call, CallStarted, Frame, TextRun
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.transport.redis.keys import FIELD

TOKENS = 1_000
TOGETHER = (1, 4, 16)  # tokens of a frame
HEADER_EVERY = 64  # as a worker sends them

NODES = {  # stream-node-max-entries, stream-node-max-bytes
    "usual": (100, 4_096),
    "entries_1000": (1_000, 4_096),
    "bytes_16k": (100, 16_384),
    "large": (1_000, 65_536),
}
TRIMMING = {"none": (None, False), "about": (1_000, True), "exact": (1_000, False)}  # MAXLEN, and whether "~"

FRAMES = 40_000
BATCH = 100
KEY = "bench:stored"


async def figures(size: Size) -> AsyncIterator[Figure]:
    async with redis_server() as url, Redis.from_url(url) as client:
        for together in TOGETHER:
            yield Figure(
                f"stored.tokens_{together}.bytes", await _weight(client, together), "bytes/1,000 tokens"
            )
        for name, (entries, bytes_) in NODES.items():
            async with _nodes(client, entries, bytes_):
                yield Figure(f"stored.node_{name}.bytes", await _weight(client, 1), "bytes/1,000 tokens")
                cpu, kept = await _cpu(client, TRIMMING["about"], size.count(FRAMES, BATCH))
                yield Figure(f"stored.node_{name}.cpu", cpu, "us CPU/frame")
                yield Figure(f"stored.node_{name}.kept", kept, "entries of 1,000")
        for name, trimming in TRIMMING.items():
            cpu, _ = await _cpu(client, trimming, size.count(FRAMES, BATCH))
            yield Figure(f"stored.trim_{name}.cpu", cpu, "us CPU/frame")


def _frames(together: int, tokens: int) -> list[bytes]:
    attempt = origin()
    call = Call(ordinal=0, id="1:0", node_name="agent", model="model", provider="provider")
    frames = [Frame(attempt, 0, (CallStarted(call=call),), header=True)]
    for seq, first in enumerate(range(0, tokens, together), 1):
        run = TextRun("text", 0, first, ("token ",) * together, together)
        frames.append(Frame(attempt, seq, (run,), header=seq % HEADER_EVERY == 0, open_calls=(call,)))
    return [encode(frame) for frame in frames]


async def _weight(client: Redis, together: int) -> float:
    """Return the bytes of a stream of 1,000 tokens."""
    await client.delete(KEY)
    for frame in _frames(together, TOKENS):
        await client.xadd(KEY, {FIELD: frame})
    weight = int(await client.memory_usage(KEY, samples=0) or 0)
    await client.delete(KEY)
    return weight


async def _cpu(client: Redis, trimming: tuple[int | None, bool], frames: int) -> tuple[float, int]:
    """Return the microseconds of the server's CPU for a frame, and how many entries a stream then has."""
    frame = _frames(1, 2)[-1]
    maxlen, is_about = trimming
    await client.delete(KEY)
    before = await server_cpu(client)
    for _ in range(frames // BATCH):
        pipeline = client.pipeline(transaction=False)
        for _ in range(BATCH):
            pipeline.xadd(KEY, {FIELD: frame}, maxlen=maxlen, approximate=is_about)
        await pipeline.execute()
    taken = await server_cpu(client) - before
    kept = int(await client.xlen(KEY))
    await client.delete(KEY)
    return taken / frames * 1e6, kept


async def server_cpu(client: Redis) -> float:
    """Return the seconds of CPU that a server has taken."""
    cpu = await client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


@asynccontextmanager
async def _nodes(client: Redis, entries: int, bytes_: int) -> AsyncIterator[None]:
    """Let nodes of streams be of a size."""
    before = await client.config_get("stream-node-max-*")
    await client.config_set("stream-node-max-entries", entries)
    await client.config_set("stream-node-max-bytes", bytes_)
    try:
        yield
    finally:
        for name, value in before.items():
            await client.config_set(str(name), value or "")
