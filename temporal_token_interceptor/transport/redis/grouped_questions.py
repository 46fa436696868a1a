"""Questions of many readers: those that wait for one another leave together.

A question takes a turn of the reader's event loop until it is sent, and one until it is answered; where that
loop is busy, a turn takes 10 ms. Asked one after the other, 250 readers that come to their streams within a
second waited up to a second for one another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from temporal_token_interceptor._tasks import started
from temporal_token_interceptor.transport.redis.connection import Queries, ended
from temporal_token_interceptor.transport.redis.packing import Command
from temporal_token_interceptor.transport.redis.pages import REPLY_BYTES
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge

_MOST: Final = 64
"""Questions of a group: each reads a page of a stream at most."""

_AGAIN_SECONDS: Final = 30.0
"""So long groups stay a quarter as large as one whose replies were too large together; and so long each
question is asked alone after two groups in a row that failed: one of the questions may be why, and must not
take the others with it. One failure shows no more than that a connection of the pool was dead."""


@dataclass(slots=True, eq=False)
class _Question:
    command: Command
    at_most: int
    answer: asyncio.Future[Any]

    def settle(self, reply: Any) -> None:
        """Hand the reply, or the error, to who asked, if it is still wanted."""
        if self.answer.done():
            return
        if isinstance(reply, Exception):
            self.answer.set_exception(reply)
        else:
            self.answer.set_result(reply)


class GroupedQueries:
    """Asks many questions in one round trip; see `Queries`.

    What has no bound for its reply is asked alone.

    Args:
        queries: Asks one question at a time.
        most: Questions of a group.
    """

    def __init__(self, queries: Queries, *, most: int = _MOST) -> None:
        self._queries = queries
        self._most = most
        self._fitting = most  # fewer, after replies that were too large together
        self._fitting_until = 0.0  # on the loop's clock
        self._failed = 0  # groups in a row
        self._waiting: deque[_Question] = deque()
        self._task: asyncio.Task[None] | None = None
        self._alone_until = 0.0  # on the loop's clock

    @property
    def last_progress(self) -> float:
        """When bytes last came or went, on the loop's clock; 0 if none did."""
        return self._queries.last_progress

    async def ask(self, *command: str | int | bytes, at_most: int | None = None) -> Any:
        """Return the reply. See `Queries.ask`."""
        loop = asyncio.get_running_loop()
        if at_most is None or loop.time() < self._alone_until:
            return await self._queries.ask(*command, at_most=at_most)
        question = _Question(command, at_most, loop.create_future())
        self._waiting.append(question)
        if self._task is None or self._task.done():
            self._task = started(self._run(), "token-stream questions")
        return await question.answer

    async def ask_many(self, commands: Sequence[Command], *, at_most: int | None = None) -> list[Any]:
        """Return the reply to each command, or the error in its place. See `Queries.ask_many`."""
        return await self._queries.ask_many(commands, at_most=at_most)

    async def silence(self) -> None:
        """End the questions under way; give connections back."""
        if self._task is not None:
            await ended(self._task)
        self._give_up(self._waiting)
        await self._queries.silence()

    async def reconnect(self) -> None:
        """Let go of idle connections."""
        await self._queries.reconnect()

    # ------------------------------------------------------------------ the task

    async def _run(self) -> None:
        group: list[_Question] = []
        try:
            while self._waiting:
                group = self._next_group()
                for question, reply in zip(group, await self._replies(group), strict=True):
                    question.settle(reply)
        finally:
            self._give_up([*group, *self._waiting])

    def _give_up(self, questions: Iterable[_Question]) -> None:
        for question in questions:
            question.settle(RedisConnectionError("the connection was closed"))
        self._waiting.clear()

    def _next_group(self) -> list[_Question]:
        """Take what waits, but for what is no longer wanted."""
        group: list[_Question] = []
        if asyncio.get_running_loop().time() >= self._fitting_until:
            self._fitting = self._most
        while self._waiting and len(group) < self._fitting:
            question = self._waiting.popleft()
            if not question.answer.done():
                group.append(question)
        return group

    async def _replies(self, group: Sequence[_Question]) -> list[Any]:
        """Return the reply to each question, or the error in its place."""
        if len(group) > 1:
            at_most = min(sum(question.at_most for question in group), REPLY_BYTES)
            try:
                replies = await self._queries.ask_many(
                    [question.command for question in group], at_most=at_most
                )
            except ReplyTooLarge:
                self._fitting = max(1, len(group) // 4)
                self._fitting_until = asyncio.get_running_loop().time() + _AGAIN_SECONDS
            except Exception as error:  # noqa: BLE001 - redis-py raises FAILURES and, at times, others
                self._note_failure()
                return [error for _ in group]
            else:
                if any(map(_is_broken, replies)):  # a cluster's nodes break off one by one
                    self._note_failure()
                else:
                    self._failed = 0
                return replies
        return [await self._reply(question) for question in group]

    async def _reply(self, question: _Question) -> Any:
        if question.answer.done():  # given up meanwhile
            return None
        try:
            return await self._queries.ask(*question.command, at_most=question.at_most)
        except Exception as error:  # noqa: BLE001 - as above; each may fail by itself
            return error

    def _note_failure(self) -> None:
        self._failed += 1
        if self._failed > 1:
            self._alone_until = asyncio.get_running_loop().time() + _AGAIN_SECONDS


def _is_broken(reply: Any) -> bool:
    """Whether a question was not answered, not even by a refusal."""
    return isinstance(reply, Exception) and not isinstance(reply, ResponseError)
