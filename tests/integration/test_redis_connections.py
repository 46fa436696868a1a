"""The Redis of a production: users with few rights, TLS, a socket instead of a port."""

import asyncio
import ssl
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from temporal_token_interceptor import RedisStreamBackend, TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from tests.support.rights import READER, WRITER

WRITER_WITHOUT_SCRIPTS = [right for right in WRITER if right not in ("+evalsha", "+eval", "+ttl")]
SHORT = timedelta(seconds=1)  # until a refusal has lasted; a full machine takes 0.2 s to connect
READER_WITHOUT_CLIENT = [right for right in READER if not right.startswith("+client")]


def a_stream() -> StreamKey:
    return StreamKey("default", f"connections-{uuid.uuid4().hex[:8]}", "run")


async def passes_entries(writer: RedisStreamBackend, reader: RedisStreamBackend) -> None:
    """An entry that was there, one that comes while the reader waits, and the pointer."""
    stream = a_stream()
    await writer.write(stream, b"there")
    entries = reader.read(stream)
    try:
        async with asyncio.timeout(10):
            assert [entry.data for entry in await anext(entries)] == [b"there"]
            coming = asyncio.ensure_future(anext(entries))
            await asyncio.sleep(0.05)  # so that it blocks, most likely; it must be right either way
            await writer.write(stream, b"comes")
            assert [entry.data for entry in await coming] == [b"comes"]
            writer.keep(stream)
            while await reader.newest_run(stream.namespace, stream.workflow_id) != "run":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        await entries.aclose()


@asynccontextmanager
async def a_user(redis: Redis, url: str, rights: list[str]) -> AsyncIterator[str]:
    """URL of a user with these commands on our keys, and no others."""
    name = f"tti-{uuid.uuid4().hex[:8]}"
    await redis.execute_command("ACL", "SETUSER", name, "on", ">secret", "~tti:v1:*", *rights)
    try:
        parts = urlsplit(url)
        yield parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
    finally:
        await redis.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize(
    ("writer_rights", "reader_rights"),
    [(WRITER, READER), (WRITER_WITHOUT_SCRIPTS, READER_WITHOUT_CLIENT)],
    ids=["documented", "without scripts and unblocking"],
)
async def test_a_writer_that_may_not_read_and_a_reader_that_may_not_write(
    redis_url, redis_client, writer_rights, reader_rights
):
    """I give workers and viewers a user each, with the few commands that the documentation lists."""
    async with (
        a_user(redis_client, redis_url, writer_rights) as writer_url,
        a_user(redis_client, redis_url, reader_rights) as reader_url,
        RedisStreamBackend(writer_url) as writer,
        RedisStreamBackend(reader_url) as reader,
    ):
        await passes_entries(writer, reader)


async def test_each_is_refused_what_it_does_not_need(redis_url, redis_client):
    """A viewer's stolen password forges nothing, a worker's reads nothing, and neither sees other keys."""
    stream = a_stream()
    async with (
        a_user(redis_client, redis_url, WRITER) as writer_url,
        a_user(redis_client, redis_url, READER) as reader_url,
        RedisStreamBackend(reader_url, patience=SHORT) as reader,
        RedisStreamBackend(writer_url, patience=SHORT) as writer,
        RedisStreamBackend(writer_url, channel_prefix="other:", patience=SHORT) as elsewhere,
        Redis.from_url(writer_url) as writer_client,
        Redis.from_url(reader_url) as reader_client,
    ):
        refused = await asyncio.gather(
            reader.write(stream, b"forged"),
            writer.last_id(stream),
            elsewhere.write(stream, b"x"),
            return_exceptions=True,
        )
        assert [type(error).__name__ for error in refused if "the rights" not in str(error)] == []
        assert all(isinstance(error, TokenStreamError) for error in refused)
        for command in (["DEL", "tti:v1:x"], ["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"]):
            for client in (writer_client, reader_client):
                with pytest.raises(NoPermissionError):
                    await client.execute_command(*command)


async def test_a_unix_socket_is_as_good_as_a_port(redis_binary):
    with tempfile.TemporaryDirectory(prefix="tti-") as directory:
        path = f"{directory}/redis.sock"
        with subprocess.Popen(  # noqa: ASYNC220, S603 - returns at once; our own binary
            [redis_binary, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        ) as server:
            try:
                async with RedisStreamBackend(f"unix://{path}") as backend:
                    await passes_entries(backend, backend)
            finally:
                server.kill()


async def test_tls_with_a_ca_and_client_certificates(redis_url):
    """`rediss://` with my CA and a client certificate works; without the certificate nothing gets through."""
    with tempfile.TemporaryDirectory(prefix="tti-") as directory:
        ca, server, client = certificates(Path(directory))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
        context.load_cert_chain(*map(str, server))
        context.verify_mode = ssl.CERT_REQUIRED
        async with tls_in_front_of(redis_url, context) as port:
            trusted = f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca}"
            proven = f"{trusted}&ssl_certfile={client[0]}&ssl_keyfile={client[1]}"
            async with RedisStreamBackend(proven) as backend:
                await passes_entries(backend, backend)

            async with RedisStreamBackend(trusted, patience=timedelta(seconds=0.3)) as backend:
                with pytest.raises(TokenStreamError):
                    await backend.last_id(a_stream())


@asynccontextmanager
async def tls_in_front_of(url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS for a Redis that was built without."""
    parts = urlsplit(url)
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(parts.hostname, parts.port)
        for task in (pipe(reader, redis_writer), pipe(redis_reader, writer)):
            pipes.add(asyncio.ensure_future(task))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


def certificates(home: Path) -> tuple[Path, tuple[Path, Path], tuple[Path, Path]]:
    """A CA, and a certificate with its key for the server and for the client."""
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def issue(name: str, *, ca: bool) -> tuple[Path, Path]:
        key = ca_key if ca else ec.generate_private_key(ec.SECP256R1())
        subject = ca_name if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("127.0.0.1"), x509.DNSName("localhost"), _loopback()]
                ),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )
        paths = home / f"{name}.crt", home / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    return issue("ca", ca=True)[0], issue("server", ca=False), issue("client", ca=False)


def _loopback() -> x509.IPAddress:
    from ipaddress import ip_address

    return x509.IPAddress(ip_address("127.0.0.1"))
