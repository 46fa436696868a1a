"""Our own road, from the callback on: `Observer` -> `Session` -> `RedisStreamBackend`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from benchmarks.peers import Say
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.model_observer import Observer
from temporal_token_interceptor.capture.text_path import OnToken
from temporal_token_interceptor.events import Origin
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.worker.fetched_session import session_to


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Ours]:
    async with RedisStreamBackend(url) as backend:
        yield Ours(backend)


class Chunks:
    """A call that reports its tokens as LangChain does: in chunks, and by a callback of its own.

    There is one chunk, which gets a new text each time: what it takes to make one is LangChain's.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._run_id = uuid.uuid4()
        message = AIMessageChunk(content="")
        self._content = vars(message)
        self._chunk = ChatGenerationChunk(message=message)
        self._on_token: OnToken | None = None
        observer.on_chat_model_start({}, [], run_id=self._run_id)

    def say(self, token: str) -> None:
        """Report a token."""
        self._content["content"] = token  # to set a field by pydantic is neither's cost
        if self._on_token is not None:
            self._on_token(token, chunk=self._chunk, run_id=self._run_id)
            return
        self._observer.on_llm_new_token(token, chunk=self._chunk, run_id=self._run_id)
        self._on_token = self._observer.on_token_of(self._run_id)


class Ours:
    def __init__(self, backend: RedisStreamBackend) -> None:
        self._backend = backend
        self._budget = Budget(32 * 1024 * 1024)

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        async with session_to(
            attempt, self._backend, budget=self._budget, flush_timeout=timedelta(seconds=10)
        ) as session:
            observer = Observer(session.buffer, default_node="bench")
            chunks = Chunks(observer)

            async def say(token: str) -> None:
                chunks.say(token)

            yield say
            observer.close()
            await session.finish("completed_provisional")
