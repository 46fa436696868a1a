"""`tti serve`: the gateway on uvicorn, in a process that sends its clients to the next one when it stops."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from temporal_token_interceptor.cli.connections import Connections
from temporal_token_interceptor.cli.http import BoundedProtocol
from temporal_token_interceptor.cli.importing import imported
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Authorize, Target, anyone
from temporal_token_interceptor.gateway.app import Gateway, gateway
from temporal_token_interceptor.reader.temporal.run_list import RunList

ANYONE = f"{anyone.__module__}:{anyone.__name__}"

_GRACE = 10  # seconds; a stream ends with its next write, so only a client that reads nothing needs them


async def serve(
    with_: Connections,
    authorize: Authorize,
    host: str,
    port: int,
    *,
    live: bool = False,
    allow_cancel: bool = False,
) -> int:
    """Serve the gateway until SIGTERM or Ctrl-C; then send its clients away, and return 0.

    Args:
        with_: Where workflows are read.
        authorize: As `gateway` takes it.
        host: The address to listen at.
        port: The port; 0 for any that is free. The line that is printed has it.
        live: Whether the live page is served, with all runs that Temporal lists.
        allow_cancel: Whether clients can cancel workflows; `authorize` is asked, for `cancel`.

    Raises:
        ConfigurationError: the address is taken, or is not of this machine.
    """

    async def cancel(request: object, target: Target) -> None:  # noqa: ARG001 - as every `Cancel`
        await with_.client.get_workflow_handle(target.workflow_id, run_id=target.run_id).cancel()

    app = gateway(
        with_.subscriber,
        authorize=authorize,
        cancel=cancel if allow_cancel else None,
        live=live,
        list_runs=RunList(with_.client, narrowed=True) if live else None,
    )
    with listening(host, port) as listener:
        address, bound, *_ = listener.getsockname()
        is_local = address.startswith(("127.", "::1"))
        config = uvicorn.Config(
            for_this_machine(app) if authorize is anyone and is_local else app,
            http=BoundedProtocol,
            log_level="warning",  # no access log: addresses have workflow ids, and may have tokens
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        if authorize is anyone and not is_local:
            sys.stderr.write(f"tti: warning: any program that reaches {address} can read every workflow\n")
        shown = f"[{address}]" if ":" in address else address
        page = f", its page at http://{shown}:{bound}/live" if live else ""
        sys.stdout.write(f"The gateway listens at http://{shown}:{bound}{page}; Ctrl-C ends it.\n")
        sys.stdout.flush()
        try:
            with collecting_seldom():
                await _Server(config, app).serve(sockets=[listener])
        finally:
            await app.aclose()
    return 0


def authorize_named(name: str | None) -> Authorize:
    """Return the function that decides who may read what.

    Raises:
        ConfigurationError: there is none, it cannot be imported, or is no `async def (request, target)`.
    """
    if not name:
        raise ConfigurationError(
            "--authorize is missing: module:function of an async function (request, target) that returns "
            f"Allow or Deny. For a first try, --authorize {ANYONE} lets everything be read"
        )
    function = imported("--authorize", name)
    if not callable(function):
        raise ConfigurationError(f"--authorize {name!r} is a {type(function).__name__}, not a function")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    if not is_async:
        raise ConfigurationError(f"--authorize {name!r} is not async: write `async def`")
    try:
        inspect.signature(function).bind("request", "target")
    except TypeError as error:
        raise ConfigurationError(f"--authorize {name!r} has to take (request, target): {error}") from error
    return cast("Authorize", function)


def for_this_machine(app: ASGIApp) -> ASGIApp:
    """Return an app that answers to this machine's own names alone.

    Another site's page could have its own name lead here once it is loaded (DNS rebinding), and where anyone
    may read, the browser would let it.
    """
    # Older releases of the middleware take "[" for the name of an address in brackets.
    names = ["localhost", "127.0.0.1", "[::1]", "::1", "["]
    return TrustedHostMiddleware(app, allowed_hosts=names, www_redirect=False)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let the garbage collector look seldom, and not at what is loaded.

    Each viewer waits for something at any time, which is no garbage. At Python's thresholds the collector
    takes a thousand of these waits for old objects with each token, and looks at everything every few
    seconds: with 1,000 viewers that stopped the process for 90 to 125 ms.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens.

    Raises:
        ConfigurationError: the address is taken, or is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    with listener:
        yield listener


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops; uvicorn waits for them, and they would never end."""

    def __init__(self, config: uvicorn.Config, app: Gateway) -> None:
        super().__init__(config)
        self._gateway = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Send all clients away, then stop as every server."""
        self._gateway.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by a signal, and do not raise it again: what was connected is to be closed, too."""
        loop = asyncio.get_running_loop()
        signals: tuple[Any, ...] = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
