"""A task factory that runs a task's first step within `create_task`, on interpreters without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def eager_task_factory() -> Callable[..., asyncio.Task[Any]]:
    """Return asyncio's own (Python 3.12), or one that does the same as far as our code can see."""
    own: Callable[..., asyncio.Task[Any]] | None = getattr(asyncio, "eager_task_factory", None)
    return own or _emulated


@contextmanager
def eager_tasks() -> Iterator[None]:
    """Make the tasks of the running loop eager."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(eager_task_factory())
    try:
        yield
    finally:
        loop.set_task_factory(before)


def _emulated(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task as usual, and run the first step that it has scheduled at once."""
    scheduled: list[asyncio.Handle] = []
    call_soon = loop.call_soon

    def recorded(*arguments: Any, **more: Any) -> asyncio.Handle:
        handle = call_soon(*arguments, **more)
        scheduled.append(handle)
        return handle

    loop.call_soon = recorded  # type: ignore[method-assign, assignment]
    try:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    finally:
        del loop.call_soon
    [first] = scheduled
    callback, arguments = first._callback, first._args  # type: ignore[attr-defined]
    first.cancel()
    current = asyncio.current_task(loop)
    if current is not None:
        asyncio.tasks._leave_task(loop, current)
    try:
        callback(*arguments)
    finally:
        if current is not None:
            asyncio.tasks._enter_task(loop, current)
    return task
