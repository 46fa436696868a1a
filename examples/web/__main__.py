"""`python -m examples.web [PORT]`: Temporal, Redis, worker and app, until Ctrl-C."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from devservers import redis_server, temporal_server
from examples.web.app import app
from examples.web.worker import chat_worker


class Server(uvicorn.Server):
    """A server that ends its streams when it stops; they would hold it up otherwise."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app.state.streams.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by a signal, and do not raise it again: Temporal and Redis have to be stopped, too."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def main(port: int = 8000) -> None:
    async with temporal_server() as temporal, redis_server() as redis_url:
        os.environ["TEMPORAL_ADDRESS"] = temporal.client.service_client.config.target_host
        os.environ["REDIS_URL"] = redis_url
        server = Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
        listener = socket.create_server(("127.0.0.1", port))
        async with chat_worker(temporal.client):
            print(
                f"Open http://127.0.0.1:{listener.getsockname()[1]} in a browser; Ctrl-C ends it.", flush=True
            )
            await server.serve(sockets=[listener])


if __name__ == "__main__":
    logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # an attempt dies on request
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*map(int, sys.argv[1:])))
