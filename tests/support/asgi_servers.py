"""ASGI servers that people use, in this process, and nginx before them; each with TLS, too."""

import asyncio
import os
import re
import shutil
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import hypercorn
import hypercorn.asyncio
import pytest
import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server as Granian

from tests.support.pages import ROOT


class Certificate(NamedTuple):
    """Files of a certificate for `localhost` that no one vouches for."""

    chain: Path
    key: Path


async def made_certificate(folder: Path) -> Certificate:
    """Make a certificate in a folder."""
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    await ran(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=localhost", "-keyout", str(made.key), "-out", str(made.chain)),
    )
    return made


@asynccontextmanager
async def on_uvicorn(app, listener):
    """With the parser that is written in Python; `httptools`, if it is there, is the default elsewhere."""
    server = uvicorn.Server(uvicorn.Config(app, http="h11", log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def on_hypercorn(app, listener, certificate: Certificate | None = None):
    """With a certificate it speaks HTTP/2."""
    config, stop = hypercorn.Config(), asyncio.Event()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    if certificate is not None:
        config.certfile, config.keyfile = map(str, certificate)
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def on_granian(app, listener, certificate: Certificate | None = None):
    """As hypercorn."""
    host, port = listener.getsockname()
    listener.close()
    files = {} if certificate is None else {"ssl_cert": certificate.chain, "ssl_key": certificate.key}
    server = Granian(app, address=host, port=port, interface=Interfaces.ASGI, log_enabled=False, **files)
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.stop()
        await serving


async def serves(url, **options):
    """Wait until a server answers."""
    async with httpx.AsyncClient(**options) as http:
        while True:
            try:
                assert (await http.get(url)).status_code == 204
            except httpx.TransportError:
                await asyncio.sleep(0.02)  # nothing reports that it listens
            else:
                return


def find_nginx():
    """Return Debian's nginx, which `.ci/run` installs where it can."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip("no nginx (Debian: apt install nginx-light)")
    return found


NGINX = """
daemon off; pid nginx.pid; error_log stderr warn; worker_processes 1;
events { }
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    gzip on; gzip_types text/event-stream;
    upstream app { server APP; }
    server {
        listen 127.0.0.1:PORT;
        listen 127.0.0.1:TLS ssl http2;
        ssl_certificate cert.pem; ssl_certificate_key key.pem;
LOCATION
    }
}
"""


@asynccontextmanager
async def nginx(folder, site):
    """Run nginx with the lines that docs/gateway.md gives; yields its address and the one with TLS."""
    command = find_nginx()
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    [location] = re.findall(r"^    location /streams/ \{\n(?:      .*\n)+    \}\n", page, re.MULTILINE)
    port, tls = free_port(), free_port()
    values = {"APP": site.split("/")[2], "PORT": str(port), "TLS": str(tls), "LOCATION": location}
    text = re.sub("|".join(values), lambda name: values[name[0]], NGINX)
    (folder / "nginx.conf").write_text(text)
    await made_certificate(folder)
    server = await asyncio.create_subprocess_exec(command, "-p", str(folder), "-c", "nginx.conf")
    try:
        await serves(f"http://127.0.0.1:{port}/streams/healthz")
        yield f"http://127.0.0.1:{port}/streams", f"https://127.0.0.1:{tls}/streams"
    finally:
        server.terminate()
        await server.wait()


async def ran(*command):
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
