"""The README's programs are run as they are printed, and its links lead somewhere."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.streams import unique

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


async def test_the_programs_of_the_readme_stream(tmp_path, client, redis_url):
    """I copy three files from the README, start the worker, run the viewer, and see tokens."""
    for name, program in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGES[0].read_text(), re.DOTALL):
        (tmp_path / name).write_text(program)
    address = client.service_client.config.target_host
    environment = os.environ | {
        "TEMPORAL_ADDRESS": address,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )

    worker = await start("worker.py")
    try:
        viewer = await start("viewer.py", unique("readme"))
        async with asyncio.timeout(30):
            printed, _ = await viewer.communicate()
    finally:
        worker.terminate()
        await worker.communicate()

    assert printed.decode() == "Durable and alive.\ncompleted\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    """Whoever follows a relative link arrives."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []
