"""The tests of a package, from its source package in the registry: fetched when they are run."""

import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

from tests.peers.suites import Suite

FOLDER = Path(__file__).parents[2] / ".peers"
"""Where they are unpacked; git ignores it, and so do our own checks."""


def unpacked(suite: Suite) -> Path:
    """Return the folder of a suite, with its tests and its settings, of the version that is installed."""
    version = metadata.version(suite.package)
    name = f"{suite.package.replace('-', '_')}-{version}"
    folder, archive = FOLDER / name, FOLDER / f"{name}.tar.gz"
    if not archive.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        fetch = (
            "download --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-binary :all:"
        )
        command = [
            sys.executable,
            "-m",
            "pip",
            *fetch.split(),
            f"--dest={FOLDER}",
            f"{suite.package}=={version}",
        ]
        subprocess.run(command, check=True)  # noqa: S603 - pip, with names of our own
    with tarfile.open(archive) as tar:
        members = [
            member
            for member in tar.getmembers()
            if member.name.startswith((f"{name}/tests/", f"{name}/pyproject.toml"))
        ]
        tar.extractall(FOLDER, members=members, filter="data")
    return folder
