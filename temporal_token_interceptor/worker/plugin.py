"""`TokenStreamingPlugin`: the interceptor, its backend, the codec and the sandbox, installed in one line.

On the client, it is installed in every worker of the client; on a worker, in that worker. On both it is
installed once all the same (Temporal warns, because other plugins would then run twice).
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Self, Unpack

import temporalio.client
import temporalio.worker
from temporalio.client import Client, ClientConfig, WorkflowHistory
from temporalio.service import ConnectConfig, ServiceClient
from temporalio.worker import (
    Replayer,
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowReplayResult,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal_token_interceptor import environment
from temporal_token_interceptor._tasks import joined, started
from temporal_token_interceptor.errors import ConfigurationError, TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.instruments import system_of
from temporal_token_interceptor.transport.base import StandIn, TokenSink
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from temporal_token_interceptor.worker.interceptor import TokenStreamingInterceptor, managed
from temporal_token_interceptor.worker.live_session import live_interval
from temporal_token_interceptor.worker.options import StreamingKeywords
from temporal_token_interceptor.worker.startup import Checkable


class TokenStreamingPlugin(temporalio.client.Plugin, temporalio.worker.Plugin):
    """Streams the tokens of every worker that it is installed in: `Client.connect(..., plugins=[...])`.

    It adds the interceptor once, gives it the data converter of the client (with a payload codec, frames are
    sealed), and lets workflow files import LangChain through the sandbox. It closes what it has made when the
    last worker of the process has stopped. A `Replayer` never touches the backend.

    All workers that share a plugin run on one event loop.

    Args:
        backend: A function that makes what the tokens go to, such as `lambda: RedisStreamBackend(url)`: it is
            called when the first worker starts, again if one starts after the last has stopped. Or that
            itself: then it is yours, for readers of the same process too, and yours to close.
            None: the tokens travel in heartbeats and go into the activities' results, as
            `TokenStreamingInterceptor` says; the worker then sends heartbeats as often as `live` needs it.
        options: Those of `TokenStreamingInterceptor`.

    Raises:
        ConfigurationError: an argument cannot be used; the message names it.
    """

    def __init__(
        self,
        backend: TokenSink | Callable[[], TokenSink] | None = None,
        **options: Unpack[StreamingKeywords],
    ) -> None:
        self._backend = None if backend is None else _SharedSink(backend)
        self._options: dict[str, Any] = {**options}
        self._interceptor()  # raises for unusable options now, and not when a worker starts

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        backend: TokenSink | Callable[[], TokenSink] | None = None,
        **more: Unpack[StreamingKeywords],
    ) -> Self:
        """Return a plugin for Redis as `REDIS_URL` and `TTI_*` say; see docs/operations.md.

        Args:
            environ: Instead of `os.environ`.
            backend: Instead of a Redis at `REDIS_URL`, such as one with a `client` of your own.
            more: Options that come before those of the environment.

        Raises:
            ConfigurationError: a variable cannot be used, or `REDIS_URL` is not set; the message names it.
        """
        if backend is None:
            RedisStreamBackend.from_environment(environ)  # raises for unusable options now; nothing connects
            redis = environment.options(environment.REDIS, environ)
            backend = partial(RedisStreamBackend, **redis)
        else:
            environment.warn_of_unknown(environ)
        return environment.made(partial(cls, backend), environment.INTERCEPTOR, environ, **more)

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Leave the client as it is: Temporal passes this plugin on to its workers."""
        return config

    async def connect_service_client(
        self,
        config: ConnectConfig,
        next: Callable[[ConnectConfig], Awaitable[ServiceClient]],  # noqa: A002
    ) -> ServiceClient:
        """Leave the connection as it is."""
        return await next(config)

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add the interceptor, unless this plugin has added it already.

        Raises:
            ConfigurationError: the worker has another interceptor of ours.
        """
        present = list(config.get("interceptors") or ())
        ours = [one for one in present if isinstance(one, TokenStreamingInterceptor)]
        if any(one.backend is not self._backend for one in ours):
            raise ConfigurationError(
                "the worker would stream every token twice: besides this TokenStreamingPlugin it has another "
                "one, or a TokenStreamingInterceptor; keep only one of them"
            )
        if not ours:
            converter = _client_of(config).data_converter
            interceptor = self._interceptor(data_converter=converter)
            managed(interceptor).startup.warn_of_activities(_names_of(config.get("activities") or ()))
            config["interceptors"] = [*present, interceptor]
            config["workflow_runner"] = _opened(config.get("workflow_runner"))
            self._let_heartbeats_through(config)
        return config

    def _let_heartbeats_through(self, config: WorkerConfig) -> None:
        """Let the SDK send heartbeats as often as live streaming needs it; more often stays as it is."""
        options = self._interceptor().options
        interval = live_interval(options.live, options.heartbeat)
        uses_them = self._backend is None or options.fallback == "heartbeats"
        if uses_them and interval is not None:
            longest, default = timedelta(seconds=60), timedelta(seconds=30)  # the SDK's
            config["max_heartbeat_throttle_interval"] = min(
                config.get("max_heartbeat_throttle_interval", longest), interval
            )
            config["default_heartbeat_throttle_interval"] = min(
                config.get("default_heartbeat_throttle_interval", default), interval
            )

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:  # noqa: A002
        """Run a worker with the backend open; after the last one, close it if the plugin has made it."""
        config = worker.config(active_config=True)
        interceptors = config.get("interceptors") or ()
        ours = [managed(one) for one in interceptors if isinstance(one, TokenStreamingInterceptor)]
        async with AsyncExitStack() as stack:
            if self._backend is not None:
                await stack.enter_async_context(self._backend.lent())
            for setup in ours:
                stack.push_async_callback(setup.close)
                setup.startup.report(_client_of(config).data_converter, worker.task_queue)
                stack.push_async_callback(joined, started(setup.startup.check(), "token-stream check"))
            await next(worker)

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Let workflow files import what they may on the worker. No activity runs, so nothing streams."""
        config["workflow_runner"] = _opened(config.get("workflow_runner"))
        return config

    def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[  # noqa: A002
            [Replayer, AsyncIterator[WorkflowHistory]],
            AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]],
        ],
    ) -> AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]:
        """Replay without the backend."""
        return next(replayer, histories)

    def _interceptor(self, **more: Any) -> TokenStreamingInterceptor:
        return TokenStreamingInterceptor(self._backend, **(more | self._options))

    def __repr__(self) -> str:
        """Describe the state."""
        return f"<TokenStreamingPlugin {'into results' if self._backend is None else repr(self._backend)}>"


