"""A real browser, driven by its debugging protocol: just enough to open a page and to ask what is in it."""

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

DEADLINE = 20

FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=900,800",
)


_NOTE = """
window.noted = []
addEventListener('securitypolicyviolation', event => noted.push(event.violatedDirective + event.blockedURI))
addEventListener('error', event => noted.push(String(event.message)))
addEventListener('unhandledrejection', event => noted.push(String(event.reason)))
"""


def find_chromium() -> str | None:
    """Return the path of Debian's Chromium, if it is installed."""
    return shutil.which("chromium")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self._call("Page.navigate", url=url)

    async def reload(self) -> None:
        """Load the page again, as F5 does."""
        await self._call("Page.reload")

    async def watch(self) -> None:
        """Note in `window.noted` what the page's policy refuses, and the mistakes of its scripts."""
        await self._call("Page.enable")
        await self._call("Page.addScriptToEvaluateOnNewDocument", source=_NOTE)

    async def trust(self) -> None:
        """Take any certificate, also one that no one vouches for."""
        await self._call("Security.enable")
        await self._call("Security.setIgnoreCertificateErrors", ignore=True)

    async def emulate(self, *, scheme: str = "light", motion: str = "no-preference") -> None:
        """Choose what users choose in their system: `light` or `dark`, and `reduce` for less motion."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        chosen = [{"name": name, "value": value} for name, value in features.items()]
        await self._call("Emulation.setEmulatedMedia", features=chosen)

    async def resize(self, width: int, height: int) -> None:
        """Give the page so many pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._call("Emulation.setDeviceMetricsOverride", **metrics)

    async def screenshot(self, file: Path) -> None:
        """Draw the page into a PNG."""
        picture = await self._call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(picture["data"]))  # noqa: ASYNC240 - a small file

    async def press(self, key: str) -> None:
        """Press a key, as a keyboard does."""
        for kind in ("keyDown", "keyUp"):
            await self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression is, as JSON."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true; return it."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    with suppress(AssertionError):  # the page is not there yet
                        if value := await self.evaluate(expression):
                            return value
                    await asyncio.sleep(0.02)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{expression} never came true; the page shows:\n{shown}") from None

    async def _call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]


class Browser:
    """A Chromium. Its tabs share what a browser shares, such as the six connections to a site."""

    def __init__(self, port: int) -> None:
        self._devtools = f"http://127.0.0.1:{port}/json"

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Page]:
        """A new tab, closed with the block."""
        async with httpx.AsyncClient() as http:
            tab = (await http.put(f"{self._devtools}/new")).json()
            try:
                async with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                    yield Page(socket)
            finally:
                await http.get(f"{self._devtools}/close/{tab['id']}")


@asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Page]:
    """A tab of a Chromium with a fresh profile in a directory; gone with the block."""
    async with browser(directory) as started, started.tab() as page:
        yield page


@asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[Browser]:
    """A Chromium with a fresh profile in a directory; gone with the block."""
    process = await asyncio.create_subprocess_exec(
        find_chromium() or "chromium",
        *FLAGS,
        f"--user-data-dir={directory}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(directory / "DevToolsActivePort")
        yield Browser(port)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(FileNotFoundError, IndexError, ValueError):
                return int(file.read_text().splitlines()[0])  # noqa: ASYNC240 - a file of two lines
            await asyncio.sleep(0.05)
