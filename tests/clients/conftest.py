"""The packages of the clients, as `make clients` installed them, and node."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.corpus import as_input
from tests.support.pages import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def installed():
    """The folder of the packages. The scripts are copied there: node looks for packages beside a script."""
    folder = ROOT / os.environ.get("TTI_CLIENTS", "build/clients")
    if shutil.which("node") is None or not (folder / "node_modules").is_dir():
        pytest.fail("the clients' packages are not installed: run `make clients`")
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.fixture
def run(installed):
    """Run a script over cases, and return what it printed."""

    def run(script, cases, *arguments):
        answer = subprocess.run(  # noqa: S603 - our own script
            ["node", script, *arguments],  # noqa: S607 - as `make` finds npm
            cwd=installed,
            input=as_input(cases),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert answer.returncode == 0, answer.stderr[-2_000:]
        return json.loads(answer.stdout)

    return run
