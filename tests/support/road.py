"""A TCP road to a site that can be cut, or be closed for a while."""

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_CLOSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Road:
    """Listens on loopback, and passes on to a site.

    Attributes:
        url: Where it begins.
        streams: The heads of the requests for event streams, in lower case.
    """

    def __init__(self, site: str) -> None:
        self.url = ""
        self.streams: list[str] = []
        self._site = urlsplit(site)
        self._refused = 0
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def cut(self) -> None:
        """Break every connection there is, without a word."""
        for writer in self._connections.values():
            writer.transport.abort()

    def refuse(self, times: int) -> None:
        """Answer the next requests with an error."""
        self._refused = times

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            with suppress(OSError):
                await self._connect(reader, writer)
        finally:
            del self._connections[task]
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._site.hostname, self._site.port)
        try:
            async with asyncio.TaskGroup() as ways:
                back = ways.create_task(self._pass_on(there_reader, writer))
                await self._requests(reader, writer, there_writer)
                back.cancel()
        except ExceptionGroup as group:
            if group.split(OSError)[1]:
                raise
        finally:
            there_writer.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):  # on loopback, a request of a browser comes in one piece
            head = data.decode(errors="replace").lower()
            if "/events" in head.partition("\n")[0]:
                self.streams.append(head)
            if self._refused:
                self._refused -= 1
                writer.write(_CLOSED)
                await writer.drain()
                return
            there.write(data)
            await there.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
