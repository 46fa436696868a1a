"""Streaming for workers that a framework makes: adds the plugin to every worker of this process.

There is no public way to add a plugin to a worker that other code makes, so `Worker.__init__` is wrapped.
Prefer `plugins=[TokenStreamingPlugin(...)]` wherever you make the client or the worker yourself.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from temporalio.worker import Worker

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.worker.interceptor import TokenStreamingInterceptor
from temporal_token_interceptor.worker.plugin import TokenStreamingPlugin

_MARK = "_tti_plain_init"


def instrument(make_plugin: Callable[[], TokenStreamingPlugin] | None = None) -> None:
    """Let every worker that this process makes from now on stream; call it before the framework starts.

    Workers that have a `TokenStreamingPlugin` or `TokenStreamingInterceptor` already, themselves or through
    their client, stay as they are.

    Args:
        make_plugin: Returns the plugin of one worker; it is called for each. None:
            `TokenStreamingPlugin.from_environment` where `REDIS_URL` is set, else `TokenStreamingPlugin()`.

    Raises:
        ConfigurationError: it was called before, or a variable of the environment cannot be used.
    """
    if hasattr(Worker.__init__, _MARK):
        raise ConfigurationError("instrument() was called before in this process: call it once")
    make = make_plugin or _plugin_of_environment
    make()  # raises for unusable options now, and not when a worker starts
    plain = Worker.__init__

    @wraps(plain)
    def init(self: Worker, client: Any, *args: Any, **options: Any) -> None:
        if not _streams(client, options):
            options["plugins"] = [*(options.get("plugins") or ()), make()]
        plain(self, client, *args, **options)

    setattr(init, _MARK, plain)
    Worker.__init__ = init  # type: ignore[method-assign]


def uninstrument() -> None:
    """Undo `instrument`: workers that are made from now on do not stream by it."""
    Worker.__init__ = getattr(Worker.__init__, _MARK, Worker.__init__)  # type: ignore[method-assign]


def run(arguments: Sequence[str]) -> None:
    """Run a program as `python` would, with `instrument` called before its first line.

    Args:
        arguments: A file, or `-m` and a module; then the program's own arguments.

    Raises:
        SystemExit: no program was named; or the program's own.
    """
    is_module = arguments[:1] == ["-m"]
    rest = list(arguments[1:] if is_module else arguments)
    if not rest:
        raise SystemExit("usage: python -m temporal_token_interceptor run (FILE | -m MODULE) [ARGUMENT ...]")
    instrument()
    sys.argv = rest
    if is_module:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what `python -m` does
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(rest[0])))  # noqa: PTH100, PTH120
        runpy.run_path(rest[0], run_name="__main__")


def _plugin_of_environment() -> TokenStreamingPlugin:
    if os.environ.get("REDIS_URL"):
        return TokenStreamingPlugin.from_environment()
    return TokenStreamingPlugin()


def _streams(client: Any, options: dict[str, Any]) -> bool:
    """Whether a worker has the plugin or the interceptor already."""
    config = client.config() if callable(getattr(client, "config", None)) else {}
    plugins = [*(options.get("plugins") or ()), *(config.get("plugins") or ())]
    interceptors = [*(options.get("interceptors") or ()), *(config.get("interceptors") or ())]
    return any(isinstance(one, TokenStreamingPlugin) for one in plugins) or any(
        isinstance(one, TokenStreamingInterceptor) for one in interceptors
    )
