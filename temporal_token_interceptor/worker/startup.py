"""What a worker logs when it starts: where tokens go, what is captured, whether the transport answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, runtime_checkable

from temporalio.converter import DataConverter

from temporal_token_interceptor._tasks import started
from temporal_token_interceptor.telemetry.instruments import system_of
from temporal_token_interceptor.transport.base import TokenSink
from temporal_token_interceptor.worker.live_session import live_interval
from temporal_token_interceptor.worker.options import StreamingOptions

logger = logging.getLogger(__name__)

# A transport that has not answered by then is reported as unreachable.
_ANSWER_SECONDS = 4.5


@runtime_checkable
class Checkable(Protocol):
    """What a transport may offer beside `TokenSink`: whether its server can be reached."""

    async def check(self) -> str:
        """Return why the server cannot be reached, and the fix; empty if it answers."""
        ...


class Startup:
    """Logs one line for a worker that starts, and one warning if its transport cannot be reached.

    Args:
        backend: Where the tokens go; None: into the results of the activities.
        options: Those of the worker.
    """

    def __init__(self, backend: TokenSink | None, options: StreamingOptions) -> None:
        self._backend = backend
        self._options = options
        self._is_reported = False
        self._checking: asyncio.Task[None] | None = None

    def report(self, converter: DataConverter | None = None, task_queue: str = "") -> None:
        """Log the line; a second call does nothing.

        Args:
            converter: That of the client, if it is known.
            task_queue: That of the worker, if it is known.
        """
        if self._is_reported:
            return
        self._is_reported = True
        converter = self._options.data_converter or converter
        codec = "that of the worker's client"
        if converter is not None:
            codec = "none" if converter.payload_codec is None else type(converter.payload_codec).__name__
        filters = ", ".join(f"{name}={chosen}" for name, chosen in self._options.filters().items())
        logger.info(
            "tokens of this worker%s stream through %s; filters: %s; codec: %s; version %s",
            f" (task queue {task_queue!r})" if task_queue else "",
            self._destination(),
            filters or "none",
            codec,
            _version(),
        )
        if self._backend is None and os.environ.get("REDIS_URL"):
            logger.warning(
                "REDIS_URL is set and this worker does not use it: tokens go through Temporal alone; use "
                "TokenStreamingPlugin.from_environment(), or unset the variable"
            )

    def report_and_check(self) -> None:
        """Log the line and, on a running event loop, check the transport in a task that ends within 5 s."""
        if self._is_reported:
            return
        self.report()
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the worker is made before its loop runs: its first frame reports an outage
            return
        self._checking = started(self.check(), "token-stream check of the transport")

    async def check(self) -> None:
        """Log a warning if the transport does not answer. Returns within 5 s; never raises."""
        if not isinstance(self._backend, Checkable):
            return
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                problem = await self._backend.check()
        except TimeoutError:
            problem = f"no answer for {_ANSWER_SECONDS} s; check its address and the network"
        except Exception as error:  # noqa: BLE001 - a transport of the user's; the worker must start
            problem = f"the check failed ({type(error).__name__}); see `tti doctor`"
        if problem:
            logger.warning(
                "the transport of tokens cannot be reached: %s: %s; activities run on, their tokens wait",
                self._destination(),
                problem,
            )

    def warn_of_activities(self, registered: Iterable[str]) -> None:
        """Warn if `activities` names none of the activities that the worker has."""
        chosen, present = self._options.activities, sorted(registered)
        if chosen is not None and present and not set(chosen) & set(present):
            logger.warning(
                "nothing will stream: activities=%s names none of this worker's activities, which are %s",
                sorted(chosen),
                ", ".join(present),
            )

    def _destination(self) -> str:
        interval = live_interval(self._options.live, self._options.heartbeat)
        every = f"every {interval.total_seconds():g} s" if interval is not None else ""
        if self._backend is None:
            if not every:
                return "the results of activities (custom_data), when they complete"
            return f"heartbeats, {every} while tokens come, and the results of activities (custom_data)"
        location = getattr(self._backend, "location", "")
        name = f"{system_of(self._backend)}{f' at {location}' if location else ''}"
        if self._options.fallback == "heartbeats":
            return f"{name}, and through heartbeats, {every}, while that is away"
        return name


def _version() -> str:
    try:
        return version("temporal-token-interceptor")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"
