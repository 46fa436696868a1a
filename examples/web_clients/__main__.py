"""`python -m examples.web_clients [PORT]`: Temporal, Redis, worker and gateway, until Ctrl-C.

Then, beside it: `node examples/web_clients/ai_sdk.mjs`, and the others, with their packages installed.
"""

import asyncio
import logging
import socket
import sys
from contextlib import suppress

import uvicorn

from devservers import redis_server, temporal_server
from examples.web_clients.app import chats
from examples.web_clients.worker import chat_worker
from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber


async def main(port: int = 8000) -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        RedisStreamBackend(redis_url) as backend,
        chat_worker(temporal.client, backend),
    ):
        app = chats(temporal.client, TokenSubscriber(temporal.client, backend))
        listener = socket.create_server(("127.0.0.1", port))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=3)
        )
        print(f"The gateway is at http://127.0.0.1:{listener.getsockname()[1]}; Ctrl-C ends it.", flush=True)
        await server.serve(sockets=[listener])
        await app.aclose()


if __name__ == "__main__":
    logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # an attempt dies on request
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*map(int, sys.argv[1:])))
