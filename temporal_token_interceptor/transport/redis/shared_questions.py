"""A question that many ask at the same time goes to Redis once: a storm of viewers reads the same pages.

Who comes while a question is under way does not get its answer, which may be older than what they know. They
wait for the next one, all together: so a storm asks as often as answers come, however many viewers it has,
and each answer is of a time after it was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from temporal_token_interceptor._tasks import joined, started

_T = TypeVar("_T")


class _Asking(Generic[_T]):
    """A question, from the first who wants an answer until it has one."""

    task: asyncio.Task[_T]

    def __init__(self, before: asyncio.Task[_T] | None) -> None:
        self.before = before
        self.is_sent = False
        self.waiting = 0


class SharedQuestions(Generic[_T]):
    """Questions by what they ask. One ends with the last who waits for it."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, _Asking[_T]] = {}  # the newest of each

    async def ask(self, key: Hashable, question: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return the answer to a question that is sent after this call, by whichever task.

        Args:
            key: The same for questions that may share an answer.
            question: Asks.

        Raises:
            Exception: what `question` raises.
        """
        asking = self._asked.get(key)
        if asking is None or asking.is_sent:
            asking = _Asking(None if asking is None else asking.task)
            asking.task = started(self._answer(asking, question), f"token-stream question about {key}")
            self._asked[key] = asking
        asking.waiting += 1
        try:
            return await asyncio.shield(asking.task)
        finally:
            asking.waiting -= 1
            if not asking.waiting:
                if self._asked.get(key) is asking:
                    del self._asked[key]
                if not asking.task.done():
                    await joined(asking.task)

    async def _answer(self, asking: _Asking[_T], question: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        if asking.before is not None:
            await asyncio.wait({asking.before})
            asking.before = None
        asking.is_sent = True
        return await question()
