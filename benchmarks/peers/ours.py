"""Our own road, from the callback on: `Observer` -> `Session` -> `RedisStreamBackend`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from benchmarks.peers import Say
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.worker.session import Session


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Ours]:
    async with RedisStreamBackend(url) as backend:
        yield Ours(backend)


class Ours:
    def __init__(self, backend: RedisStreamBackend) -> None:
        self._backend = backend
        self._budget = Budget(32 * 1024 * 1024)

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        run_id = uuid.uuid4()
        async with Session(
            attempt, self._backend, budget=self._budget, flush_timeout=timedelta(seconds=10)
        ) as session:
            observer = Observer(session.buffer, default_node="bench")
            observer.on_chat_model_start({}, [], run_id=run_id)

            async def say(token: str) -> None:
                observer.on_llm_new_token(token, run_id=run_id)

            yield say
            observer.close()
            await session.finish("completed_provisional")
