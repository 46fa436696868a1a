"""A thread with an event loop, for programs that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.reader.subscriber import TokenSubscriber

_T = TypeVar("_T")

Make = Callable[[], "AbstractAsyncContextManager[TokenSubscriber] | Awaitable[TokenSubscriber]"]
"""Makes the subscriber on the loop that will use it: an async context manager, or an async function."""


class LoopThread:
    """A thread with an event loop, and the subscriber that lives on it."""

    def __init__(self, make: Make) -> None:
        opened: Future[tuple[BlockingPortal, TokenSubscriber]] = Future()
        # A daemon: a program that does not close it ends all the same.
        self._thread = threading.Thread(
            target=anyio.run, args=(_live, make, opened), name="token-stream-loop", daemon=True
        )
        self._thread.start()
        self._begun: set[asyncio.Future[object]] = set()  # a loop itself keeps no task alive
        self._portal: BlockingPortal
        self.subscriber: TokenSubscriber
        try:
            self._portal, self.subscriber = opened.result()
        except Exception:
            self._thread.join()
            raise

    def call(self, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Return what an async function returns on the loop; a thread that is interrupted cancels it."""
        running = self.start(function, *args)
        try:
            return result_of(running)
        except BaseException:
            running.cancel()
            raise

    def do(self, function: Callable[[], _T]) -> _T:
        """Return what a plain function returns that has to run on the loop."""

        async def done() -> _T:
            return function()

        return self.call(done)

    def start(self, function: Callable[..., Awaitable[_T]], *args: Any) -> Future[_T]:
        """Run an async function on the loop.

        Raises:
            ConfigurationError: the loop was closed.
        """
        try:
            return self._portal.start_task_soon(function, *args)
        except RuntimeError as error:
            raise _closed() from error

    def begin(self, function: Callable[..., Awaitable[object]], *args: Any) -> Future[Any] | None:
        """Run an async function from any thread, also the loop's own; None where the loop was closed.

        The garbage collector runs in whichever thread it does: nothing waits for this.
        """
        if threading.current_thread() is not self._thread:
            try:
                return self.start(function, *args)
            except ConfigurationError:  # all that was on the loop has ended with it
                return None
        running = asyncio.ensure_future(function(*args))
        self._begun.add(running)
        running.add_done_callback(self._begun.discard)
        return None

    def close(self) -> None:
        """End all that runs on the loop, close what was opened, and end the thread."""
        self.start(self._portal.stop, True)  # noqa: FBT003 - anyio's: whether to cancel what runs
        self._thread.join()


def result_of(running: Future[_T]) -> _T:
    """Return what ran on a loop.

    Raises:
        ConfigurationError: the loop was closed meanwhile.
    """
    try:
        return running.result()
    except CancelledError as error:
        raise _closed() from error


def _closed() -> ConfigurationError:
    return ConfigurationError("the BlockingSubscriber was closed while it was read")


async def _live(make: Make, opened: Future[tuple[BlockingPortal, TokenSubscriber]]) -> None:
    """Open, and close at the end, in one task: some libraries insist on it."""
    try:
        async with AsyncExitStack() as exits:
            made = make()
            if isinstance(made, AbstractAsyncContextManager):
                subscriber = await exits.enter_async_context(made)
            else:
                subscriber = await made
            async with BlockingPortal() as portal:
                opened.set_result((portal, subscriber))
                await portal.sleep_until_stopped()
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)
