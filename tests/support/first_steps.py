"""README's first steps, timed: `python -m tests.support.first_steps`, or `make first-steps`.

A fresh environment gets the checkout by `pip install .`, what README names beside it, and nothing else.
README's files run as they stand, against a dev server, without Redis. Printed: the seconds from `pip` to the
first token that the viewer shows, and what the installation took of them.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from devservers import temporal_server

ROOT = Path(__file__).parents[2]
WORD = b"Durable"  # what README's model says first

_BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)
_PACKAGES = re.compile(r"^pip install temporal-token-interceptor (.+?)  #", re.MULTILINE)
_SECONDS = 300  # for all of it


async def _run(*command: str, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    if await process.wait():
        raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}")


async def measure() -> tuple[float, float]:
    """Return the seconds from `pip` to the first token, and those of the installation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = _PACKAGES.findall(text)[0].split()
    hidden = ("REDIS_URL", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    async with asyncio.timeout(_SECONDS), temporal_server() as temporal:
        environment["TEMPORAL_ADDRESS"] = temporal.client.service_client.config.target_host
        with tempfile.TemporaryDirectory(prefix="first-steps-") as folder:
            python = str(Path(folder, "venv/bin/python"))
            _write_files(text, folder)
            await _run(sys.executable, "-m", "venv", f"{folder}/venv", environment=environment)
            began = time.monotonic()
            await _run(python, "-m", "pip", "install", "-q", str(ROOT), *packages, environment=environment)
            installed = time.monotonic()
            worker = await asyncio.create_subprocess_exec(python, "worker.py", cwd=folder, env=environment)
            viewer = await asyncio.create_subprocess_exec(
                python, "viewer.py", "first-chat", cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
            )
            try:
                shown = await _until_first_token(viewer)
            finally:
                for process in (worker, viewer):
                    if process.returncode is None:
                        process.terminate()
                    await process.wait()
    return shown - began, installed - began


def _write_files(text: str, folder: str) -> None:
    for name, code in _BLOCK.findall(text):
        Path(folder, name).write_text(code, encoding="utf-8")


async def _until_first_token(viewer: asyncio.subprocess.Process) -> float:
    output = b""
    assert viewer.stdout is not None
    while WORD not in output:
        if not (more := await viewer.stdout.read(100)):
            raise RuntimeError(f"README's viewer ended without a token: {output!r}")
        output += more
    shown = time.monotonic()
    await viewer.stdout.read()  # to its end
    if await viewer.wait():
        raise RuntimeError(f"README's viewer ended with code {viewer.returncode}")
    return shown


if __name__ == "__main__":
    total, installation = asyncio.run(measure())
    sys.stdout.write(
        f"first token {total:.1f} s after pip began, of which the installation took {installation:.1f} s\n"
    )
