"""A reader's own transformers over protocol events: LangGraph's `StreamTransformer`, by its public names.

A transformer is what `init`, `process` or `aprocess`, `finalize` and `fail` make it; LangGraph's class is
one, and need not be its base. Some members are replaced on the objects: `push`, `close` and `fail` of the
channels that `init` returns, because LangGraph's are bound to its own run by private names, and `schedule`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.views.protocol_events import ProtocolEvent

logger = logging.getLogger(__name__)


class Transformer(Protocol):
    """What a reader may give; `aprocess`, `finalize`, `afinalize`, `fail` and `afail` are optional.

    `before_builtins = True`: it gets each event before the run's own projections do, so that it can change
    what they show. `_native = True`: what it shows is also an attribute of the run.
    """

    def init(self) -> dict[str, Any]:
        """Return what it shows, by name: channels with a `push`, or anything else."""
        ...

    def process(self, event: Any) -> bool:
        """Handle an event; return whether it stays in the raw events of the run."""
        ...


TransformerFactory = Callable[[tuple[str, ...]], Any]
"""Makes a transformer for a namespace: that of the run is `()`. A class that takes one is a factory."""

Show = Callable[[str, str | None, bool], tuple[Callable[[Any], None], Callable[[Exception | None], None]]]
"""Given the name of what is shown, that of its channel, and whether it is native: what pushes, what ends."""


def factories(given: Sequence[Any]) -> Sequence[TransformerFactory]:
    """Return what makes transformers.

    Raises:
        ConfigurationError: one is no factory, such as a transformer that is made already: each subgraph needs
            its own.
    """
    for one in given:
        if not callable(one) or (not isinstance(one, type) and hasattr(one, "init")):
            raise ConfigurationError(
                f"transformers must be classes, or functions of a namespace, not {type(one).__name__}: "
                "each subgraph has its own"
            )
    return tuple(given)


class Transformers:
    """The transformers of one namespace.

    Args:
        factories: What makes them.
        namespace: The namespace.
        names: The projections that the run has itself.
        show: Makes a projection for a channel.

    Raises:
        ConfigurationError: a factory is none, or two show something under one name.
    """

    def __init__(
        self,
        factories: Iterable[TransformerFactory],
        namespace: tuple[str, ...],
        names: Iterable[str],
        show: Show,
    ) -> None:
        self._before: list[Any] = []
        self._after: list[Any] = []
        self._scheduled: set[asyncio.Task[Any]] = set()
        self._raising: list[asyncio.Task[Any]] = []
        self.shown: dict[str, Any] = {}
        """What they show beside channels, by name."""
        taken, ours = set(names), frozenset(names)
        for factory in factories:
            transformer = factory(namespace)
            projection = transformer.init()
            owner = type(transformer).__name__
            if not isinstance(projection, dict):
                raise ConfigurationError(f"{owner}.init must return a dict, not {type(projection).__name__}")
            if projection.keys() <= ours and type(transformer).__module__.startswith("langgraph."):
                continue  # LangGraph's own for what the run has already
            if twice := taken & projection.keys():
                raise ConfigurationError(f"{owner} shows {sorted(twice)}, which something else shows already")
            taken |= projection.keys()
            self._register(transformer, projection, show)

    def __bool__(self) -> bool:
        return bool(self._before or self._after)

    async def before(self, event: ProtocolEvent) -> bool:
        """Hand an event to those that come before the run's own projections; whether it stays."""
        return await _processed(self._before, event)

    async def after(self, event: ProtocolEvent) -> bool:
        """Hand an event to the others; whether it stays."""
        return await _processed(self._after, event)

    async def finalize(self) -> None:
        """Wait for what they scheduled, and let each end.

        Raises:
            Exception: the first that one raised; all others have ended, too.
        """
        if self._scheduled:
            await asyncio.wait(self._scheduled)
        errors: list[BaseException] = [
            error for task in self._raising if (error := task.exception()) is not None
        ]
        for transformer in self._all:
            try:
                await _called(transformer, "afinalize", "finalize")
            except Exception as error:  # noqa: BLE001 - the first is raised below
                errors.append(error)
        if errors:
            raise errors[0]

    async def fail(self, error: BaseException) -> None:
        """Cancel what they scheduled, and let each know why the run ended; what they raise is logged."""
        for task in self._scheduled:
            task.cancel()
        await asyncio.gather(*self._scheduled, return_exceptions=True)
        for transformer in self._all:
            try:
                await _called(transformer, "afail", "fail", error)
            except Exception:
                logger.exception("a stream transformer raised in `fail`; the run had failed before")

    @property
    def _all(self) -> Sequence[Any]:
        return [*self._before, *self._after]

    def _register(self, transformer: Any, projection: dict[str, Any], show: Show) -> None:
        native = bool(getattr(transformer, "_native", False))
        for name, value in projection.items():
            if hasattr(value, "push"):
                push, end = show(name, getattr(value, "name", None), native)
                value.push, value.close, value.fail = push, partial(end, None), end
            else:
                self.shown[name] = value
        transformer.schedule = self._schedule
        (self._before if getattr(transformer, "before_builtins", False) else self._after).append(transformer)

    def _schedule(self, coro: Coroutine[Any, Any, Any], *, on_error: str = "log") -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coro)
        self._scheduled.add(task)
        task.add_done_callback(self._log if on_error == "log" else self._keep)
        return task

    def _log(self, task: asyncio.Task[Any]) -> None:
        self._scheduled.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("what a stream transformer scheduled raised; the run goes on", exc_info=error)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._scheduled.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._raising.append(task)


async def _processed(transformers: Sequence[Any], event: ProtocolEvent) -> bool:
    stays = True
    for transformer in transformers:
        stays = bool(await _called(transformer, "aprocess", "process", event)) and stays
    return stays


async def _called(transformer: Any, name: str, sync_name: str, *arguments: Any) -> Any:
    method = getattr(transformer, name, None) or getattr(transformer, sync_name, None)
    result = method(*arguments) if method is not None else None
    return await result if inspect.isawaitable(result) else result