def _client_of(config: WorkerConfig) -> Client:
    return config["client"]  # pyright: ignore[reportTypedDictNotRequiredAccess] - a worker always has one


def _names_of(activities: Iterable[Callable[..., Any]]) -> list[str]:
    """Return the names of activities, of those that the decorator marked in the SDK's way; private to it."""
    definitions = (getattr(one, "__temporal_activity_definition", None) for one in activities)
    return [one.name for one in definitions if one is not None and one.name]


def _opened(runner: WorkflowRunner | None) -> Any:
    """Return a runner whose sandbox lets our modules and LangChain's through; other runners as they are.

    They do I/O and keep registries, which the sandbox would import again for every workflow, slowly, and then
    refuse.
    """
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    providers = [name for _, name, _ in pkgutil.iter_modules() if name.startswith(("langchain", "langgraph"))]
    return dataclasses.replace(
        runner,
        restrictions=runner.restrictions.with_passthrough_modules(
            # langgraph is a namespace package, which no list of modules shows.
            "temporal_token_interceptor",
            "langgraph",
            "langsmith",
            "deepagents",  # looks at its own files when an agent is made
            *providers,
        ),
    )


class _SharedSink(StandIn):
    """The backend of all workers of a plugin, there while one of them runs; closed only if made here."""

    def __init__(self, backend: TokenSink | Callable[[], TokenSink]) -> None:
        self._is_made = not isinstance(backend, TokenSink)
        if isinstance(backend, TokenSink):
            self._make: Callable[[], TokenSink] = lambda: backend
        elif callable(backend):
            self._make = backend
        else:
            raise ConfigurationError(
                "backend must be a TokenSink such as RedisStreamBackend(...), a function that makes one, or "
                f"None, not {type(backend).__name__}"
            )
        self._sink: TokenSink | None = None
        self._workers = 0
        self.keep_interval = timedelta(minutes=1)  # until the sink is there and says its own

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Have the backend open within; when the last one leaves, close what was made for it."""
        if self._sink is None:
            sink = self._make()
            if not isinstance(sink, TokenSink):
                raise ConfigurationError(f"backend made a {type(sink).__name__}, which is no TokenSink")
            self._sink, self.keep_interval = sink, sink.keep_interval
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1
            if not self._workers:
                sink, self._sink = self._sink, None
                if self._is_made:
                    await sink.close()

    @property
    def location(self) -> str:
        """Where the backend's server is, without credentials; empty where it does not say."""
        return str(getattr(self._sink, "location", ""))

    @property
    def system(self) -> str:
        """What telemetry and logs call the backend."""
        return system_of(self._sink)

    async def check(self) -> str:
        """Return why the backend's server cannot be reached; empty if it answers, or cannot be asked."""
        return await self._sink.check() if isinstance(self._sink, Checkable) else ""

    @property
    def opened(self) -> TokenSink:
        """The backend, while a worker runs; see `StandIn`."""
        return self if self._sink is None else self._sink

    async def write(self, stream: StreamKey, data: bytes) -> None:
        if self._sink is None:
            raise TokenStreamError("the backend is not open: no worker of its plugin runs")
        await self._sink.write(stream, data)

    def keep(self, stream: StreamKey) -> None:
        if self._sink is not None:
            self._sink.keep(stream)

    async def close(self) -> None:
        """Do nothing: the last worker closes it."""

    def __repr__(self) -> str:
        return f"for {self._workers} workers, to {self._sink or 'a backend that is not open yet'!r}"
