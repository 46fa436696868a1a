"""The examples of web clients, as their readers run them: an attempt dies, and its text is taken back."""

import asyncio
import json
import re
import shutil

import pytest

from tests.support.pages import ROOT
from tests.support.processes import program

pytestmark = pytest.mark.timeout(120)

EXAMPLES = ROOT / "examples" / "web_clients"
# Under which name a package is installed here, beside other versions of it.
INSTALLED = {"from 'ai'": "from 'ai7'", "from '@ag-ui/client'": "from 'agui1'"}
CLIENTS = sorted(path.name for path in EXAMPLES.glob("*.mjs") if path.name != "terminal.mjs")


@pytest.fixture(scope="module")
async def url():
    """The gateway of the examples."""
    async with program("-m", "examples.web_clients", "0") as example:
        line = await example.line()
        [url] = re.findall(r"http://[\d.:]+", line)
        yield url


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_example_shows_the_answer(installed, url, name):
    """The last that it draws is the answer, once; what failed was drawn, and is not there."""
    folder = installed / "examples"
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "terminal.mjs", folder)
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for package, here in INSTALLED.items():
        text = text.replace(package, here)
    (folder / name).write_text(text, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        "node",
        f"examples/{name}",
        "When does the ferry leave? And die, once.",
        url,
        cwd=installed,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    drawn = [json.loads(line) for line in out.decode().splitlines()]

    assert process.returncode == 0, err.decode()
    assert drawn[-1].count("Three ferries are left today") == 1
    assert drawn[-1].endswith("minutes before.")
    assert "alr" not in drawn[-1]
    assert any("alr" in one for one in drawn) or name in {"langgraph.mjs", "openai.mjs"}
