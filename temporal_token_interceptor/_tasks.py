"""Waiting for one thing unless another comes first, and joining what was started for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# How long whoever leaves waits for a task that does not heed its cancellation.
_JOIN_SECONDS = 5.0


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
