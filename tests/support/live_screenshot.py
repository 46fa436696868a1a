"""Draws docs/assets/live-page.png: `python -m tests.support.live_screenshot`.

The page as `make demo-web` shows it, at the moment when the first attempt is taken back.
"""

import asyncio
import re
import tempfile
from pathlib import Path

from tests.support.chromium import Page, chromium
from tests.support.pages import ROOT
from tests.support.processes import program

PICTURE = ROOT / "docs" / "assets" / "live-page.png"
STRUCK = "document.querySelector('#conversation .gone')?.textContent.includes('Thurs')"
RUNNING = "document.querySelectorAll('#runs li:not(.completed) a')"
TEXT = "document.querySelector('#conversation').textContent"

AGAIN = "document.querySelector('#tree').textContent.includes('attempt 2')"


async def retried(page: Page) -> None:
    """Choose the run whose first attempt fails, before it does."""
    while True:
        for place in range(await page.evaluate(f"{RUNNING}.length")):
            await page.evaluate(f"{RUNNING}[{place}]?.click()")
            await page.until(f"{TEXT}.includes('me')")
            if await page.evaluate(f"{TEXT}.includes('see how far') && !{AGAIN}"):
                return
        await asyncio.sleep(0.1)


async def struck(page: Page) -> bool:
    """Choose that run; return whether the page was seen while it took text back, which is a short moment."""
    await retried(page)
    while not (is_struck := await page.evaluate(STRUCK)):
        if await page.evaluate(AGAIN):
            return False
    return bool(is_struck)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with program("-m", "examples.demo", "--web") as demo, chromium(Path(folder)) as page:
            while not (found := re.search(r"http://\S+/live", await demo.line())):
                pass
            await page.resize(1100, 640)
            await page.emulate(scheme="light", motion="reduce")
            await page.open(found[0])
            while not await struck(page):
                pass
            await page.screenshot(PICTURE)


if __name__ == "__main__":
    asyncio.run(main())
