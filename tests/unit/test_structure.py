"""The folders of the package: who may import whom, and how long a file may be."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "temporal_token_interceptor"
FILES = sorted(PACKAGE.rglob("*.py"))
CONTRACTS = [
    contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    if contract["type"] == "allowed_imports"
]
LONGEST = 350  # lines


def name_of(path):
    """A file's module, relative to the package; that of a folder for its `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def documented_folders():
    """The table of docs/design.md, section 2: folder, what it may import of ours, and of third parties."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text.partition("\n## 2. ")[2].partition("\n## 3. ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {
        folder.strip(" `"): (set(re.findall(r"`([\w.]+)`", ours)), set(re.findall(r"`([\w.]+)`", foreign)))
        for folder, _, ours, foreign in rows
    }


def lint_imports(directory):
    """What import-linter reports about the package in a directory."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    return subprocess.run(  # noqa: S603 - our own interpreter, our own words
        [*command, "--no-cache", "--no-logo"], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path):
    """The package, its contracts and their own contract type, to be changed at will."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "support").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "support" / "allowed_imports.py", tmp_path / "tests" / "support")
    return tmp_path


def test_the_package_keeps_its_contracts():
    """Every import of the package is allowed."""
    report = lint_imports(ROOT)

    assert report.returncode == 0, report.stdout + report.stderr
    assert " 0 broken" in report.stdout


def test_the_contracts_refuse_a_wrong_import(copy):
    """An import upward, sideways or of a third party that is not listed is named; so is a new folder."""
    planted = {
        "events/model.py": "from temporal_token_interceptor.reader import subscriber",
        "worker/session.py": "import redis",
        "reader/run_stream.py": "from temporal_token_interceptor.worker import session",
        "views/snapshot.py": "from temporal_token_interceptor import environment",
        "protocol/frames.py": "import requests",
        "protocol/cursor.py": "import time",
        "transport/base.py": "from temporal_token_interceptor import testing",
        "extra/__init__.py": "from temporal_token_interceptor import errors",
    }
    for file, line in planted.items():
        path = copy / PACKAGE.name / file
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")

    report = lint_imports(copy)

    assert report.returncode == 1, report.stdout + report.stderr
    for line in (
        "events.model -> reader.subscriber is not allowed",
        "worker.session -> redis is not allowed",
        "reader.run_stream -> worker.session is not allowed",
        "views.snapshot -> environment is not allowed",
        "protocol.frames -> requests is not allowed",
        "transport.base -> testing is not allowed",
        "temporal_token_interceptor.protocol.cursor -> time",
        "temporal_token_interceptor.extra",
        "Worker and reader are independent BROKEN",
        "Imports go one way: a folder imports only folders below it BROKEN",
        "Nothing imports testing BROKEN",
    ):
        assert line in report.stdout


def test_an_exception_that_is_not_needed_is_refused(copy):
    """A reason that no longer holds does not stay in pyproject.toml."""
    config = copy / "pyproject.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"views.model_call -> langchain_core",', '"views.model_call -> redis",'))

    report = lint_imports(copy)

    assert "views.model_call -> langchain_core is not allowed" in report.stdout
    assert "exception 'views.model_call -> redis' is not needed any more" in report.stdout


def test_the_documented_table_is_the_contracts():
    """docs/design.md says what import-linter holds, folder by folder."""
    held = {
        contract["folder"]: (set(contract.get("ours", ())), set(contract.get("third_party", ())))
        for contract in CONTRACTS
    }

    assert documented_folders() == held


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_a_documented_folder_and_a_length_to_read_in_one_sitting(path):
    """Whatever file it is: its folder has a row in the table, and it is no longer than 350 lines."""
    name = name_of(path)

    # `__init__` has the public names, `__main__` starts the terminal tool.
    assert name in {"__init__", "__main__"} or name.split(".")[0] in documented_folders()
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_opentelemetry_sdk_is_the_users():
    """We need OpenTelemetry's API alone: import-linter cannot look into an installed package."""
    importers = [
        name_of(path)
        for path in FILES
        if re.search(r"^\s*(from|import) opentelemetry\.sdk", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    assert importers == []
