"""Programs, run as their users run them, and whether anything of theirs is left."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
MARK = "TTI_TEST_MARK"


@dataclass
class Program:
    """A Python program with a session and a mark of its own, which all its descendants inherit."""

    process: asyncio.subprocess.Process
    mark: str

    async def line(self) -> str:
        """The next line of its output."""
        return (await self.process.stdout.readline()).decode()

    async def ended(self, within: float) -> tuple[int, str, str]:
        """Wait for its end; return its exit code, and the rest of what it put out."""
        async with asyncio.timeout(within):
            out, err = await self.process.communicate()
            code = await self.process.wait()
        return code, out.decode(), err.decode()

    def left(self) -> list[str]:
        """What is still running of it."""
        return alive(f"{MARK}={self.mark}", self.process.pid)


@asynccontextmanager
async def program(
    *arguments: str, cwd: Path = CHECKOUT, environ: dict[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run `python *arguments`; it is asked to end with the block, if it has not.

    It does not inherit the servers and the telemetry of the shell that runs the tests.
    """
    mark = uuid.uuid4().hex
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "REDIS_", "TEMPORAL_", "TTI_"))
    }
    ours = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", MARK: mark}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=cwd,
        env=inherited | ours | (environ or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Program(process, mark)
    finally:
        if process.returncode is None:
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it may have left behind
            await process.communicate()


def alive(mark: str, session: int) -> list[str]:
    """The command lines of a program's processes: by their session, or by the mark (Redis erases its own)."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
            command = (directory / "cmdline").read_text().replace("\0", " ")
            ours = os.getsid(int(directory.name)) == session or mark.encode() in environment
        except OSError:  # of another process, or gone
            continue
        if ours and command:  # a process that has ended and waits to be noticed has none
            found.append(command)
    return found
