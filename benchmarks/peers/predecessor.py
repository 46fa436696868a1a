"""The pattern that this package replaces: a handler that is not inline, one task and one `XADD` for a token.

Written again for the comparison, and kinder than the pattern is in the wild: LangChain calls a handler that
is not inline on a thread, where no loop runs, and many such handlers lose their tokens there. This one
knows its loop. Its tasks are not awaited while the model runs, so that their order is left to chance; here
they are awaited at the end of the call.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler
from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.peers import Say, plain_key
from temporal_token_interceptor.events import Origin

_MAXLEN = 10_000
_TTL = 3_600


@asynccontextmanager
async def predecessor(url: str) -> AsyncIterator[_Predecessor]:
    async with Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=100)) as client:
        yield _Predecessor(client)


class _Predecessor:
    def __init__(self, client: Redis) -> None:
        self._client = client

    @asynccontextmanager
    async def call(self, attempt: Origin) -> AsyncIterator[Say]:
        handler = TaskPerToken(self._client, plain_key(attempt))
        # What LangChain itself calls with each chunk: it is where a handler that is not inline costs.
        manager = AsyncCallbackManagerForLLMRun(
            run_id=uuid.uuid4(), handlers=[handler], inheritable_handlers=[]
        )

        async def say(token: str) -> None:
            await manager.on_llm_new_token(token)

        yield say
        await handler.drain()
        await self._client.expire(handler.key, _TTL)


class TaskPerToken(BaseCallbackHandler):
    """Starts a task for each token, which sends it."""

    def __init__(self, client: Redis, key: str) -> None:
        super().__init__()
        self.key = key
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self._loop.call_soon_threadsafe(self._start, token)

    def _start(self, token: str) -> None:
        task = self._loop.create_task(self._send(token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, token: str) -> None:
        await self._client.xadd(self.key, {"f": token}, maxlen=_MAXLEN, approximate=True)

    async def drain(self) -> None:
        """Wait until all is sent."""
        await asyncio.sleep(0)  # what was handed over last becomes a task now
        while self._tasks:
            await asyncio.gather(*self._tasks)
