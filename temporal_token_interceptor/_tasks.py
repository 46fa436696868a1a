"""Waiting for one thing, alone or together, unless another comes first; joining what was started for it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Seconds to wait for a task that does not end when it is cancelled.
_JOIN_SECONDS = 5.0

_HANDED_OVER_SECONDS = 0.01


class ProgressTimeout:
    """As `asyncio.timeout`, but the seconds count from the last progress.

    Args:
        seconds: From the last progress to `TimeoutError`.
        last_progress: Returns its time on the loop's clock. It is called every half of the seconds.
    """

    def __init__(self, seconds: float, last_progress: Callable[[], float]) -> None:
        self._seconds = seconds
        self._last_progress = last_progress
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        """Begin to count."""
        await self._timeout.__aenter__()
        self._loop = loop = asyncio.get_running_loop()
        self._begun = begun = loop.time()
        self._check = loop.call_at(begun + self._seconds / 2, self._end_or_go_on)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise `TimeoutError` in place of the cancellation, if the time was over."""
        self._check.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def end(self) -> None:
        """Let the time be over now."""
        if not self._timeout.expired() and self._timeout.when() is None:
            self._timeout.reschedule(self._loop.time())

    def _end_or_go_on(self) -> None:
        look = next_look(self._loop.time(), max(self._begun, self._last_progress()), self._seconds)
        if look is None:
            self.end()
        else:
            self._check = self._loop.call_at(look, self._end_or_go_on)


def next_look(now: float, progress: float, seconds: float) -> float | None:
    """Return when to look for progress again; None if the last was so many seconds ago, or more."""
    deadline = progress + seconds
    return min(deadline, now + seconds / 2) if now < deadline else None


async def unless(stop: asyncio.Future[Any] | None, asking: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what was asked for; None if `stop` is done before. The asking is over, either way.

    Args:
        stop: None: nothing comes first.
        asking: Is cancelled where `stop` comes first.
    """
    if stop is None:
        return await asking
    task = asyncio.ensure_future(asking)
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        await joined(task)


@asynccontextmanager
async def stopping(until: Awaitable[object] | None) -> AsyncIterator[asyncio.Future[object] | None]:
    """Run what ends a subscription. A future is the caller's; a coroutine is run here, and joined.

    Raises:
        Exception: what the coroutine raises.
    """
    stop = None if until is None else asyncio.ensure_future(until)
    if stop is None or stop is until:
        yield stop
        return
    try:
        yield stop
        if stop.done() and not stop.cancelled():
            await stop  # otherwise what the coroutine raises is lost
    finally:
        await joined(stop)


async def joined(task: asyncio.Future[Any], timeout: float = _JOIN_SECONDS) -> None:  # noqa: ASYNC109
    """Cancel a task of one's own, and return once it is over, or after so many seconds.

    What it raised is not raised here, and asyncio does not log it.
    """
    task.cancel()
    await asyncio.wait({task}, timeout=timeout)
    if not task.done():
        logger.warning("%r goes on although it was cancelled", task)
    elif not task.cancelled():
        task.exception()


def started(running: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
    """Return a task that begins on the loop's next turn, also where the task factory is an eager one.

    An eager task runs up to its first wait within `create_task`: before the caller has noted it. For tasks
    whose coroutine, or its callees, look at what the caller notes.

    Args:
        running: What the task runs.
        name: The task's name, for logs.
    """
    return asyncio.Task(running, loop=asyncio.get_running_loop(), name=name)


class _Asking(Generic[_T]):
    """A question, from the first who wants an answer until it has one."""

    task: asyncio.Task[_T]

    def __init__(self, before: asyncio.Task[_T] | None) -> None:
        self.before = before
        self.is_sent = False
        self.waiting = 0


class SharedQuestions(Generic[_T]):
    """Asks each question once for all who wait for the answer; with the last of them it stops asking."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, _Asking[_T]] = {}  # the newest of each

    async def ask(
        self, key: Hashable, question: Callable[[], Coroutine[Any, Any, _T]], *, fresh: bool = False
    ) -> _T:
        """Return the answer to a question.

        Args:
            key: The same for questions that may share an answer.
            question: Asks.
            fresh: Whether the question has to be sent after this call, by any caller: who comes while it
                is under way waits for the next one, together with all others who do.

        Raises:
            Exception: what `question` raises.
        """
        asking = self._asked.get(key)
        if asking is None or (fresh and asking.is_sent):
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


@contextmanager
def cancelled_too_late() -> Iterator[None]:
    """Let a cancellation end the wait within, and nothing else."""
    current = asyncio.current_task()
    before = current.cancelling() if current else 0
    try:
        yield
    except asyncio.CancelledError:
        while current and current.cancelling() > before:
            current.uncancel()


async def replies_handed_over() -> None:
    """Let the Temporal SDK's threads leave Python, behind the last reply to a program that may end now.

    They go on for a moment once a reply is there, and an interpreter that ends meanwhile aborts
    (`PyGILState_Release`; temporalio 1.35: 10 of 80 programs on a busy machine, 0 of 40 with this pause).
    Nothing shows when they have left.
    """
    await asyncio.sleep(_HANDED_OVER_SECONDS)


async def in_thread(function: Callable[[], _T], seconds: float) -> _T:
    """Return what a function returns that runs in a thread of its own, with a copy of this context.

    Not in the loop's pool, where it would wait for the user's functions, and hold up the end of the process.

    Raises:
        TimeoutError: it has not returned within so many seconds; it goes on, and nothing waits for it.
    """
    outcome: Future[_T] = Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled, only left
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(function))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, name=getattr(function, "__name__", "function"), daemon=True).start()
    async with asyncio.timeout(seconds):
        return await asyncio.wrap_future(outcome)
