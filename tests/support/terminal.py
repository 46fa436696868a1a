"""A real terminal for tests: a tmux session of our own, whose screen is read as a person sees it."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

_LOOK_SECONDS = 0.05


class Terminal:
    """A running tmux session."""

    def __init__(self, tmux: str, name: str) -> None:
        self._tmux, self._name = tmux, name

    async def run(self, *arguments: str) -> str:
        """Give tmux a command; return what it prints."""
        process = await asyncio.create_subprocess_exec(
            self._tmux,
            "-L",
            self._name,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def screen(self, *, styled: bool = False) -> str:
        """What stands on the screen now, with what has scrolled away; with escape codes if asked for."""
        return await self.run("capture-pane", "-p", "-S", "-500", "-J", *(["-e"] if styled else []))

    async def until(self, text: str, seconds: float = 20, *, styled: bool = False) -> str:
        """Wait until a text is on the screen; return the screen."""
        screen = ""
        try:
            async with asyncio.timeout(seconds):
                while text not in (screen := await self.screen(styled=styled)):  # noqa: ASYNC110 - tmux has no event for it
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            pytest.fail(f"{text!r} did not appear within {seconds} s; the screen:\n{screen}")
        return screen

    async def ended(self, seconds: float = 20) -> None:
        """Wait until the command has ended: what it redraws last, it draws in several pieces."""
        async with asyncio.timeout(seconds):
            while await self.run("display-message", "-p", "#{pane_dead}") != "1\n":  # noqa: ASYNC110 - as above
                await asyncio.sleep(_LOOK_SECONDS)

    async def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        await self.run("send-keys", *keys)


@asynccontextmanager
async def terminal(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """Run a command in a terminal of 100 x 30; the session and all in it end with the block."""
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("no tmux on this machine: apt-get install tmux")
    opened = Terminal(tmux, f"tti-{uuid.uuid4().hex[:8]}")
    variables = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
    size = ["-x", "100", "-y", "30"]
    await opened.run("-f", "/dev/null", "new-session", "-d", *size, *variables, *command)
    try:
        await opened.run("set-option", "remain-on-exit", "on")
        yield opened
    finally:
        await opened.run("kill-server")
