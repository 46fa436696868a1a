"""The same runs in a browser: the gateway and its live page, served by this process."""

import asyncio
import os
import socket
import sys
import uuid
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from temporalio.client import Client

from examples.demo import QUESTIONS
from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import Target, anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.reader.temporal.run_list import RunList

BETWEEN_ROUNDS = 8  # seconds to read what is on the page


class _Server(uvicorn.Server):
    """A server that leaves signals to the demo, which has more to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def live_page(temporal_address: str, redis_url: str) -> AsyncIterator[str]:
    """Serve the page on a free port of this machine; yield its address."""
    client = await Client.connect(temporal_address)

    async def cancel(request: object, target: Target) -> None:  # noqa: ARG001 - as every `Cancel`
        await client.get_workflow_handle(target.workflow_id).cancel()

    async with RedisStreamBackend(redis_url) as backend:
        app = gateway(
            TokenSubscriber(client, backend),
            authorize=anyone,  # nothing private, and only this machine reaches it
            cancel=cancel,
            live=True,
            list_runs=RunList(client),
        )
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/live"
            finally:
                app.drain()
                server.should_exit = True
                await serving
                await app.aclose()


async def ask_again_and_again(temporal_address: str) -> None:
    """Ask both questions at the same time, round after round, until this is cancelled."""
    client = await Client.connect(temporal_address)
    while True:
        runs = [
            await client.start_workflow(
                "Support", question, id=f"question-{uuid.uuid4()}", task_queue="support"
            )
            for question in QUESTIONS
        ]
        for run in runs:
            await run.result()
        await asyncio.sleep(BETWEEN_ROUNDS)


def open_in_browser(url: str) -> None:
    """Open an address, where there is a browser with windows and a person before it."""
    has_windows = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if sys.stdout.isatty() and has_windows:
        webbrowser.open(url)
