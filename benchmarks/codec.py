"""What a payload codec, AES-GCM, costs the model's callback (nothing), and the worker (its sealing).

Both variants run the same model, one after another within each round; a ratio is the median of the rounds'.
The callback is what LangChain does for each token of a model that never waits, from its first to its last:
the session seals after that. `sealed` is all that a worker pays where every token is a frame of its own: the
most that sealing can cost.
"""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from statistics import median
from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from temporalio.converter import DataConverter

from benchmarks.capture import TOKENS, Model, NullSink
from benchmarks.measure import Figure, Size, origin
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.worker.fetched_session import session_to
from tests.support.encryption import AesCodec

ROUNDS = 25
RATIO = 1.02


class Clocked(Model):
    """Notes the CPU from its first token to its last.

    Attributes:
        taken: In seconds, with all that LangChain did for them.
    """

    taken: float = 0.0

    async def _astream(self, *args: Any, **options: Any) -> AsyncIterator[ChatGenerationChunk]:
        start = time.process_time()
        async for chunk in super()._astream(*args, **options):
            yield chunk
        self.taken = time.process_time() - start


async def figures(size: Size) -> AsyncIterator[Figure]:
    converter = DataConverter(payload_codec=AesCodec("bench"))
    tokens = size.count(TOKENS, 2)
    for name, model, budget in (
        ("codec.callback", Clocked(tokens=tokens), RATIO),
        ("codec.sealed", Clocked(tokens=tokens, yielding=True), None),
    ):
        whole = model.yielding  # else: only what the callbacks took, not what the session did behind them
        taken: dict[bool, list[float]] = {False: [], True: []}
        for round_ in range(size.count(ROUNDS if budget else ROUNDS // 3) + 1):
            for sealed in (False, True) if round_ % 2 else (True, False):
                seconds = await _stream(model, converter if sealed else None, whole=whole)
                if round_:  # the first one warms up
                    taken[sealed].append(seconds / tokens * 1e6)
        yield Figure(f"{name}.plain", median(taken[False]), "us/token")
        yield Figure(f"{name}.aes_gcm", median(taken[True]), "us/token")
        ratios = [sealed / plain for plain, sealed in zip(taken[False], taken[True], strict=True)]
        yield Figure.of_rounds(f"{name}.ratio", ratios, "x", budget)


async def _stream(model: Clocked, converter: DataConverter | None, *, whole: bool) -> float:
    attempt = origin()
    codec = FrameCodec.of(converter, StreamKey.of(attempt))
    budget = Budget(32 * 1024 * 1024)
    gc.collect()
    async with session_to(
        attempt, NullSink(), budget=budget, flush_timeout=timedelta(seconds=2), codec=codec
    ) as session:
        with capturing(Observer(session.buffer, default_node="bench")):
            start = time.process_time()
            await model.ainvoke("hi")
        await session.finish("completed_provisional")
        seconds = time.process_time() - start if whole else model.taken
    if session.statistics.undelivered or budget.dropped or not session.statistics.frames:
        raise RuntimeError(f"the benchmark measured a session that lost tokens: {session!r}")
    return seconds
