"""A provider of models on a real socket, which notices who hangs up; and a model that calls it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from temporal_token_interceptor.testing import ScriptedChatModel


class Provider:
    """Sends a line every 20 ms to each client, until the connection is closed."""

    def __init__(self) -> None:
        self.port = 0
        self.hung_up = asyncio.Event()
        self.hung_up_at = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            writer.write(b"again \n")
            await asyncio.wait({gone}, timeout=0.02)
        self.hung_up_at = time.monotonic()
        self.hung_up.set()
        writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Serve on a free port of the loopback."""
    serving = Provider()
    server = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    serving.port = server.sockets[0].getsockname()[1]
    async with server:
        yield serving


class ProvidedModel(ScriptedChatModel):
    """Streams what a provider sends, for as long as it does."""

    port: int

    @classmethod
    def at(cls, port: int) -> "ProvidedModel":
        return cls(script=lambda _messages: (), port=port)

    def _stream(self, *args: Any, **kwargs: Any):
        with socket.create_connection(("127.0.0.1", self.port)) as line, line.makefile() as lines:
            for text in lines:
                yield ChatGenerationChunk(message=AIMessageChunk(content=text[:-1]))

    async def _astream(self, *args: Any, **kwargs: Any):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            while text := await reader.readline():
                yield ChatGenerationChunk(message=AIMessageChunk(content=text[:-1].decode()))
        finally:
            writer.close()
