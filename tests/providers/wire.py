"""The wire between a provider's package and the provider: a server on loopback under the provider's names.

A model is made as users make it: its own endpoint, its own HTTP client, TLS. Only name resolution and the
port are replaced, so that what a package does for a foreign endpoint or client is not tested by mistake.
"""

import asyncio
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_TLS_PORTS = frozenset({443})
_PLAIN_PORTS = frozenset({80, 11434})  # 11434: Ollama's own
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "0.0.0.0", ""})  # noqa: S104 - compared, not bound
_TRUSTED_BY = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")  # httpx, botocore, requests


@dataclass(frozen=True)
class Request:
    """What a package sent."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body or "{}")


@dataclass(frozen=True)
class Reply:
    """What the provider answers.

    Attributes:
        pieces: The body, sent piece by piece.
        end: `whole`; `cut`: the connection breaks before the body's end; `hang`: nothing more comes, and the
            connection stays open.
    """

    pieces: Sequence[bytes]
    status: int = 200
    content_type: str = "application/json"
    end: Literal["whole", "cut", "hang"] = "whole"
    headers: dict[str, str] = field(default_factory=dict)


class Wire:
    """The server: answers each request by `answer`, keeps the requests, and notices who hangs up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: Callable[[Request], Reply] = lambda _: Reply([b"{}"], status=404)
        self.requests: list[Request] = []
        self.hangs = threading.Event()
        """Set once a reply hangs."""
        self.hung_up = threading.Event()
        """Set once a client closed the connection of a reply that hangs."""
        self.ports: dict[int, int] = {}
        self._loop = loop
        self._hanging: set[asyncio.Task[bytes]] = set()

    def reset(self) -> None:
        """Forget what came, and hang up on those who still wait."""
        self._loop.call_soon_threadsafe(lambda: [waiting.cancel() for waiting in self._hanging])
        self.requests.clear()
        self.hangs.clear()
        self.hung_up.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, which is one request."""
        # What is suppressed: the client has what it wanted, or is cancelled.
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            request = await _request_of(reader)
            self.requests.append(request)
            await self._reply(self.answer(request), reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)

    async def _reply(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = {
            "content-type": reply.content_type,
            "transfer-encoding": "chunked",
            "connection": "close",
            **reply.headers,
        }
        lines = [f"HTTP/1.1 {reply.status} -", *(f"{name}: {value}" for name, value in head.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for piece in reply.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        match reply.end:
            case "whole":
                writer.write(b"0\r\n\r\n")
                await writer.drain()
            case "cut":
                await asyncio.sleep(0.02)  # lets what came before arrive: a reset discards what was not read
                writer.transport.abort()
            case "hang":
                waiting = asyncio.create_task(reader.read())
                self._hanging.add(waiting)
                self.hangs.set()
                await asyncio.wait({waiting})
                self._hanging.discard(waiting)
                if not waiting.cancelled():  # a client closed the connection, or reset it
                    self.hung_up.set()


async def _request_of(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    path = head[0].split(" ")[1]
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(path, headers, body.decode())


@contextmanager
def serving(folder: Path, hosts: Sequence[str]) -> Iterator[Wire]:
    """Serve on a thread of its own, with TLS and without; clients made within trust it, and find it.

    Args:
        folder: Where the certificate is written.
        hosts: The names that the certificate is for.
    """
    certificate = _certificate(folder, hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()
    wire, started = Wire(loop), threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        plain = await asyncio.start_server(wire.serve, "127.0.0.1", 0, limit=2**24)
        tls = await asyncio.start_server(wire.serve, "127.0.0.1", 0, ssl=context, limit=2**24)
        for server, ports in ((plain, _PLAIN_PORTS), (tls, _TLS_PORTS)):
            wire.ports |= dict.fromkeys(ports, server.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        for server in (plain, tls):
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="wire")
    thread.start()
    assert started.wait(10)
    try:
        with _routed(wire), _trusting(certificate):
            yield wire
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextmanager
def _routed(wire: Wire) -> Iterator[None]:
    """Resolve every foreign name to loopback, and connect to the wire's ports in place of the usual ones."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return look_up(host if name is None or name in _LOOPBACK else "127.0.0.1", *args, **kwargs)

    def connect_to_wire(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] in _LOOPBACK:
            address = (address[0], wire.ports.get(address[1], address[1]), *address[2:])
        connect(self, address)

    socket.getaddrinfo = resolve
    socket.socket.connect = connect_to_wire  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
        socket.socket.connect = connect  # type: ignore[method-assign]


@contextmanager
def _trusting(certificate: Path) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _TRUSTED_BY}
    os.environ.update(dict.fromkeys(_TRUSTED_BY, str(certificate)))
    where, certifi.where = certifi.where, lambda: str(certificate)  # Mistral's reads no variable
    try:
        yield
    finally:
        certifi.where = where
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _certificate(folder: Path, hosts: Sequence[str]) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "providers of tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "providers.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
